"""A reader of untrusted pickles.

Python's unpickler calls whatever a file names, and allocates as much memory as it requests. This
one only knows the names in a table, builds arrays from the name of a type, a shape and the right
number of bytes, and never needs much more memory than the size of the file.
"""

import collections
import math
import pickle
import re
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np

from d2lite.utils.errors import quoted
from d2lite.utils.plain_values import require_bounded

MAX_STEPS = 2**23
"""Maximum number of instructions in a pickle; larger files may have one per eight bytes. Proposals
for all of COCO have about 6 million, with more than a thousand bytes for each."""
MAX_DEPTH = 64
MAX_SIZE = 2**26

_KEY_TYPES = (str, bytes, int, float, complex, bool, type(None))
_NUMBERS = re.compile(r"([<>=|]?)(b1|[iu][1248]|f[248]|c8|c16)")
_TEXTS = re.compile(r"([<>=|]?)([SU][1-9][0-9]{0,5})")


class RefusedGlobalError(pickle.UnpicklingError):
    """A pickle names something that is not plain data; the message is that name."""


class Named:
    """The target of a name in a pickle: a function of this module, or only the name."""

    __slots__ = ("make", "name")

    def __init__(self, name: str, make: Callable[..., Any] | None = None) -> None:
        self.name = name
        self.make = make

    def __repr__(self) -> str:
        return f"<{self.name} in a pickle>"


class _Type:
    """The dtype of an array; its byte order is set after its name."""

    __slots__ = ("code", "is_new", "order")

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        match = isinstance(code, str) and (_NUMBERS.fullmatch(code) or _TEXTS.fullmatch(code))
        if not match:
            raise pickle.UnpicklingError(
                f"it has an array of type {quoted(str(code))}; only numbers and strings are plain"
            )
        if type(align) not in (bool, int) or align or type(copy) not in (bool, int):
            raise pickle.UnpicklingError("it has an array of an aligned type")
        self.order, self.code = match[1], match[2]
        self.is_new = bool(copy)

    def set_order(self, state: Any) -> None:
        """Set the state of a numpy dtype: (version, byte order, subarray, names, fields, ...).

        For numbers and strings, the other entries are known. In numpy, a state changes an object
        that all arrays of the dtype may share, and its flags say where pointers are.
        """
        size = self.numpy.itemsize
        known: tuple[tuple, ...] = ((-1, -1, 0),)
        if self.code[0] in "SU":
            known = ((size, 1, 0), (size, 4, 8), (size, 4, 0))
        form = (
            isinstance(state, tuple)
            and len(state) in (8, 9)
            and all(type(part) in (int, str, type(None)) for part in state)
        )
        plain = form and state[2:5] == (None,) * 3 and state[5:8] in known and not any(state[8:])
        if not (self.is_new and plain and state[0] in (3, 4) and state[1] in ("<", ">", "=", "|")):
            raise pickle.UnpicklingError("it has an array of structures, which is not plain data")
        self.order = state[1]
        self.is_new = False

    @property
    def numpy(self) -> np.dtype:
        return np.dtype(self.order + self.code)


def _bytes_of(buffer: Any) -> bytes | bytearray:
    # Python 2 pickled the bytes of arrays as text.
    data = buffer.encode("latin1") if isinstance(buffer, str) else buffer
    if not isinstance(data, bytes | bytearray):
        raise pickle.UnpicklingError(f"it has an array whose content is a {type(data).__name__}")
    return data


def _require_size(kind: Any, shape: Any, data: bytes | bytearray) -> None:
    if not isinstance(kind, _Type):
        raise pickle.UnpicklingError("it has an array without a type")
    if not isinstance(shape, tuple) or not all(type(n) is int and 0 <= n < 2**62 for n in shape):
        raise pickle.UnpicklingError(f"it has an array of the shape {str(shape)[:40]}")
    if math.prod(shape) * kind.numpy.itemsize != len(data):
        raise pickle.UnpicklingError(
            f"it has an array of the shape {str(shape)[:40]} with {len(data)} bytes"
        )


def _empty_array(kind: Any, shape: Any, code: Any) -> np.ndarray:
    is_array = isinstance(kind, Named) and kind.name == "numpy.ndarray"
    if not is_array or shape != (0,) or code not in ("b", b"b"):
        raise pickle.UnpicklingError("it creates an array in a way that numpy does not")
    return np.zeros(0, dtype=np.int8)  # its content comes in the next step


def _scalar(kind: Any, data: Any) -> Any:
    data = _bytes_of(data)
    _require_size(kind, (), data)
    return np.frombuffer(bytes(data), dtype=kind.numpy)[0]


