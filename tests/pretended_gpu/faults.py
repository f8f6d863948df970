"""Planted faults, and what is none: each is a function of `gpu`, called in the process that has one."""

import io
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F

HERE = "tests/pretended_gpu/faults.py"


def pair():
    """The same numbers (2, 3) on the GPU and on the CPU."""
    there = torch.arange(6.0).view(2, 3)
    return there.to("gpu"), there


def half_layer_norm():
    x = pair()[0].half()
    return F.layer_norm(x, (3,), weight=torch.ones(3, device="gpu"))


def float_and_half():
    x = pair()[0]
    return x.lerp(x.half(), 0.5)


def written_on_the_cpu():
    total = torch.tensor(0.0)
    total += pair()[0].sum()


FAULTS = {  # what CUDA refuses -> (how, the error)
    "two devices": (lambda: pair()[0] + pair()[1], "same device"),
    "two devices in a product": (lambda: pair()[0] @ pair()[1].t(), "same device"),
    "two devices in a concatenation": (lambda: torch.cat(pair()), "same device"),
    "a tensor on the CPU times a number on the GPU": (lambda: pair()[1] * pair()[0].sum(), "same device"),
    "a number on the CPU in a stack": (lambda: torch.stack([pair()[0].sum(), torch.tensor(1.0)]), "same device"),
    "a number on the CPU in a scatter": (lambda: pair()[0].index_fill(0, torch.tensor(0), 1.0), "same device"),
    "a result written on the CPU": (written_on_the_cpu, "same device"),
    "a module left on the CPU": (lambda: torch.nn.Linear(3, 2)(pair()[0]), "same device"),
    "labels left on the CPU": (lambda: F.cross_entropy(pair()[0], torch.tensor([0, 1])), "same device"),
    "places on the GPU in a tensor on the CPU": (lambda: pair()[1][torch.zeros(1, dtype=torch.long, device="gpu")], "indices should be either on cpu"),
    "values on the CPU put into the GPU": (lambda: pair()[0].__setitem__(torch.tensor([0]), pair()[1][:1]), "same device"),
    "places that are numbers": (lambda: torch.ops.aten.index(pair()[0], [pair()[1][:, 0]]), "must be long, int, byte or bool"),
    "a generator of the CPU": (lambda: torch.randperm(3, generator=torch.Generator(), device="gpu"), "device type for generator"),
    "a generator of the CPU that fills": (lambda: pair()[0].normal_(generator=torch.Generator()), "device type for generator"),
    "numpy": (lambda: pair()[0].numpy(), "convert cuda:0 device type tensor to numpy"),
    "numpy's own": (lambda: np.asarray(pair()[0]), "convert cuda:0 device type tensor to numpy"),
    "pinned memory of the GPU": (lambda: pair()[0].pin_memory(), "only dense CPU tensors can be pinned"),
    "a layer norm of two types": (half_layer_norm, "expected scalar type Half but found Float"),
    "a half and a float": (float_and_half, "expected dtype"),
    "a device that is not visible": (lambda: torch.cuda.get_rng_state(1), "list index out of range"),
}  # fmt: skip


def fault(gpu, name: str) -> None:
    provoke, says = FAULTS[name]
    with pytest.raises((RuntimeError, TypeError, IndexError), match=says):
        provoke()


def not_deterministic(gpu) -> None:
    """The gradient of a bilinear reading, where only deterministic operations are asked for."""
    x, grid = torch.ones(1, 1, 2, 2, device="gpu", requires_grad=True), torch.zeros(1, 2, 2, 2, device="gpu")
    F.grid_sample(x, grid, align_corners=False).sum().backward()
    torch.use_deterministic_algorithms(True)
    try:
        F.grid_sample(x, grid, align_corners=False).sum().backward()
        with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
            x + 1  # the first operation after a backward pass says what was refused in it
    finally:
        torch.use_deterministic_algorithms(False)


def allowed(gpu) -> None:
    """What CUDA takes: numbers of the CPU in pointwise operations, its places, copies; and a run learns as on the CPU."""
    x, there = pair()
    assert x.device == gpu.device and x.is_cpu is False
    for value in (x * torch.tensor(2.0), x.clamp_min(0), x.masked_fill(x > 3, torch.tensor(0.0)), x[torch.tensor([1])]):
        assert value.device == gpu.device
    assert torch.equal(torch.where(x > 1, x, torch.tensor(0.0)).cpu(), there.where(there > 1, torch.tensor(0.0)))
    there.copy_(x)
    x[x > 4] = 0.0
    assert x.tolist() == [[0, 1, 2], [3, 4, 0]] and x.sum().item() == 10
    assert x.t().contiguous().shape == (3, 2) and torch.tensor([1], device="gpu").device == gpu.device


