"""Reads official network pickles without running anything in them: a restricted unpickler and its stand-ins.

A pickle is a program that may import any name ("global") and call it. This reader resolves the few names that the
official files use to stand-ins of its own, and refuses every other name. NumPy arrays are rebuilt from their bytes; a
pickled network becomes a `Network` that holds its state as plain data.
"""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pggan.utils.errors import ModelError
from pggan.utils.formatting import one_line

# NumPy kinds that an array may hold: signed and unsigned integers, floats, booleans.
_KINDS = "iufb"
_MAX_VALUES = 1 << 31
_MAX_DEPTH = 32
# Operations of a pickle, and objects in what it describes, each counted as often as it is referred to.
_MAX_STEPS = 1 << 20
# Bytes that a pickle may describe: its file's times the first number, plus the second. Strings may be shared, arrays
# are not.
_BYTES_RATIO, _BYTES_EXTRA = 2, 1 << 20


class Network:
    """Stands for a network of the TensorFlow release. `state`: what the file holds of it."""

    def __init__(self) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class UnknownGlobal(pickle.UnpicklingError):
    """The pickle asks for a name that official networks do not need; `name` is the whole of it."""

    def __init__(self, module: str, name: str) -> None:
        self.name = f"{module}.{name}"
        super().__init__(f"it asks for {self.name}")


class _Array:
    """Stands for an array: the pickle creates it empty, and then sets shape, type and bytes."""

    def __init__(self) -> None:
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


class _Dtype:
    """Stands for `numpy.dtype("f4", False, True)`: the pickle creates it by name, and then sets its byte order."""

    def __init__(self, *arguments: Any) -> None:
        if not isinstance(arguments[0], str):
            raise pickle.UnpicklingError("an array of an unknown type")
        self._name = arguments[0]
        self._order = "="

    def __setstate__(self, state: Any) -> None:
        self._order = ">" if state[1] == ">" and isinstance(state[1], str) else "="

    def value(self) -> np.dtype[Any]:
        """The NumPy type. Raises `UnpicklingError` for anything but numbers."""
        dtype = np.dtype(self._name)
        if dtype.kind not in _KINDS:
            raise pickle.UnpicklingError(f"an array of {self._name!r}, not of numbers")
        return dtype.newbyteorder(">") if self._order == ">" else dtype


class _ArrayType:
    """Stands for the class `numpy.ndarray`, which a pickle passes to `_reconstruct`."""


def _array(data: Any, dtype: Any, shape: Any, order: str) -> NDArray[Any]:
    """Rebuilds an array from its bytes. Raises `UnpicklingError` where they do not fit its shape and type."""
    if isinstance(data, str):  # from Python 2, whose byte strings are read as text
        data = data.encode("latin1")
    if not isinstance(data, (bytes, bytearray)) or not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
        raise pickle.UnpicklingError("an array in an unknown form")
    file_dtype = dtype.value()
    if not all(isinstance(side, int) and side >= 0 for side in shape):
        raise pickle.UnpicklingError("an array of an impossible shape")
    count = math.prod(shape)
    if count > _MAX_VALUES or count * file_dtype.itemsize != len(data):
        raise pickle.UnpicklingError("an array whose bytes do not fit its shape")
    values = np.frombuffer(data, file_dtype).reshape(shape, order="F" if order == "F" else "C")
    return np.array(values, dtype=file_dtype.newbyteorder("="), order="C")  # a copy, in this machine's byte order


def _reconstruct(array_type: Any, shape: Any, typecode: Any) -> _Array:
    """Stands for NumPy's function of this name, which creates an empty array."""
    return _Array()


def _scalar(dtype: Any, data: Any = b"") -> Any:
    """Stands for NumPy's `scalar`."""
    return _array(data, dtype, (), "C")[()]


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    """Stands for NumPy's `_frombuffer`, which protocol 5 uses."""
    return _array(data, dtype, shape, "F" if isinstance(order, str) and order == "F" else "C")


def _encode(text: Any, encoding: Any) -> bytes:
    """Stands for `_codecs.encode`, by which protocol 2 writes bytes."""
    if not isinstance(text, str) or not isinstance(encoding, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("bytes in an unknown form")
    return text.encode("latin1")


def _empty_bytes(*arguments: Any) -> bytes:
    """Stands for `bytes()`, by which protocol 2 writes empty bytes."""
    if arguments:
        raise pickle.UnpicklingError("bytes in an unknown form")
    return b""


_NUMPY_FUNCTIONS: dict[tuple[str, str], Any] = {
    ("multiarray", "_reconstruct"): _reconstruct,
    ("multiarray", "scalar"): _scalar,
    ("numeric", "_frombuffer"): _frombuffer,
}
# (module, name) in the file -> its stand-in.
_STAND_INS: dict[tuple[str, str], Any] = {
    ("tfutil", "Network"): Network,
    ("network", "Network"): Network,  # of the Theano release
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _empty_bytes,
    ("__builtin__", "bytes"): _empty_bytes,
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")  # NumPy 1 and 2
        for (module, name), function in _NUMPY_FUNCTIONS.items()
    },
}


