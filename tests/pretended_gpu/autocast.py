"""CUDA's autocast on the pretended GPU: the lists of operations are those that PyTorch was built with, in its headers."""

import re
from pathlib import Path

import torch
from torch.utils._pytree import tree_leaves, tree_map

from .tensors import NAME

KEY = torch._C.DispatchKey.AutocastPrivateUse1
HEADER = Path(torch.__file__).parent / "include/ATen/autocast_mode.h"
LISTS = {  # macro of the header -> what is done to the arguments
    "AT_FORALL_LOWER_PRECISION_FP": "lower",
    "AT_FORALL_FP32": "fp32",
    "AT_FORALL_FP32_SET_OPT_DTYPE": "fp32 result",
    "AT_FORALL_PROMOTE": "promote",
}
NORMS = ("norm.Scalar", "norm.ScalarOpt_dim", "norm.names_Scalar", "norm.names_ScalarOpt_dim")  # in a list of their own


def operations(macro: str) -> list[str]:
    """The names in one of the header's lists, with their overloads: `pow.Tensor_Scalar`."""
    body = re.search(rf"#define {macro}\(_\)(.*?)\n\n", HEADER.read_text(), re.DOTALL)
    if body is None:
        return []
    entries = re.findall(r"_\(([a-z_0-9, A-Z]+)\)", body[1].replace("\\", "").replace("\n", " "))
    return [".".join(part.strip() for part in entry.split(",")) for entry in entries]


def overload_of(name: str):
    """The operation, or None: some in the lists are PyTorch's own, and cannot be called from Python."""
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)


def cast(values, dtype: torch.dtype):
    """All tensors of floats on the GPU in another type; doubles stay doubles."""

    def one(x):
        eligible = isinstance(x, torch.Tensor) and x.device.type == NAME and x.is_floating_point()
        return x.to(dtype) if eligible and x.dtype not in (dtype, torch.float64) else x

    return tree_map(one, values)


def with_fp32_result(op, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """`dtype` fp32, unless the caller says another."""
    place = [argument.name for argument in op._schema.arguments].index("dtype")
    said = args[place] if len(args) > place else kwargs.get("dtype")
    if said is not None or not args[0].is_floating_point():
        return args, kwargs
    return args[:place], {**kwargs, "dtype": torch.float32}


def kernel_of(op, kind: str):
    def kernel(*args, **kwargs):
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(KEY)):
            if kind == "lower":
                args, kwargs = cast((args, kwargs), torch.get_autocast_dtype(NAME))
            elif kind == "fp32":
                args, kwargs = cast((args, kwargs), torch.float32)
            elif kind == "fp32 result":
                args, kwargs = with_fp32_result(op, args, kwargs)
            elif any(isinstance(x, torch.Tensor) and x.dtype == torch.float32 for x in tree_leaves((args, kwargs))):
                args, kwargs = cast((args, kwargs), torch.float32)
            return op(*args, **kwargs)

    return kernel


def register() -> dict[str, str]:
    """Kernels for all of them; name -> kind."""
    kinds = {name: kind for macro, kind in LISTS.items() for name in operations(macro)}
    kinds |= dict.fromkeys(NORMS, "fp32")
    return {
        name: kind
        for name, kind in kinds.items()
        if (op := overload_of(name)) is not None and LIBRARY.impl(op, kernel_of(op, kind), KEY.name) is None
    }


FALLBACK = torch.library.Library("_", "IMPL")  # all other operations take what they are given
FALLBACK.fallback(torch.library.fallthrough_kernel, KEY.name)
LIBRARY = torch.library.Library("aten", "IMPL")
REGISTERED = register()
