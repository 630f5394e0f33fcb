"""Functions for torch's compiler: named apart, compiled whole, their code kept between runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch

from pggan.utils.paths import keep_compiled


def named(function: Any, name: str) -> Callable[..., Any]:
    """The same function with a code object of its own: the compiler counts its versions by that, and allows eight."""
    code = function.__code__.replace(co_name=name)
    return FunctionType(code, function.__globals__, name, function.__defaults__, function.__closure__)


def compiled(function: Callable[..., Any], backend: str | Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compile` without breaks, for one shape of each input."""
    if "TORCH_LOGS" not in os.environ:
        logging.getLogger("torch").setLevel(logging.ERROR)  # its warnings are about its own insides
    keep_compiled()
    return torch.compile(function, fullgraph=True, dynamic=False, backend=backend)
