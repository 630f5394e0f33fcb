"""Reads official network pickles without running anything in them: a restricted unpickler and its stand-ins.

A pickle is a program that may import any name ("global") and call it. This reader resolves the few names that the
official files use to stand-ins of its own, and refuses every other name. NumPy arrays are rebuilt from their bytes; a
pickled network becomes a `Network` that holds its state as plain data.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.utils.errors import ModelError
from pggan.utils.formatting import one_line

# NumPy kinds that an array may hold: signed and unsigned integers, floats, booleans.
_KINDS = "iufb"
_MAX_VALUES = 1 << 31
_MAX_DEPTH = 32


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
        self._name = str(arguments[0])
        self._order = "="

    def __setstate__(self, state: Any) -> None:
        self._order = str(state[1])

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
    return _array(data, dtype, shape, str(order))


def _encode(text: Any, encoding: Any) -> bytes:
    """Stands for `_codecs.encode`, by which protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
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


class _RestrictedUnpickler(pickle._Unpickler):
    """Resolves names to stand-ins only.

    It derives from the unpickler in Python: the one in C allocates as much memory as a hostile file asks for.
    """

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        stand_in: Callable[..., Any] | None = _STAND_INS.get((module, name))
        if stand_in is None:
            raise UnknownGlobal(module, name)
        return stand_in

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to another file")


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
            content = _RestrictedUnpickler(file, encoding="latin1").load()
        except UnknownGlobal:
            raise
        except MemoryError:
            raise ModelError(f"{path} needs more memory than there is; it is damaged, or no model") from None
        except Exception as error:  # noqa: BLE001 (a damaged pickle raises whatever its opcodes do)
            raise ModelError(f"{path} is not a whole model pickle ({one_line(error)}); copy it again") from None
    return _unwrap(content, {})


def _unwrap(value: Any, done: dict[int, Any], depth: int = 0) -> Any:
    """Replaces `_Array` by its NumPy array, inside containers and networks too.

    `done` holds the results by the identity of their objects: what a pickle refers to many times is converted once, so
    that the work is bounded by the file's size.
    """
    if depth > _MAX_DEPTH:
        raise ModelError("the pickle is nested too deeply for a model")
    if id(value) in done:
        return done[id(value)]
    result = value
    if isinstance(value, _Array):
        result = value.value
    elif isinstance(value, Network):
        value.state = _unwrap(value.state, done, depth + 1)
    elif isinstance(value, dict):
        result = {key: _unwrap(item, done, depth + 1) for key, item in value.items()}
    elif isinstance(value, (list, tuple)):
        result = type(value)(_unwrap(item, done, depth + 1) for item in value)
    done[id(value)] = result
    return result