class RestrictedUnpickler(pickle._Unpickler):
    """Resolves names to stand-ins only, and bounds work and memory by the size of the file.

    It derives from the unpickler in Python: the one in C allocates as much memory as a hostile file asks for. Keys are
    plain values: the hash of a tuple of shared tuples takes exponential time.
    """

    STATEFUL: tuple[type, ...] = (Network, _Array, _Dtype)  # of which a pickle may set the state

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__(file, encoding="latin1")
        self._room = _BYTES_RATIO * size + _BYTES_EXTRA
        self._steps = 0

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        stand_in: Callable[..., Any] | None = _STAND_INS.get((module, name))
        if stand_in is None:
            raise UnknownGlobal(module, name)
        return stand_in

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to another file")

    def step(self, key: int) -> None:
        """Counts an operation, and checks what it is about to do."""
        self._steps += 1
        if self._steps > _MAX_STEPS:
            raise pickle.UnpicklingError("it has more operations than a model needs")
        if key in _KEYED and not all(isinstance(item, _KEYS) for item in self._coming_keys(key)):
            raise pickle.UnpicklingError("a key that is no plain value")
        if key == pickle.BUILD[0] and not isinstance(self.stack[-2], self.STATEFUL):  # type: ignore[attr-defined]
            raise pickle.UnpicklingError("the state of an object that has none")

    def _coming_keys(self, key: int) -> Any:
        stack: list[Any] = self.stack  # type: ignore[attr-defined]
        return stack[-2:-1] if key == pickle.SETITEM[0] else stack[::2]

    def made(self) -> None:
        """Counts the bytes of what a call or a state made."""
        last = self.stack[-1]  # type: ignore[attr-defined]
        self._room -= bytes_of_value(last)
        if self._room < 0:
            raise pickle.UnpicklingError("it describes more than the file holds")


_KEYS = (str, bytes, int, float, type(None))
_KEYED = {pickle.SETITEM[0], pickle.SETITEMS[0], pickle.DICT[0]}
_MAKERS = {pickle.REDUCE[0], pickle.BUILD[0], pickle.NEWOBJ[0], pickle.INST[0], pickle.OBJ[0], pickle.NEWOBJ_EX[0]}
# Sets, numbers of extensions and buffers beside the file, which no model needs.
_REFUSED = {
    pickle.EMPTY_SET[0], pickle.ADDITEMS[0], pickle.FROZENSET[0], pickle.EXT1[0], pickle.EXT2[0], pickle.EXT4[0],
    pickle.NEXT_BUFFER[0], pickle.READONLY_BUFFER[0],
}  # fmt: skip


def _bounded(key: int, operation: Callable[[Any], None]) -> Callable[[RestrictedUnpickler], None]:
    def run(unpickler: RestrictedUnpickler) -> None:
        if key in _REFUSED:
            raise pickle.UnpicklingError("it holds a set, an extension or a buffer, which no model needs")
        unpickler.step(key)
        operation(unpickler)
        if key in _MAKERS:
            unpickler.made()

    return run


_OPERATIONS: dict[int, Any] = {
    key: operation if key == pickle.STOP[0] else _bounded(key, operation)
    for key, operation in pickle._Unpickler.dispatch.items()
}
RestrictedUnpickler.dispatch = _OPERATIONS


def bytes_of_value(value: Any) -> int:
    """Returns the bytes of a text, of an array and of a tensor; a few for anything else."""
    value = value.value if isinstance(value, _Array) else value
    if isinstance(value, (str, bytes, bytearray)):
        return len(value)
    return int(getattr(value, "nbytes", 8)) if isinstance(value, (np.ndarray, np.generic, Tensor)) else 8


def check_size(value: Any, size: int) -> None:
    """Raises `ModelError` where a value is far larger than its file of `size` bytes, or nested too deeply.

    What is referred to many times counts every time, for whoever walks through the value meets it as often.
    """
    objects, room = _measure(value, {}, 0)
    if objects > _MAX_STEPS or room > _BYTES_RATIO * size + _BYTES_EXTRA:
        raise ModelError("it refers to the same objects far more often than a model needs")


def _measure(value: Any, done: dict[int, tuple[int, int]], depth: int) -> tuple[int, int]:
    """Returns the objects and the bytes in a value; `done` holds those of containers by their identity."""
    if depth > _MAX_DEPTH:
        raise ModelError("it is nested too deeply for a model")
    if isinstance(value, Network):
        inner = [value.state]
    elif isinstance(value, dict):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple)):
        inner = list(value)
    else:
        return 1, bytes_of_value(value)
    if id(value) not in done:
        measured = [_measure(item, done, depth + 1) for item in inner]
        done[id(value)] = 1 + sum(objects for objects, _ in measured), sum(room for _, room in measured)
    return done[id(value)]


def is_pickle(path: Path) -> bool:
    """Whether a file begins as a pickle of protocol 2 or later."""
    with open(path, "rb") as file:
        start = file.read(2)
    return len(start) == 2 and start[0] == 0x80 and 2 <= start[1] <= 5


def read_pickle(path: Path) -> Any:
    """Reads a file's first object: plain data, with NumPy arrays, and networks as `Network`.

    Raises `UnknownGlobal` for a file that asks for any other name, `ModelError` where it is not an intact pickle.
    """
    with open(path, "rb") as file:
        try:
            size = os.fstat(file.fileno()).st_size
            content = RestrictedUnpickler(file, size).load()
            check_size(content, size)
            return _unwrap(content)
        except UnknownGlobal:
            raise
        except ModelError as error:
            raise ModelError(f"{path}: {error}; take it from its publisher again") from None
        except MemoryError:
            raise ModelError(f"{path} needs more memory than there is; it is damaged, or no model") from None
        except Exception as error:  # noqa: BLE001 (a damaged pickle raises whatever its opcodes do)
            raise ModelError(f"{path} is not a whole model pickle ({one_line(error)}); copy it again") from None


def _unwrap(value: Any) -> Any:
    """Replaces `_Array` by its NumPy array, inside containers and networks too. `check_size` has bounded the work."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, Network):
        value.state = _unwrap(value.state)
    elif isinstance(value, dict):
        return {key: _unwrap(item) for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        return type(value)(_unwrap(item) for item in value)
    return value
