"""Functions for torch's compiler: named apart, compiled whole, their code kept between runs, and what replaces them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch

from pggan.utils.devices import out_of_memory
from pggan.utils.formatting import one_line
from pggan.utils.paths import keep_compiled


def named(function: Any, name: str) -> Callable[..., Any]:
    """Returns the function with a code object of its own: the compiler counts versions by that, and allows eight."""
    code = function.__code__.replace(co_name=name)
    return FunctionType(code, function.__globals__, name, function.__defaults__, function.__closure__)


def compiled(function: Callable[..., Any], backend: str | Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a function in `torch.compile` without graph breaks, for one shape of each input."""
    if "TORCH_LOGS" not in os.environ:
        logging.getLogger("torch").setLevel(logging.ERROR)  # its warnings are about its own insides
    keep_compiled()
    return torch.compile(function, fullgraph=True, dynamic=False, backend=backend)


@contextmanager
def fall_back_on_failure(forget: Callable[[], None], fall_back: Callable[[str], None]) -> Iterator[None]:
    """Catches any failure of a compiled or captured function in the block, so that eager code after it can take over.

    A compiler may fail in any way, and what is really wrong fails eagerly, too. Memory that runs out is raised on.

    Args:
        forget: Called on every failure, to drop the function and its memory.
        fall_back: Called with the reason where it was not memory.
    """
    try:
        yield
    except Exception as error:
        forget()
        if out_of_memory(error):
            raise
        fall_back(one_line(error))
