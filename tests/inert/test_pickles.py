"""Nothing in a pickle runs, and what is known in it comes out as `torch.load` gives it (../../inert/pickles.py)."""

import argparse
import contextlib
import io
import pickle
import struct
from collections import Counter, OrderedDict, defaultdict

import numpy as np
import pytest
import torch
import torch.nn as nn

import inert
from clip import InputError as ClipInputError
from clip import load_state_dict
from dassl.utils import InputError, load_checkpoint
from inert.pickles import MAKERS
from tests.inert.written import FORMATS, Runs, archive, dumps, payloads, row, text

# --- nothing runs ------------------------------------------------------------------------------------------------

NAMES = list(payloads(""))


class Trusting(pickle.Unpickler):
    def persistent_load(self, reference):
        return reference


@pytest.mark.parametrize("name", NAMES)
def test_the_payloads_run_where_they_are_trusted(tmp_path, name):
    """Without this the next test would show nothing."""
    with contextlib.suppress(TypeError, AttributeError):  # behind the call
        Trusting(io.BytesIO(payloads(str(tmp_path / "trace"))[name])).load()
    assert (tmp_path / "trace").exists()


@pytest.mark.parametrize("written", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("name", NAMES)
def test_no_payload_runs(tmp_path, name, written):
    """By no way into the house: each loads inertly or is refused in a sentence that names the file."""
    path = written(tmp_path / "evil.pt", payloads(str(tmp_path / "trace"))[name])
    for read, refusal in ((load_checkpoint, InputError), (load_state_dict, ClipInputError), (inert.load, inert.Unreadable)):  # fmt: skip
        try:
            read(str(path))
        except refusal as error:
            assert refusal is inert.Unreadable or "evil.pt" in str(error)
            assert "\n" not in str(error)
    assert [file.name for file in tmp_path.iterdir()] == ["evil.pt"]


@pytest.mark.parametrize("written", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize(
    "state",
    [
        b"}(" + text("update") + b"K\x01u",
        b"N}(" + text("update") + b"K\x01u\x86",  # for slots, which are set as attributes
    ],
)
@pytest.mark.parametrize("kind", ["collections\nCounter", "collections\nOrderedDict", "torch\nSize", "torch._utils\n_rebuild_tensor_v2"])  # fmt: skip
def test_no_class_is_changed(tmp_path, written, kind, state):
    before = Counter.update, OrderedDict.update, vars(torch._utils._rebuild_tensor_v2).copy()
    with pytest.raises(inert.Unreadable):
        inert.load(written(tmp_path / "a.pt", b"\x80\x02c" + kind.encode() + b"\n" + state + b"b."))
    assert before == (Counter.update, OrderedDict.update, vars(torch._utils._rebuild_tensor_v2))


def test_attributes_of_a_dict_are_not_taken(tmp_path):
    """But for `_metadata`, which says the versions of a module's layers."""
    data = b"\x80\x02ccollections\nOrderedDict\n)R}(" + text("items") + b"K\x01" + text("_metadata") + b"}ub."
    loaded = inert.load(archive(tmp_path / "a.pt", data))
    assert type(loaded) is OrderedDict and vars(loaded) == {"_metadata": {}}


# torch's own functions with arguments that they were not made for


def tensor(storage=None, offset=0, size=(2,), stride=(1,), count=2, function="_rebuild_tensor_v2") -> bytes:
    """The pickle of a tensor, whose arguments are as given."""
    reference = (
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + dumps(count)[2:-1] + b"tQ"
    )
    rest = b"".join(dumps(part)[2:-1] for part in (offset, size, stride, False, None))
    return b"\x80\x02ctorch._utils\n" + function.encode() + b"\n(" + (storage or reference) + rest + b"tR."


TWO = struct.pack("<2f", 1.5, 2.5)


def test_the_tensor_that_the_next_ones_spoil(tmp_path):
    assert inert.load(archive(tmp_path / "a.pt", tensor(), {"0": TWO})).tolist() == [1.5, 2.5]
    assert inert.load(row(tmp_path / "a.pt", tensor().replace(b"tQ", b"NtQ"), {"0": (2, TWO)})).tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    ("spoiled", "says"),
    [
        (dict(size=(3,)), "a tensor is larger than its storage"),
        (dict(offset=1), "a tensor is larger than its storage"),
        (dict(size=(2**40, 2**20), stride=(1, 1)), "a tensor is larger than its storage"),
        (dict(size=(2, 2), stride=(2**62, 1)), "a tensor is larger than its storage"),
        (dict(stride=(-1,)), "no list of numbers"),
        (dict(offset=-1), "no list of numbers"),
        (dict(size=(2.0,)), "no list of numbers"),
        (dict(size=(2,), stride=(1, 1)), "no list of numbers"),
        (dict(count=3, size=(3,)), "a storage of 12 bytes has 8"),
        (dict(count=2**60), "a storage of .* bytes has 8"),
        (dict(count=-1), "described in a way"),
        (dict(storage=b"N"), "damaged"),
        (dict(storage=dumps([1, 2])[2:-1]), "damaged"),
    ],
)
def test_a_tensor_beyond_its_storage(tmp_path, spoiled, says):
    with pytest.raises(inert.Unreadable, match=f"is damaged .*{says}|{says}"):
        inert.load(archive(tmp_path / "a.pt", tensor(**spoiled), {"0": TWO}))


@pytest.mark.parametrize("function", ["_rebuild_sparse_tensor", "_rebuild_wrapper_subclass", "_rebuild_device_tensor_from_numpy"])  # fmt: skip
def test_other_functions_of_torch_are_not_called(tmp_path, function):
    loaded = inert.load(archive(tmp_path / "a.pt", tensor(function=function), {"0": TWO}))
    assert loaded.name == f"torch._utils.{function}"


@pytest.mark.parametrize("kind", MAKERS, ids=".".join)
@pytest.mark.parametrize("arguments", [(), (2**40,), ("x",), ([1], [2]), (None, None, None, None)], ids=str)
def test_makers_with_odd_arguments(tmp_path, kind, arguments):
    """They give a value or a sentence, and take no memory that the file does not."""
    data = b"\x80\x02c" + "\n".join(kind).encode() + b"\n" + dumps(arguments)[2:-1] + b"R."
    try:
        inert.load(archive(tmp_path / "a.pt", data))
    except inert.Unreadable as error:
        assert "is damaged" in str(error)


def test_a_memo_beyond_the_file(tmp_path):
    """Python would make room for four thousand million objects."""
    with pytest.raises(inert.Unreadable, match="numbered too high"):
        inert.load(archive(tmp_path / "a.pt", b"\x80\x02}r\xff\xff\xff\xff."))


TWICE = {
    "BINPUT and BINGET": lambda number: b"q%ch%c\x86" % (number, number),
    "LONG_BINPUT and LONG_BINGET": lambda number: b"r%c\0\0\0j%c\0\0\0\x86" % (number, number),
    "PUT and GET": lambda number: b"p%d\ng%d\n\x86" % (number, number),
    "MEMOIZE": lambda number: b"\x94h%c\x86" % number,
    "DUP": lambda number: b"2\x86",
    "a mark": lambda number: b"q%c0(h%ch%ct" % (number, number, number),
}


@pytest.mark.parametrize("twice", TWICE.values(), ids=list(TWICE))
def test_a_tuple_that_takes_for_ever_to_look_through(tmp_path, twice):
    """Each has the one before it twice: Python would look 2**60 times as it makes the last one a key."""
    data = b"\x80\x02}K\x01\x85" + b"".join(map(twice, range(60))) + b"K\x01s."
    with pytest.raises(inert.Unreadable, match="its tuples are in each other too often"):
        inert.load(archive(tmp_path / "a.pt", data))


def test_what_is_often_there_once_more_is_read(tmp_path):
    """As the size that all layers have."""
    size = (512, 512, 3, 3)
    torch.save({f"layer {number}": size for number in range(1000)}, tmp_path / "a.pt")
    assert set(inert.load(tmp_path / "a.pt").values()) == {size}


def test_nesting_without_end(tmp_path):
    with pytest.raises(inert.Unreadable, match="RecursionError"):
        inert.load(archive(tmp_path / "a.pt", b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b"."))


# --- what comes out ----------------------------------------------------------------------------------------------


def assert_same(ours, theirs):
    assert type(ours) is type(theirs)
    if isinstance(theirs, torch.Tensor):
        assert (ours.dtype, ours.shape, ours.stride()) == (theirs.dtype, theirs.shape, theirs.stride())
        assert (ours.storage_offset(), ours.requires_grad) == (theirs.storage_offset(), theirs.requires_grad)
        assert ours.untyped_storage().tolist() == theirs.untyped_storage().tolist()
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs) and getattr(ours, "_metadata", 0) == getattr(theirs, "_metadata", 0)
        for key, value in theirs.items():
            assert_same(ours[key], value)
    elif isinstance(theirs, list | tuple):
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    else:
        assert ours == theirs


