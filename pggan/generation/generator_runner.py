"""Runs a generator: eagerly, or compiled for batches of one size where that saves more time than it takes.

Whether it pays depends on the images remaining, and on the time of an eager batch, measured on the first ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pggan.utils.compile import compiled, fall_back_on_failure, named

MODES = ("auto", "eager", "compiled")
# Seconds to compile 4x4, and what each level above adds, by kind of device: measured on a CPU (two cores, a cold cache;
# 11 s at 4x4, 30 s at 32x32, 51 s at 64x64), assumed for GPUs.
COST = {"cpu": (10.0, 10.0), "cuda": (20.0, 5.0)}
# Share of an eager batch's time that compiling saves: on the CPU 0.1 at 4x4, 0.25 at 32x32, 0.4 at 64x64; assumed for
# GPUs, until compiled batches are measured.
SAVED = {"cpu": 0.25, "cuda": 0.25}
# The time saved has to be this many times the cost: estimates err.
MARGIN = 2.0
# Eager batches to measure, after one warm-up run.
ROUNDS = 2
# Compiled batches are kept where they take less than this share of an eager one's time.
GAIN = 0.97

Note = Callable[[str], None]


class Shape(NamedTuple):
    """What a compiled generator is for: a level, a batch size, and whether it fades."""

    level: int
    batch: int
    fades: bool


class GeneratorRunner:
    """Runs a generator in a mode: "eager", "compiled", or "auto", which compiles where that pays.

    `note` is called with what compiling took, or why it failed and eager goes on. `backend`: torch.compile's.
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
        """The batch size that is compiled, 0 if none is."""
        return self.shape.batch if self.shape else 0

    def __call__(
        self, z: Tensor, level: int, alpha: Tensor | None, labels: Tensor | None, remaining: int = 0
    ) -> Tensor:
        """Generates images (N, C, R, R).

        Args:
            z: Latents (N, Z).
            level: log2 of the resolution.
            alpha: How far the level is faded in, 0-d; None: entirely.
            labels: One-hot labels (N, K), None without.
            remaining: Images still to come in batches of this shape, these included; 0: unknown, and eager.
        """
        shape = Shape(level, len(z), alpha is not None)
        if remaining and self.mode != "eager":
            with fall_back_on_failure(self._forget, self._give_up):
                if shape == self.shape:
                    return self._compiled_batch(shape, z, alpha, labels)
                if self.mode == "compiled" or self._pays(shape, remaining, z.device.type):
                    return self._first(shape, z, alpha, labels)
            if self.mode == "auto":
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
        """Compiles with the first batch, and says how long that took."""
        start = time.perf_counter()
        self.shape = None
        self._function = _compiled(self.generator, shape, self.backend)
        images = self._function(z, alpha, labels)
        _wait(z.device)
        side = 2**shape.level
        seconds = time.perf_counter() - start
        self.note(f"compiled the generator at {side}x{side}, {shape.batch} pictures at a time: {seconds:.1f} s")
        self.shape, self._compiled = shape, []
        return images

    def _compiled_batch(self, shape: Shape, z: Tensor, alpha: Tensor | None, labels: Tensor | None) -> Tensor:
        images = self._measured(self._compiled, self._function, z, alpha, labels)
        seconds = self._compiled
        if self.mode == "auto" and len(seconds) == ROUNDS and min(seconds) > GAIN * min(self._eager[shape][1:]):
            self.note("the compiled generator is no faster; going on with --mode eager")
            self.mode, self.why, self.shape = "eager", "compiled is no faster", None
        return images

    def _measured(self, seconds: list[float], function: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """Measures the time of the first batches; only then it waits for a GPU."""
        if self.mode != "auto" or len(seconds) > ROUNDS:
            return function(*inputs)
        _wait(inputs[0].device)
        start = time.perf_counter()
        images: Tensor = function(*inputs)
        _wait(inputs[0].device)
        seconds.append(time.perf_counter() - start)
        return images

    def _forget(self) -> None:
        self.shape = None

    def _give_up(self, reason: str) -> None:
        self.note(f"the generator could not be compiled ({reason}); going on with --mode eager")
        self.mode, self.why = "eager", "it could not be compiled"


def _compiled(generator: nn.Module, shape: Shape, backend: str) -> Callable[..., Tensor]:
    def forward(z: Tensor, alpha: Tensor | None, labels: Tensor | None) -> Tensor:
        images: Tensor = generator(z, shape.level, alpha, labels)
        return images

    return compiled(named(forward, f"generator_{2**shape.level}x{2**shape.level}_by_{shape.batch}"), backend)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
