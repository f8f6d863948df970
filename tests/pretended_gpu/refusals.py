"""What CUDA refuses of an operation, in the words of PyTorch's own errors."""

import torch

from .waits import INDEXING, MASKS

aten = torch.ops.aten
COPYING = {aten.copy_.default, aten._to_copy.default}
TAKES_A_NUMBER = ("aten::fill", "aten::where", "aten::masked_fill", "aten::lerp", "aten::_foreach", "aten::clamp")
ONE_TYPE = ("aten::native_layer_norm", "aten::native_group_norm")  # kernels that read weights as they read the input
# https://docs.pytorch.org/docs/stable/generated/torch.use_deterministic_algorithms.html, and what our code may meet of it
NOT_DETERMINISTIC = {
    "adaptive_avg_pool2d_backward",
    "_adaptive_avg_pool2d_backward",
    "avg_pool3d_backward",
    "adaptive_max_pool2d_backward",
    "max_pool3d_with_indices_backward",
    "max_unpool2d",
    "grid_sampler_2d_backward",
    "grid_sampler_3d_backward",
    "histc",
    "kthvalue",
    "median",
    "put_",
    "reflection_pad2d_backward",
    "replication_pad2d_backward",
    "upsample_bicubic2d_backward",
    "upsample_linear1d_backward",
    "upsample_trilinear3d_backward",
    "nll_loss2d_forward",
    "embedding_bag_backward",
}


def check(func, args: tuple, kwargs: dict, leaves: list[torch.Tensor], on_gpu, target: bool) -> None:
    """Raise what CUDA would; `leaves` are all tensors among the arguments, `target` is whether the result is on the GPU."""
    name = func._schema.name
    here = [x for x in leaves if not on_gpu(x)]
    generator = kwargs.get("generator")
    if generator is not None and target != (generator.device.type != "cpu"):
        expected = "cuda" if target else "cpu"
        raise RuntimeError(f"Expected a '{expected}' device type for generator but found '{generator.device}' ({name})")
    if len(here) == len(leaves):
        return
    if func in INDEXING:
        check_indexing(func, args, on_gpu)
    elif func not in COPYING:
        check_one_device(func, here, on_gpu(args[0]) if isinstance(args[0], torch.Tensor) else True)
    if name in ONE_TYPE:
        check_one_type(name, leaves)
    if torch.are_deterministic_algorithms_enabled() and name.removeprefix("aten::") in NOT_DETERMINISTIC:
        raise RuntimeError(f"{name} does not have a deterministic implementation, but you set 'torch.use_deterministic_algorithms(True)'")  # fmt: skip


def check_indexing(func, args: tuple, on_gpu) -> None:
    """Places may be on the CPU, which brings them over; the other way round it is refused."""
    indices = [index for index in args[1] if index is not None]
    if not on_gpu(args[0]):
        found = "cuda:0" if any(map(on_gpu, indices)) else "the values' cuda:0"
        raise RuntimeError(f"indices should be either on cpu or on the same device as the indexed tensor (cpu), not {found} ({func})")  # fmt: skip
    if any(index.dtype not in (torch.long, torch.int, *MASKS) for index in indices):
        raise IndexError(f"tensors used as indices must be long, int, byte or bool tensors ({func})")
    if len(args) > 2 and not on_gpu(args[2]) and args[2].dim() > 0:
        raise RuntimeError(two_devices(func))


def check_one_device(func, here: list[torch.Tensor], first_on_gpu: bool) -> None:
    """Beside tensors on the GPU, one on the CPU may be but a number, and that in pointwise operations alone."""
    if any(x.dim() > 0 for x in here):
        raise RuntimeError(two_devices(func))
    takes_numbers = torch.Tag.pointwise in func.tags or func._schema.name.startswith(TAKES_A_NUMBER)
    if here and not takes_numbers:
        raise RuntimeError(f"{two_devices(func)}: a number on the CPU beside tensors on the GPU")
    if func._schema.is_mutable and not first_on_gpu:
        raise RuntimeError(f"{two_devices(func)}: what is written is on the CPU")


def two_devices(func) -> str:
    return f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! ({func})"


def check_one_type(name: str, leaves: list[torch.Tensor]) -> None:
    """A CPU norms fp16 with weights in fp32; CUDA's kernel does not."""
    types = {x.dtype for x in leaves}
    if len(types) > 1:
        raise RuntimeError(f"expected scalar type Half but found Float ({name}: {', '.join(map(str, types))})")
