"""Runs a generator: eagerly, or compiled for batches of one size where enough of them are to come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from pggan.utils.compile import compiled, fall_back_on_failure, named
from pggan.utils.devices import PLAIN

MODES = ("auto", "eager", "compiled")
# By kind of device: the batches to come from which `auto` compiles, at 4x4 and for every level above. On a CPU it has
# won back its time after 570 batches at 4x4, 220 to 280 at 32x32 to 128x128, and 870 of the model that ships (a cold
# cache). On other devices it was not measured, and `auto` stays eager.
PAYS_FROM = {"cpu": (600, 100)}


def compiling_pays(level: int, batches: int, kind: str) -> bool:
    """Returns whether the batches to come at a level pay for compiling the generator on a kind of device."""
    if kind not in PAYS_FROM:
        return False
    first, more = PAYS_FROM[kind]
    return batches >= first + more * (level - 2)


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
        self,
        generator: nn.Module,
        mode: str = "auto",
        note: Callable[[str], None] = lambda message: None,
        backend: str = "inductor",
    ) -> None:
        self.generator, self.mode, self.note, self.backend = generator, mode, note, backend
        self.why = "as asked for" if mode != "auto" else "too few pictures to compile for"
        self.shape: Shape | None = None  # that is compiled
        self._function: Callable[..., Tensor] = generator  # of that shape

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
        if remaining and self._compiles(shape, remaining, z.device.type):
            with fall_back_on_failure(self._forget, self._give_up):
                if shape == self.shape:
                    return self._function(z, alpha, labels)
                return self._compile(shape, z, alpha, labels)
        images: Tensor = self.generator(z, level, alpha, labels)
        return images

    def describe(self) -> str:
        """`eager (too few pictures to compile for)`."""
        return f"{'compiled' if self.shape else 'eager'} ({self.why})"

    def _compiles(self, shape: Shape, remaining: int, kind: str) -> bool:
        if kind in PLAIN:
            self.why = f"on {kind} all pictures are"
            return False
        if self.mode != "auto" or shape == self.shape:
            return self.mode != "eager"
        if compiling_pays(shape.level, remaining // shape.batch, kind):
            self.why = "where compiling pays"
            return True
        if self.shape is None:
            asked = "on a GPU compiling has to be asked for: --mode compiled"
            self.why = "too few pictures to compile for" if kind in PAYS_FROM else asked
        return False

    def _compile(self, shape: Shape, z: Tensor, alpha: Tensor | None, labels: Tensor | None) -> Tensor:
        """Compiles with the first batch, and says how long that took."""
        start = time.perf_counter()
        self.shape = None
        self._function = _compiled(self.generator, shape, self.backend)
        images = self._function(z, alpha, labels)
        side, seconds = 2**shape.level, time.perf_counter() - start
        self.note(f"compiled the generator at {side}x{side}, {shape.batch} pictures at a time: {seconds:.1f} s")
        self.shape = shape
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