def learned(device: str) -> list[torch.Tensor]:
    """A few steps of a small network; what it has learned, on the CPU."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2)).to(device)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    images, labels = torch.arange(6.0).view(2, 3).to(device), torch.tensor([0, 1], device=device)
    for _ in range(3):
        optimiser.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        optimiser.step()
    return [p.detach().cpu() for p in net.parameters()]


def learns_as_on_the_cpu(gpu) -> None:
    """All parameters at once, as on CUDA."""
    with gpu.watched() as seen:
        learned("gpu")
    assert seen.operations["aten::_foreach_add_"] > 0
    for ours, theirs in zip(learned("gpu"), learned("cpu"), strict=True):
        torch.testing.assert_close(ours, theirs)


def its_own_random_numbers(gpu) -> None:
    """Drawing on the GPU leaves the CPU's generator alone, and the other way round; a seed is for both."""
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = torch.randn(4, device="gpu").cpu()
    assert torch.equal(torch.get_rng_state(), before)
    state = torch.cuda.get_rng_state()
    torch.randn(4)
    assert torch.equal(torch.cuda.get_rng_state(), state)
    torch.manual_seed(3)
    assert torch.equal(torch.randn(4, device="gpu").cpu(), first)
    torch.cuda.set_rng_state(state)
    second = torch.randn(4, device="gpu").cpu()
    assert not torch.equal(first, second)


def saved_as_from_a_gpu(gpu) -> None:
    """The file says where its tensors were, and another machine reads it on its CPU."""
    file = io.BytesIO()
    torch.save({"x": pair()[0]}, file)
    assert b"cuda:0" in file.getvalue()
    read = torch.load(io.BytesIO(file.getvalue()), weights_only=True, map_location="cpu")
    assert torch.equal(read["x"], pair()[1])


# --- waiting -----------------------------------------------------------------------------------------------------


def mask_of(x):
    return x > 2


def fill(x, value):
    x[mask_of(x)] = value


WAITS = {  # what the host does -> why it waits for it, or None
    "item": (lambda x: x.sum().item(), "item"),
    "a condition": (lambda x: bool((x > 1).all()), "item"),
    "a number": (lambda x: float(x.sum()) + int(x.sum()), "item"),
    "tolist": (lambda x: x.tolist(), "copy to the CPU"),
    "a copy to the CPU": (lambda x: x.cpu(), "copy to the CPU"),
    "a copy into the CPU": (lambda x: torch.empty(2, 3).copy_(x), "copy to the CPU"),
    "a copy to the CPU that does not block": (lambda x: x.to("cpu", non_blocking=True), None),
    "a copy to the GPU": (lambda x: torch.ones(3).to("gpu"), "copy to the GPU"),
    "a tensor of numbers": (lambda x: torch.tensor([1, 2], device="gpu"), "copy to the GPU"),
    "a copy of pinned memory": (lambda x: torch.ones(3).pin_memory().to("gpu"), "copy to the GPU"),
    "a copy of pinned memory that does not block": (lambda x: torch.ones(3).pin_memory().to("gpu", non_blocking=True), None),
    "a copy of other memory, blocking or not": (lambda x: torch.ones(3).to("gpu", non_blocking=True), "copy to the GPU"),
    "nonzero": (lambda x: x.nonzero(), "nonzero"),
    "a mask": (lambda x: x[mask_of(x)], "nonzero"),
    "values put in by a mask": (lambda x: fill(x, x[:1, 0]), "nonzero"),
    "a number put in by a mask": (lambda x: fill(x, 0.0), None),
    "a mask on the CPU": (lambda x: x[torch.tensor([True, False])], "nonzero"),
    "places on the CPU": (lambda x: x[torch.tensor([1])], "copy to the GPU"),
    "places on the GPU": (lambda x: x[x[0].argsort()[:1]], None),
    "a masked selection": (lambda x: x.masked_select(mask_of(x)), "nonzero"),
    "unique": (lambda x: x.unique(), "unique"),
    "bincount": (lambda x: x[0].long().bincount(), "bincount"),
    "equal": (lambda x: torch.equal(x, x), "equal"),
    "repeats": (lambda x: x[0].repeat_interleave(x[0].long()), "repeat_interleave"),
    "repeats of known number": (lambda x: x[0].repeat_interleave(x[0].long(), output_size=3), None),
    "a solution": (lambda x: torch.linalg.solve(x[:, :2] + 1, x), "linalg"),
    "synchronize": (lambda x: torch.cuda.synchronize(), "synchronize"),
    "arithmetic": (lambda x: (x @ x.t()).softmax(dim=1).argmax(dim=1), None),
    "a number of the CPU": (lambda x: x * torch.tensor(2.0) + 1, None),
}  # fmt: skip


