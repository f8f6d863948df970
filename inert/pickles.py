"""A pickle as data, in two steps.

`RecordUnpickler` notes what a pickle says of an object in a `Record`: a class or function, arguments, state, items. It
looks no name up and calls nothing but `Record`. `Values` then makes the kinds that are known here, which are tensors and
plain values (`MAKERS`); anything else becomes an `Inert`, which keeps its name and no more.
"""

import pickle
import pickletools
import re
from collections import Counter, OrderedDict

import numpy as np
import torch
from torch import Tensor

DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
STORED_DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128, "ComplexFloatStorage": torch.complex64, "UntypedStorage": torch.uint8,
}  # fmt: skip
PLAIN = {str, int, float, bool, type(None), bytes, bytearray, complex}
PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class Inert:
    """What stands where a file has an object of a kind that is not loaded: its name, for messages."""

    __slots__ = ("name",)

    def __init__(self, module: str, name: str):
        self.name = re.sub(r"[^\w.]", "?", f"{module}.{name}")[:100]

    def __repr__(self):
        return f"<{self.name}, not loaded>"


# --- the first step: what a pickle says -------------------------------------------------------------------------


class Record:
    """One object as a pickle describes it. Each class or function that a pickle names is a subclass of its own."""

    kind = ("", "")  # module and name

    def __new__(cls, *arguments, **keywords):
        self = super().__new__(cls)
        self.arguments, self.state, self.items = arguments, None, []
        return self

    def __setstate__(self, state):
        self.state = state

    def __setitem__(self, key, value):
        self.items.append((key, value))

    def append(self, item):
        self.items.append(item)

    def extend(self, items):
        self.items.extend(items)

    add = append


class Stored:
    """A reference to numbers that stand outside the pickle."""

    def __init__(self, reference):
        self.reference = reference

    def parts(self) -> tuple[str, torch.dtype, int]:
        """The storage's name in the file, its dtype and how many numbers it has."""
        word, kind, name, _, count, *view = self.reference
        if word != "storage" or type(name) is not str or type(count) is not int or count < 0 or any(view):
            raise pickle.UnpicklingError("a storage is described in a way that torch.save has not")
        return name, STORED_DTYPES[kind.kind[1]], count


class RecordUnpickler(pickle.Unpickler):
    def __init__(self, file):
        super().__init__(file, encoding="latin1")  # only texts of Python 2 are not UTF-8 already
        self.kinds: dict[tuple[str, str], type[Record]] = {}
        self.stored: list[Stored] = []

    def find_class(self, module, name):
        kind = (PYTHON_2.get(module, module), name)
        if kind not in self.kinds:
            self.kinds[kind] = type("Record", (Record,), {"kind": kind})
        return self.kinds[kind]

    def persistent_load(self, reference):
        if isinstance(reference, tuple) and reference[:1] == ("module",):  # a class with its source, as of old
            return reference[1]
        self.stored.append(Stored(reference))
        return self.stored[-1]


def check_program(file, size: int) -> None:
    """Refuse a pickle that takes up far more than its `size`, told by its opcodes alone.

    Python makes room for every number below that of an object; and it looks through a tuple each time it is a key, with
    the tuples in it, so a few bytes that put one tuple into the next twice, and so on, would keep it busy for ever.
    """
    start, again = file.tell(), 0
    stack: list[int | None] = []  # what Python would look through of each object there; None: a mark
    numbered: dict[int, int] = {}
    for opcode, argument, _ in pickletools.genops(file):
        taken = taken_from(stack, opcode)
        weight = taken[0] if taken else 1
        if opcode.name.startswith("TUPLE"):
            weight = 1 + sum(taken)
        elif opcode.name in PUTS:
            number = len(numbered) if argument is None else argument
            if number > size:
                raise pickle.UnpicklingError("its objects are numbered too high")
            numbered[number] = (taken or stack[-1:] or [1])[0] or 1
        elif opcode.name in GETS:
            weight = numbered.get(argument, 1)
        if opcode.name in GETS or opcode.name == "DUP":
            again += weight
            if again > MOST_AGAIN * size:
                raise pickle.UnpicklingError("its tuples are in each other too often")
        stack += [None if made is pickletools.markobject else weight for made in opcode.stack_after]
    file.seek(start)


MOST_AGAIN = 10  # objects looked through once more, a byte
PUTS, GETS = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), ("GET", "BINGET", "LONG_BINGET")


def taken_from(stack: list[int | None], opcode: pickletools.OpcodeInfo) -> list[int]:
    """What an opcode takes from the stack, in order; a program that takes more than there is fails when it is loaded."""
    before = opcode.stack_before
    slices = pickletools.markobject in before
    above: list[int] = []
    while slices and stack and (top := stack.pop()) is not None:
        above.append(top)
    plain = before.index(pickletools.markobject) if slices else len(before)
    below = [stack.pop() for _ in range(min(plain, len(stack)))]
    return [weight or 1 for weight in [*reversed(below), *reversed(above)]]


# --- the second step: what is made of it ------------------------------------------------------------------------