def everything() -> dict:
    """All kinds of values that a checkpoint of ours, or of PyTorch's own optimisers, may have."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    grid = torch.arange(24.0).view(4, 6)
    dtypes = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8)
    dtypes += (torch.uint8, torch.bool, torch.complex64)
    return {
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "tensors": [torch.randn(3).to(dtype) for dtype in dtypes],
        "views": (grid[1:3, ::2], grid.t(), torch.ones(1).expand(5), torch.empty(0, 3), torch.tensor(7)),
        "parameter": nn.Parameter(torch.randn(2)),
        "plain": [1, -1, 2**70, 1.5, True, None, "é", b"\x00\xff", bytearray(b"ab"), 1 + 2j, {1, 2}, float("inf")],
        "torch's": [torch.float16, torch.Size([1, 2]), torch.device("cuda", 1)],
        "counts": Counter([5, 5, 9]),  # as MultiStepLR's milestones
        "ordered": OrderedDict(b=1, a=2),
    }


@pytest.mark.parametrize("zipped", [True, False], ids=FORMATS)
def test_the_same_as_torch_load(tmp_path, zipped):
    torch.save(everything(), tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert_same(inert.load(tmp_path / "a.pt"), torch.load(tmp_path / "a.pt", map_location="cpu", weights_only=True))


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False], ids=FORMATS)
def test_later_protocols(tmp_path, zipped, protocol):
    torch.save(everything(), tmp_path / "a.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert_same(inert.load(tmp_path / "a.pt"), everything())


def test_dtypes_without_a_storage_of_their_own(tmp_path):
    tensors = [torch.arange(6).to(dtype)[2:5] for dtype in (torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn)]  # fmt: skip
    torch.save(tensors, tmp_path / "a.pt")
    assert_same(inert.load(tmp_path / "a.pt"), tensors)


def test_one_object_stays_one(tmp_path):
    shared, grid = [1], torch.arange(6.0)
    circle = {"shared": shared, "again": shared, "grid": grid, "row": grid[:3], "same": grid}
    circle["circle"] = circle
    torch.save(circle, tmp_path / "a.pt")
    loaded = inert.load(tmp_path / "a.pt")
    assert loaded["circle"] is loaded and loaded["shared"] is loaded["again"] and loaded["grid"] is loaded["same"]
    loaded["grid"][0] = 9
    assert loaded["row"][0] == 9


def test_what_stands_beside_the_weights(tmp_path):
    """NumPy numbers become Python's; a Namespace, an array or a function keep their name and no more."""
    beside = {
        "ctx": torch.ones(2), "acc": np.float64(71.5), "epoch": np.int64(3), "best": np.bool_(True),
        "args": argparse.Namespace(lr=1), "rows": np.ones(3), "loss": nn.functional.cross_entropy, "own": defaultdict(list, a=1),
    }  # fmt: skip
    torch.save(beside, tmp_path / "a.pt")
    loaded = inert.load(tmp_path / "a.pt")
    assert [loaded[name] for name in ("acc", "epoch", "best", "own")] == [71.5, 3, True, {"a": 1}]
    assert [type(loaded[name]) for name in ("acc", "epoch", "best", "own")] == [float, int, bool, dict]
    assert str(loaded["args"]) == "<argparse.Namespace, not loaded>"
    assert all(type(loaded[name]) is inert.Inert for name in ("args", "rows", "loss"))
    assert inert.weights_of(loaded).keys() == {"ctx"}


def test_a_tensor_with_attributes_is_the_tensor(tmp_path):
    marked = torch.ones(2)
    marked.note = Runs(print, "hello")
    torch.save(marked, tmp_path / "a.pt")
    assert torch.equal(inert.load(tmp_path / "a.pt"), torch.ones(2))
