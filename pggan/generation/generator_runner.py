"""How a generator is computed: eagerly, or compiled for batches of one size where that wins more than it takes.

Whether it pays depends on how many pictures are still to come, and on how long an eager batch takes, which is measured
as the first ones are made.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pggan.utils.compile import compiled, named
from pggan.utils.devices import out_of_memory
from pggan.utils.formatting import one_line

MODES = ("auto", "eager", "compiled")
# Seconds to compile 4x4, and what each level above adds, by kind of device: measured on a CPU (two cores, a cold cache;
# 11 s at 4x4, 30 s at 32x32, 51 s at 64x64), assumed of GPUs.
COST = {"cpu": (10.0, 10.0), "cuda": (20.0, 5.0)}
# The share of an eager batch's time that is saved: of the CPU's 0.1 at 4x4, 0.25 at 32x32, 0.4 at 64x64; assumed of
# GPUs, until compiled batches are measured.
SAVED = {"cpu": 0.25, "cuda": 0.25}
# It has to win this many times its cost: estimates err.
MARGIN = 2.0
# Eager batches to measure, after one to warm up.
ROUNDS = 2
# A compiled batch has to take less than this share of an eager one's time to be kept.
GAIN = 0.97

Note = Callable[[str], None]


class Shape(NamedTuple):
    """What a compiled generator is made for: a level, a batch, and whether it fades."""

    level: int
    batch: int
    fades: bool


class GeneratorRunner:
    """Computes a generator by a mode: "eager", "compiled", or "auto", which compiles where that pays.

    `note` is told what compiling took, and where it failed: it then goes on eagerly. `backend`: torch.compile's.
    """

    def __init__(
        self, generator: nn.Module, mode: str = "auto", note: Note = lambda message: None, backend: str = "inductor"
    ) -> None:
        self.generator, self.mode, self.note, self.backend = generator, mode, note, backend
        self.why = "as asked for" if mode != "auto" else "too few pictures to compile for"
        self.shape: Shape | None = None  # that is compiled
        self._function: Callable[..., Tensor] = generator  # of that shape
        self._eager: dict[Shape, list[float]] = {}
        self._compiled: list[float] = []

    @property
    def batch(self) -> int:
        """The batch that is compiled, 0 if none is."""
        return self.shape.batch if self.shape else 0

    def __call__(
        self, z: Tensor, level: int, alpha: Tensor | None, labels: Tensor | None, remaining: int = 0
    ) -> Tensor:
        """The generator's pictures. `remaining`: how many there will be of batches as this one, these included; 0: no
        telling, and eager.
        """
        shape = Shape(level, len(z), alpha is not None)
        if remaining and self.mode != "eager":
            try:
                if shape == self.shape:
                    return self._compiled_batch(shape, z, alpha, labels)
                if self.mode == "compiled" or self._pays(shape, remaining, z.device.type):
                    return self._first(shape, z, alpha, labels)
            except Exception as error:  # a compiler may fail in any way; what is really wrong fails eagerly, too
                self.shape = None
                if out_of_memory(error):
                    raise
                self._give_up(error)
            else:
                return self._measured(self._eager.setdefault(shape, []), self.generator, z, level, alpha, labels)
        images: Tensor = self.generator(z, level, alpha, labels)
        return images

    def describe(self) -> str:
        """`eager (compiling would take about 52 s, and not win that back)`."""
        return f"{'compiled' if self.shape else 'eager'} ({self.why})"

    def _pays(self, shape: Shape, remaining: int, kind: str) -> bool:
        if len(seconds := self._eager.get(shape, [])) <= ROUNDS:
            return False
        first, more = COST.get(kind, COST["cpu"])
        cost = first + more * (shape.level - 2)
        saved = remaining / shape.batch * min(seconds[1:]) * SAVED.get(kind, SAVED["cpu"])
        if saved > MARGIN * cost:
            self.why = "where compiling pays"
            return True
        self.why = f"compiling would take about {cost:.0f} s, and not win that back"
        return False

    def _first(self, shape: Shape, z: Tensor, alpha: Tensor | None, labels: Tensor | None) -> Tensor:
        """Compiles, and tells how long that took."""
        start = time.perf_counter()
        self.shape = None
        self._function = _compiled(self.generator, shape, self.backend)
        made = self._function(z, alpha, labels)
        _wait(z.device)
        side = 2**shape.level
        took = f"{time.perf_counter() - start:.1f} s"
        self.note(f"compiled the generator at {side}x{side}, {shape.batch} pictures at a time: {took}")
        self.shape, self._compiled = shape, []
        return made

    def _compiled_batch(self, shape: Shape, z: Tensor, alpha: Tensor | None, labels: Tensor | None) -> Tensor:
        made = self._measured(self._compiled, self._function, z, alpha, labels)
        seconds = self._compiled
        if self.mode == "auto" and len(seconds) == ROUNDS and min(seconds) > GAIN * min(self._eager[shape][1:]):
            self.note("the compiled generator is no faster; going on with --mode eager")
            self.mode, self.why, self.shape = "eager", "compiled is no faster", None
        return made

    def _measured(self, seconds: list[float], function: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """Takes the time of the first batches: a GPU is waited for then, and only then."""
        if self.mode != "auto" or len(seconds) > ROUNDS:
            return function(*inputs)
        _wait(inputs[0].device)
        start = time.perf_counter()
        made = function(*inputs)
        _wait(inputs[0].device)
        seconds.append(time.perf_counter() - start)
        return made

    def _give_up(self, error: Exception) -> None:
        self.note(f"the generator could not be compiled ({one_line(error)}); going on with --mode eager")
        self.mode, self.why = "eager", "it could not be compiled"


def _compiled(generator: nn.Module, shape: Shape, backend: str) -> Callable[..., Tensor]:
    def forward(z: Tensor, alpha: Tensor | None, labels: Tensor | None) -> Tensor:
        images: Tensor = generator(z, shape.level, alpha, labels)
        return images

    return compiled(named(forward, f"generator_{2**shape.level}x{2**shape.level}_by_{shape.batch}"), backend)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