class Values:
    """Makes values of records; `storage` gives the bytes of a storage by its name."""

    def __init__(self, storage):
        self.storage = storage
        self.made: dict[int, tuple] = {}  # by id: the record, so that its id stays its own, and its value

    def value(self, thing):
        """Plain containers are filled in place, so what was one object in the file stays one, and circles end."""
        if type(thing) in PLAIN:
            return thing
        if id(thing) not in self.made:
            self.keep(thing, self.make(thing))
        return self.made[id(thing)][1]

    def keep(self, thing, value):
        self.made[id(thing)] = (thing, value)
        return value

    def values(self, things) -> list:
        return [self.value(thing) for thing in things]

    def pairs(self, items) -> list[tuple]:
        return [(self.value(key), self.value(value)) for key, value in items]

    def make(self, thing):
        if type(thing) is list:
            self.keep(thing, thing)
            thing[:] = self.values(thing)
            return thing
        if type(thing) is dict:
            return self.fill(thing, self.keep(thing, thing).items())
        if type(thing) in (tuple, set, frozenset):
            return type(thing)(self.values(thing))
        if isinstance(thing, Record):
            make = MAKERS.get(thing.kind)
            return make(self, thing) if make else Inert(*thing.kind)
        if isinstance(thing, type):  # a class or function as a value
            module, name = thing.kind
            return DTYPES[name] if module == "torch" and name in DTYPES else Inert(module, name)
        return Inert("torch", "Storage")

    def fill(self, mapping: dict, items) -> dict:
        pairs = self.pairs(items)
        mapping.clear()
        mapping.update(pairs)
        return mapping

    # --- makers: each takes a record of its kind ---

    def ordered_dict(self, record: Record) -> OrderedDict:
        made = self.keep(record, OrderedDict())
        made.update(self.pairs(record.arguments[0] if record.arguments else []))
        made.update(self.pairs(record.items))
        if isinstance(record.state, dict) and "_metadata" in record.state:  # versions, in a module's state dict
            made._metadata = self.value(record.state["_metadata"])
        return made

    def default_dict(self, record: Record) -> dict:
        return self.fill(self.keep(record, {}), record.items)

    def counter(self, record: Record) -> Counter:
        return Counter(dict(self.value(record.arguments[0])) if record.arguments else {})

    def octets(self, record: Record) -> bytes:
        text = self.value(record.arguments[0]) if record.arguments else ""
        return text if isinstance(text, bytes) else text.encode("latin1")

    def tensor(self, record: Record) -> Tensor:
        """`_rebuild_tensor` and its successors: all give storage, offset, size and stride first."""
        stored, offset, size, stride, *more = record.arguments
        name, dtype, count = stored.parts()
        nbytes = count * dtype.itemsize
        grad, metadata = more[0] if more else False, more[2:]
        if record.kind[1] == "_rebuild_tensor_v3":  # for dtypes without a storage class of their own
            dtype, metadata = self.value(more[2]), more[3:]
        if any(metadata):
            raise pickle.UnpicklingError("a tensor is marked as conjugate or negative, which is not read here")
        storage = self.storage(name)
        if len(storage) < nbytes:
            raise pickle.UnpicklingError(f"a storage of {nbytes} bytes has {len(storage)}")
        check_bounds(nbytes // dtype.itemsize, offset, size, stride)
        tensor = torch.empty(0, dtype=dtype).set_(storage, offset, tuple(size), tuple(stride))
        return tensor.requires_grad_(bool(grad))

    def parameter(self, record: Record) -> torch.nn.Parameter:
        data, grad, *_ = record.arguments
        return torch.nn.Parameter(self.value(data), requires_grad=bool(grad))

    def subclassed(self, record: Record):
        """A tensor of a class of its own, or with attributes: the tensor alone."""
        function, _, arguments, _ = record.arguments
        return self.value(function(*arguments))

    def numpy_dtype(self, record: Record):
        name, order = record.arguments[0], record.state[1] if record.state else "="
        return np.dtype(order + name) if re.fullmatch(r"[biufc]\d{1,2}", name) else Inert(*record.kind)

    def numpy_number(self, record: Record):
        dtype, data = self.values(record.arguments)
        return np.frombuffer(data, dtype, count=1)[0].item() if isinstance(dtype, np.dtype) else Inert(*record.kind)


def check_bounds(count: int, offset, size, stride) -> None:
    """Refuse a tensor that reaches past the `count` numbers of its storage."""
    numbers = [offset, *size, *stride]
    if any(type(number) is not int or number < 0 for number in numbers) or len(size) != len(stride):
        raise pickle.UnpicklingError("a tensor's size is no list of numbers")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and last >= count:
        raise pickle.UnpicklingError("a tensor is larger than its storage")


MAKERS = {
    ("collections", "OrderedDict"): Values.ordered_dict,
    ("collections", "defaultdict"): Values.default_dict,
    ("collections", "Counter"): Values.counter,
    ("builtins", "set"): lambda self, record: set(*self.values(record.arguments)),
    ("builtins", "frozenset"): lambda self, record: frozenset(*self.values(record.arguments)),
    ("builtins", "complex"): lambda self, record: complex(*self.values(record.arguments)),
    ("builtins", "bytes"): Values.octets,
    ("builtins", "bytearray"): lambda self, record: bytearray(self.octets(record)),
    ("_codecs", "encode"): Values.octets,
    ("torch", "Size"): lambda self, record: torch.Size(*self.values(record.arguments)),
    ("torch", "device"): lambda self, record: torch.device(*self.values(record.arguments)),
    ("torch._utils", "_rebuild_tensor"): Values.tensor,
    ("torch._utils", "_rebuild_tensor_v2"): Values.tensor,
    ("torch._utils", "_rebuild_tensor_v3"): Values.tensor,
    ("torch._utils", "_rebuild_parameter"): Values.parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): Values.parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): Values.subclassed,
    ("numpy", "dtype"): Values.numpy_dtype,
    ("numpy.core.multiarray", "scalar"): Values.numpy_number,
    ("numpy._core.multiarray", "scalar"): Values.numpy_number,
}