def _array_from_buffer(buffer: Any, kind: Any, shape: Any, order: Any = "C", *_: Any) -> np.ndarray:
    data = _bytes_of(buffer)
    _require_size(kind, shape, data)
    if order not in ("C", "F"):
        raise pickle.UnpicklingError(f"it has an array of the memory order {quoted(str(order))}")
    return np.frombuffer(bytearray(data), dtype=kind.numpy).reshape(shape, order=order)


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    """Decode bytes that Python 3 wrote in a pickle protocol of Python 2."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it has bytes in the encoding {quoted(str(encoding))}")
    return text.encode("latin1")


def _bytearray(content: Any = b"", encoding: Any = "latin1") -> bytearray:
    data = _encoded(content, encoding) if isinstance(content, str) else content
    if not isinstance(data, bytes | bytearray):  # bytearray(n) would allocate n bytes
        raise pickle.UnpicklingError(f"it has a bytearray made of a {type(data).__name__}")
    return bytearray(data)


def _complex(real: Any, imaginary: Any = 0.0) -> complex:
    if not isinstance(real, int | float) or not isinstance(imaginary, int | float):
        raise pickle.UnpicklingError("it has a complex number that is not a pair of numbers")
    return complex(real, imaginary)


def _list_of(items: Any) -> list | tuple:
    if not isinstance(items, list | tuple):
        raise pickle.UnpicklingError(f"it has a container made of a {type(items).__name__}")
    return items


def _key(key: Any) -> Any:
    """Return a key if it can be compared quickly: hashing nested tuples can take years."""
    parts = key if type(key) is tuple else (key,)
    if len(parts) > 64 or not all(
        isinstance(part, np.generic) or type(part) in _KEY_TYPES for part in parts
    ):
        raise pickle.UnpicklingError(f"it has a dict or set with a {type(key).__name__} as key")
    if any(type(part) is int and part.bit_length() > 64 for part in parts):
        raise pickle.UnpicklingError("it has a dict or set with an integer of many digits as key")
    return key


_MAKERS: dict[str, Callable[..., Any] | None] = {
    "numpy.ndarray": None,
    "numpy.dtype": _Type,
    "numpy._core.multiarray._reconstruct": _empty_array,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy._core.numeric._frombuffer": _array_from_buffer,
    "_codecs.encode": _encoded,
    "collections.OrderedDict": lambda pairs=(): collections.OrderedDict(
        (_key(key), value) for key, value in _list_of(pairs)
    ),
    # Schedules of torch have these.
    "collections.Counter": lambda counts=(): collections.Counter(_dict(counts) if counts else {}),
    "builtins.set": lambda items=(): {_key(item) for item in _list_of(items)},
    "builtins.frozenset": lambda items=(): frozenset(_key(item) for item in _list_of(items)),
    "builtins.bytes": lambda: b"",  # empty bytes, written by Python 3 in protocols of Python 2
    "builtins.bytearray": _bytearray,
    "builtins.complex": _complex,
}
PLAIN_GLOBALS: Mapping[str, Named] = {name: Named(name, make) for name, make in _MAKERS.items()}
"""Names of arrays and plain containers in numpy 2 and Python 3."""


class PlainUnpickler(pickle._Unpickler):
    """Unpickler of arrays, numbers, strings and containers of them."""

    def __init__(
        self, file: IO[bytes], size: int, named: Mapping[str, Named] = PLAIN_GLOBALS
    ) -> None:
        """
        Args:
            file: a binary file, read from its current position.
            size: the number of bytes from there to its end.
            named: targets of names; other names are refused.
        """
        # latin1 preserves the bytes of arrays that Python 2 pickled as text.
        super().__init__(_BoundedFile(file, size), encoding="latin1")
        self._named = named
        self.dispatch = _CountedSteps(self.dispatch, max(MAX_STEPS, size // 8))
        self._new_arrays: dict[int, np.ndarray] = {}

    def load(self) -> Any:
        """Return the value.

        Raises:
            RefusedGlobalError: the pickle names something that is not in the table.
            pickle.UnpicklingError: it is damaged or malicious; the message has the reason.
        """
        try:
            value = super().load()
            require_bounded(value, depth=MAX_DEPTH, size=MAX_SIZE)
        except (pickle.UnpicklingError, MemoryError):
            raise
        except Exception as error:  # a damaged pickle can fail in any way
            reason = " ".join(str(error).split()) or type(error).__name__
            raise pickle.UnpicklingError(reason[:200]) from error
        return value

    def find_class(self, module: str, name: str) -> Any:
        # Names of the same objects in Python 2 and numpy 1.
        module = {"__builtin__": "builtins"}.get(module, module).replace(
            "numpy.core", "numpy._core"
        )
        full_name = f"{module}.{name}"
        if full_name not in self._named:
            raise RefusedGlobalError(" ".join(full_name.split())[:200])
        return self._named[full_name]

    def _instantiate(self, klass: Any, args: Any) -> None:  # of the instructions INST and OBJ
        self.append(self._make(klass, tuple(args)))

    def _make(self, named: Any, args: Any) -> Any:
        if not isinstance(named, Named) or named.make is None or not isinstance(args, tuple):
            name = named.name if isinstance(named, Named) else f"a {type(named).__name__}"
            raise pickle.UnpicklingError(f"it calls {name}")
        made = named.make(*args)
        if named.make is _empty_array:
            self._new_arrays[id(made)] = made
        return made

    def _load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._make(self.stack[-1], args)

    def _load_newobj_ex(self) -> None:
        if self.stack.pop():
            raise pickle.UnpicklingError("it calls something with keyword arguments")
        self._load_reduce()

    def _load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, _Type):
            target.set_order(state)
        elif self._new_arrays.pop(id(target), None) is target and isinstance(state, tuple):
            version, shape, kind, fortran, content = state
            data = _bytes_of(content)
            if version != 1 or type(fortran) not in (bool, int):
                raise pickle.UnpicklingError("it has an array with a state of another version")
            _require_size(kind, shape, data)
            target.__setstate__((1, shape, kind.numpy, bool(fortran), bytes(data)))
        elif (
            isinstance(target, collections.OrderedDict)
            and isinstance(state, dict)
            and list(state) == ["_metadata"]
        ):
            target._metadata = state["_metadata"]  # versions of a state dict of torch
        else:
            raise pickle.UnpicklingError(f"it sets the state of a {type(target).__name__}")

    def _load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _dict(self.stack[-1])[_key(key)] = value

    def _load_setitems(self) -> None:
        items = self.pop_mark()
        target = _dict(self.stack[-1])
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def _load_dict(self) -> None:
        items = self.pop_mark()
        pairs = zip(items[::2], items[1::2], strict=True)
        self.append({_key(key): value for key, value in pairs})

    def _load_append(self) -> None:
        value = self.stack.pop()
        _list(self.stack[-1]).append(value)

    def _load_appends(self) -> None:
        items = self.pop_mark()
        _list(self.stack[-1]).extend(items)

    def _load_additems(self) -> None:
        items = self.pop_mark()
        if type(self.stack[-1]) is not set:
            raise pickle.UnpicklingError("it adds to something that is not a set")
        self.stack[-1].update(_key(item) for item in items)

    def _load_frozenset(self) -> None:
        items = self.pop_mark()  # which also changes what self.append appends to
        self.append(frozenset(_key(item) for item in items))

    def _load_bytearray8(self) -> None:
        length = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(length)))

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("it has instructions that plain data does not need")

    _REPLACED = {
        pickle.REDUCE: _load_reduce,
        pickle.NEWOBJ: _load_reduce,
        pickle.NEWOBJ_EX: _load_newobj_ex,
        pickle.BUILD: _load_build,
        pickle.SETITEM: _load_setitem,
        pickle.SETITEMS: _load_setitems,
        pickle.DICT: _load_dict,
        pickle.APPEND: _load_append,
        pickle.APPENDS: _load_appends,
        pickle.ADDITEMS: _load_additems,
        pickle.FROZENSET: _load_frozenset,
        pickle.BYTEARRAY8: _load_bytearray8,
        pickle.EXT1: _refuse,
        pickle.EXT2: _refuse,
        pickle.EXT4: _refuse,
        pickle.NEXT_BUFFER: _refuse,
        pickle.READONLY_BUFFER: _refuse,
    }
    dispatch = {
        **pickle._Unpickler.dispatch,
        **{instruction[0]: method for instruction, method in _REPLACED.items()},
    }


def _dict(target: Any) -> dict:
    if not isinstance(target, dict):
        raise pickle.UnpicklingError(f"it stores a key in a {type(target).__name__}")
    return target


def _list(target: Any) -> list:
    if type(target) is not list:
        raise pickle.UnpicklingError(f"it appends to a {type(target).__name__}")
    return target


class _CountedSteps:
    """A table of instructions with a limit on the total number of uses."""

    def __init__(self, table: Mapping[int, Callable], limit: int) -> None:
        self._table = table
        self._limit = self._rest = limit

    def __getitem__(self, instruction: int) -> Callable:
        self._rest -= 1
        if self._rest < 0:
            raise pickle.UnpicklingError(f"it has more than {self._limit} instructions")
        if instruction not in self._table:
            raise pickle.UnpicklingError(f"it has an unknown instruction, {bytes([instruction])!r}")
        return self._table[instruction]


class _BoundedFile:
    """A file from which no more bytes are read than it has left."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._rest = size

    def read(self, size: int) -> bytes:
        data = self._file.read(self._taken(size))
        if len(data) != size:
            raise EOFError("it ends early")
        return data

    def readline(self) -> bytes:
        line = self._file.readline(self._rest)
        self._taken(len(line))
        return line

    def _taken(self, size: int) -> int:
        self._rest -= size
        if self._rest < 0:
            raise EOFError("it ends early")
        return size