def waits(gpu, name: str) -> None:
    act, kind = WAITS[name]
    x = pair()[0]
    with gpu.watched() as seen:
        act(x)
    assert {why for why, _ in seen.waits} == ({kind} if kind else set()), seen.shown()
    assert all(place.startswith(HERE) for _, place in seen.waits)


def waits_are_counted_where_they_are(gpu) -> None:
    x = pair()[0]
    with gpu.watched() as seen:
        for _ in range(3):
            x.sum().item()
    line = waits_are_counted_where_they_are.__code__.co_firstlineno + 4
    assert seen.waits == {("item", f"{HERE}:{line}"): 3} and seen.operations["aten::sum"] == 3
    assert seen.shown() == f"3 x item in {HERE}:{line}"


def copies_arrive_when_they_are_waited_for(gpu) -> None:
    """Until then there is garbage; an event is waited for with all that came before it, and nothing after it."""
    x, there = pair()
    early = x.to("cpu", non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    late = (x + 1).to("cpu", non_blocking=True)
    assert early.isnan().all() and late.isnan().all()
    x.zero_()  # which comes after the copy
    event.synchronize()
    assert torch.equal(early, there) and late.isnan().all()
    x.sum().item()
    assert torch.equal(late, there + 1)


# --- mixed precision ------------------------------------------------------------------------------------------------


def autocast_types(gpu) -> None:
    """Products in fp16, sums and norms in fp32, all else as it comes, as CUDA's lists have it."""
    x = pair()[0]
    layer = torch.nn.Linear(3, 4).to("gpu")
    with torch.autocast("gpu"):
        y = layer(x)
        found = {
            "linear": y, "matmul": x @ x.t(), "einsum": torch.einsum("ab,cb->ac", x, x), "softmax": y.softmax(dim=-1),
            "sum": y.sum(), "norm": y.norm(dim=-1), "exp": y.exp(), "add": y + y,
            "layer_norm": F.layer_norm(y, (4,)), "cross_entropy": F.cross_entropy(y, torch.zeros(2, dtype=torch.long, device="gpu")),
        }  # fmt: skip
        with torch.autocast("gpu", enabled=False):
            found["outside"] = x @ x.t()
        with pytest.raises(RuntimeError, match="expected dtype"):
            torch.lerp(y, y.float(), 0.5)
    half = {name for name, value in found.items() if value.dtype == torch.float16}
    assert half == {"linear", "matmul", "einsum", "add"}
    found["cross_entropy"].backward()
    assert layer.weight.grad.dtype == torch.float32


def the_lists_are_whole(gpu) -> None:
    """Of each list operations that this project uses, so that a header that reads otherwise is noticed."""
    from tests.pretended_gpu.autocast import REGISTERED

    expected = {"linear": "lower", "matmul": "lower", "conv2d": "lower", "layer_norm": "fp32", "exp": "fp32", "softmax.int": "fp32 result", "sum.dim_IntList": "fp32 result", "grid_sampler": "promote"}  # fmt: skip
    assert expected.items() <= REGISTERED.items() and len(REGISTERED) > 70


def scaled_steps(gpu) -> None:
    """GradScaler takes back what it multiplied, and passes over a step whose gradients are infinite."""
    weight = torch.ones(3, device="gpu", requires_grad=True)
    optimiser, scaler = torch.optim.SGD([weight], lr=1.0), torch.amp.GradScaler("gpu", init_scale=4.0)
    for factor, expected in ((0.25, 0.75), (torch.inf, 0.75)):
        optimiser.zero_grad()
        scaler.scale((weight * factor).sum()).backward()
        scaler.step(optimiser)
        scaler.update()
        assert weight.tolist() == [expected] * 3
    assert scaler.get_scale() == 2.0


# --- the process ------------------------------------------------------------------------------------------------------


def raises(gpu) -> None:
    print("this was printed before")
    raise ValueError("this went wrong")


def dies(gpu) -> None:
    os.write(2, b"its last words\n")
    os._exit(3)


def doubled(gpu, number: int) -> int:
    return 2 * number
