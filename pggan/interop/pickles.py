"""A pickle as plain data: only the few globals of official network pickles are known, and none of them does a thing.

Arrays are rebuilt here from their bytes; what stands for a class keeps its state as a dictionary. Nothing in a file is
imported, called or executed.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pggan.utils.errors import ModelError
from pggan.utils.formatting import one_line

# Kinds of numbers an array may hold: signed and unsigned integers, floats, booleans.
_KINDS = "iufb"
_MOST_VALUES = 1 << 31


class Network:
    """Stands for a pickled network; `state` is what the file holds of it. `era` tells which release wrote it."""

    era = "tensorflow"

    def __init__(self) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class TheanoNetwork(Network):
    era = "theano"


class ForeignGlobal(pickle.UnpicklingError):
    """The file asks for something that this format does not need; `name` is its full name."""

    def __init__(self, module: str, name: str) -> None:
        self.name = f"{module}.{name}"
        super().__init__(f"it asks for {self.name}")


class _Array:
    """An array on its way: `numpy.ndarray` as the pickle builds it."""

    def __init__(self) -> None:
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _array(data, dtype, shape, "F" if fortran else "C")


class _Dtype:
    """A number type on its way: `numpy.dtype('f4', False, True)`, then its byte order."""

    def __init__(self, *arguments: Any) -> None:
        self._name = str(arguments[0])
        self._order = "="

    def __setstate__(self, state: Any) -> None:
        self._order = str(state[1])

    def value(self) -> np.dtype[Any]:
        dtype = np.dtype(self._name)
        if dtype.kind not in _KINDS:
            raise pickle.UnpicklingError(f"an array of {self._name!r}, not of numbers")
        return dtype.newbyteorder(">") if self._order == ">" else dtype


class _ArrayType:
    """Stands for `numpy.ndarray` where the pickle hands it on as a value."""


def _array(data: Any, dtype: Any, shape: Any, order: str) -> NDArray[Any]:
    if isinstance(data, str):  # of Python 2, whose bytes are text here
        data = data.encode("latin1")
    if not isinstance(data, (bytes, bytearray)) or not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
        raise pickle.UnpicklingError("an array in an unknown form")
    kind = dtype.value()
    count = 1
    for side in shape:
        if not isinstance(side, int) or side < 0:
            raise pickle.UnpicklingError("an array of an impossible shape")
        count *= side
    if count > _MOST_VALUES or count * kind.itemsize != len(data):
        raise pickle.UnpicklingError("an array whose bytes do not fit its shape")
    # a copy in this machine's byte order, which nothing else refers to
    values = np.frombuffer(data, kind).reshape(shape, order="F" if order == "F" else "C")
    return np.array(values, dtype=kind.newbyteorder("="), order="C")


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    return _Array()


def _scalar(dtype: Any, data: Any = b"") -> Any:
    return _array(data, dtype, (), "C")[()]


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    return _array(data, dtype, shape, str(order))


def _encode(text: Any, encoding: Any) -> bytes:
    """Bytes as protocol 2 writes them."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("bytes in an unknown form")
    return text.encode("latin1")


def _no_bytes(*arguments: Any) -> bytes:
    if arguments:
        raise pickle.UnpicklingError("bytes in an unknown form")
    return b""


_NUMPY: dict[tuple[str, str], Any] = {
    ("multiarray", "_reconstruct"): _reconstruct,
    ("multiarray", "scalar"): _scalar,
    ("numeric", "_frombuffer"): _frombuffer,
}
_KNOWN: dict[tuple[str, str], Any] = {
    ("tfutil", "Network"): Network,
    ("network", "Network"): TheanoNetwork,
    ("numpy", "ndarray"): _ArrayType,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _no_bytes,
    ("__builtin__", "bytes"): _no_bytes,
    **{
        (f"numpy.{core}.{module}", name): found
        for core in ("core", "_core")
        for (module, name), found in _NUMPY.items()
    },
}


# The unpickler written in Python: the one written in C sets memory aside for whatever number a hostile file names.
class _Restricted(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        found: Callable[..., Any] | None = _KNOWN.get((module, name))
        if found is None:
            raise ForeignGlobal(module, name)
        return found

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to another file")


def is_pickle(path: Path) -> bool:
    """By its first bytes: protocols 2 and up."""
    with open(path, "rb") as file:
        start = file.read(2)
    return len(start) == 2 and start[0] == 0x80 and 2 <= start[1] <= 5


def read_pickle(path: Path) -> Any:
    """The file's first object, arrays as NumPy arrays, networks as `Network`.

    Raises `ForeignGlobal` for a file that asks for anything else, `ModelError` where it is no whole pickle.
    """
    with open(path, "rb") as file:
        return _plain(_load(path, file))


def _load(path: Path, file: BinaryIO) -> Any:
    try:
        return _Restricted(file, encoding="latin1").load()
    except ForeignGlobal:
        raise
    except MemoryError:
        raise ModelError(f"{path} needs more memory than there is; it is damaged, or no model") from None
    except Exception as error:  # noqa: BLE001 (a damaged pickle raises whatever its opcodes do)
        raise ModelError(f"{path} is not a whole model pickle ({one_line(error)}); copy it again") from None


def _plain(value: Any, depth: int = 0) -> Any:
    """Arrays out of their wrappers, in containers and network states."""
    if depth > 32:
        raise ModelError("the pickle is nested too deeply for a model")
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, Network):
        value.state = _plain(value.state, depth + 1)
        return value
    if isinstance(value, dict):
        return {key: _plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(each, depth + 1) for each in value)
    return value
