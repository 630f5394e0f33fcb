"""How a run computes gradients: by resolution, in the form that it was told, or in the fastest one, measured."""

from __future__ import annotations

import dataclasses
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from pggan.losses.base import Batch
from pggan.training.engine import loss_functions
from pggan.training.engine.cuda_graphs import CudaGraphs, GraphCapturer
from pggan.training.engine.gradients import (
    CALM,
    Backend,
    Function,
    Gradients,
    Inputs,
    build_and_verify,
    check,
    eager,
    needed,
    tolerance,
)
from pggan.utils.devices import free_cached, out_of_memory
from pggan.utils.formatting import one_line

# Forms that need the compiler, and what is tried in the place of one that fails.
COMPILING = ("compiled", "captured")
INSTEAD = {"captured": "captured-eager", "captured-eager": "eager", "compiled": "eager"}
# How a form is measured: so many times at least, and so long; the median counts.
ROUNDS, SECONDS = 5, 0.1
# A form has to be faster by this much than the one that was measured before it: what is simpler wins ties.
GAIN = 0.97
# From this level on one group tells which way of a penalty is faster: libraries may take long to try theirs.
LARGE = 7


class Ahead(Protocol):
    """Compiles beside the run (ahead.py)."""

    def ready(self, level: int, images: int, forward: bool) -> bool:
        """Whether the code for parts of so many images is in the compiler's cache; begins making it if need be.

        `forward`: penalties by forward mode. Raises `RuntimeError` where it could not be made.
        """

    def entered(self, level: int, forward: bool) -> None:
        """The run has this level's code: time for the next one's, which is expected to be of the same kind."""


class _Chosen(NamedTuple):
    """A form, its function, and the forms that there were to choose from."""

    form: str
    function: Function
    forms: tuple[str, ...]


class StepExecutor:
    """Gradients by level, with graphs made when a level is first met and dropped when it is left.

    `modes`: a form of gradients.py by level, or several ("eager|captured-eager|compiled"), of which the fastest is
    found by measuring. `note` is told what was found, what making it took, and where that failed: the run then goes on
    without. `backend`: torch.compile's, None to leave the function as it is; `recorder`: what makes a recording of a
    function. `ahead`: what compiles beside the run, which goes on in the other forms meanwhile; None: it waits.
    `compare`: where steps are not plainly eager, gradient penalties are differentiated in the faster of two ways,
    measured; None: on GPUs, whose libraries may be slow at one of them.
    """

    def __init__(
        self,
        modes: Mapping[int, str] | None = None,
        note: Callable[[str], None] = lambda message: None,
        backend: Backend = "inductor",
        recorder: GraphCapturer | None = None,
        ahead: Ahead | None = None,
        measure: Callable[[Callable[[], Any], torch.device], float] | None = None,
        compare: bool | None = None,
    ) -> None:
        self.modes, self.note = dict(modes or {}), note
        self.backend, self.recorder, self.ahead = backend, recorder or CudaGraphs(), ahead
        self._measure, self._compare = measure or seconds_of, compare
        self._forward: dict[int, bool] = {}  # by level, of those that were measured
        self._functions: dict[tuple[Any, ...], _Chosen] = {}  # by level, player and shapes
        self._seconds: dict[int, float] = {}

    def __call__(
        self, setup: loss_functions.StepContext, player: str, part: Batch, level: int, alpha: Tensor, scale: Tensor
    ) -> Gradients:
        """As `eager`, by the level's mode. Raises what computing raises: memory that runs out, for one."""
        inputs, images = (needed(setup, player, part), alpha, scale), len(part.latents)
        key = (level, player, *(tuple(tensor.shape) for tensor in part.tensors()))
        if player == "d" and level not in self._forward and self.modes.get(level, "eager") != "eager":
            self._forward[level] = self._faster_forward(setup, level, inputs)
        if self.forward(level):
            setup = dataclasses.replace(setup, forward=True)
        while (forms := self._forms(level, images)) != ("eager",):
            chosen = self._functions.get(key)
            try:
                if chosen is None or chosen.forms != forms:
                    chosen = None
                    chosen = self._choose(setup, key, forms, inputs)
                return chosen.function(*inputs)
            except Exception as error:  # a compiler may fail in any way; what is really wrong fails eagerly, too
                self.forget()
                form = chosen.form if chosen is not None else forms[0]
                if form == "eager" or out_of_memory(error):
                    raise
                self._give_up(form, level, error)
        return eager(setup, player, part, level, alpha, scale)

    def forget(self) -> None:
        """Drops all graphs, and the memory that recordings hold."""
        self._functions.clear()

    def forward(self, level: int) -> bool:
        """Whether gradient penalties at a level are differentiated by forward mode."""
        return self._forward.get(level, False)

    def _forms(self, level: int, images: int) -> tuple[str, ...]:
        """The forms to choose from now: without those that are still being compiled."""
        forms = tuple(self.modes.get(level, "eager").split("|"))
        if self.ahead is None or not any(form in COMPILING for form in forms):
            return forms
        try:
            if self.ahead.ready(level, images, self.forward(level)):
                return forms
        except RuntimeError as error:
            for form in forms:
                if form in COMPILING:
                    self._give_up(form, level, error)
            return self._forms(level, images)
        return tuple(form for form in forms if form not in COMPILING) or ("eager",)

    def _choose(
        self, setup: loss_functions.StepContext, key: tuple[Any, ...], forms: tuple[str, ...], inputs: Inputs
    ) -> _Chosen:
        """Makes the forms, and keeps the one, or the fastest; tells how long the stall was."""
        level, player = key[0], key[1]
        self._functions = {k: v for k, v in self._functions.items() if k[0] == level and k != key}
        start = time.perf_counter()
        if len(forms) == 1:
            form, told, function = forms[0], "", self._made(setup, player, level, forms[0], inputs)
        else:
            form, told, function = self._fastest(setup, player, level, forms, inputs)
        # those that failed are not to be tried again
        chosen = _Chosen(form, function, self._forms(level, len(inputs[0].latents)))
        self._functions[key] = chosen
        self._tell(level, player, form, told, time.perf_counter() - start)
        if self.ahead is not None and player == "g":
            self.ahead.entered(level, self.forward(level))
        return chosen

    def _tell(self, level: int, player: str, form: str, told: str, seconds: float) -> None:
        """Of both players in one line where nothing was chosen, else of each."""
        self._seconds[level] = self._seconds.get(level, 0.0) + seconds
        if told or player == "g":
            side, who, stall = 2**level, f" of {player.upper()}" if told else "", self._seconds.pop(level)
            self.note(f"the step{who} at {side}x{side}: {form}, {stall:.1f} s before it went on{told}")

    def _fastest(
        self, setup: loss_functions.StepContext, player: str, level: int, forms: tuple[str, ...], inputs: Inputs
    ) -> tuple[str, str, Function]:
        """The form that takes least, what each took, in words, and its function. One that fails is left out."""
        device = inputs[0].latents.device
        best, fastest, least, told = "", None, float("inf"), []
        for form in forms:
            try:
                function, seconds = self._tried(setup, player, level, form, inputs)
            except Exception as error:
                if form == "eager":
                    raise
                if out_of_memory(error):
                    told.append(f"too little memory for {form}")
                else:
                    self._give_up(form, level, error)
                free_cached(device)
                continue
            told.append(f"{form} {seconds * 1e3:.3g} ms")
            if seconds < GAIN * least:
                best, fastest, least = form, function, seconds
            del function
        assert fastest is not None, "eager is among the forms, or fails aloud"
        free_cached(device)
        return best, f" ({', '.join(told)})", fastest

    def _tried(
        self, setup: loss_functions.StepContext, player: str, level: int, form: str, inputs: Inputs
    ) -> tuple[Function, float]:
        """A form's function, and the seconds that a call takes."""
        function = self._made(setup, player, level, form, inputs)
        return function, self._measure(lambda: function(*inputs), inputs[0].latents.device)

    def _faster_forward(self, setup: loss_functions.StepContext, level: int, inputs: Inputs) -> bool:
        """Whether D's step is the faster with its gradient penalty in forward mode, and then right."""
        device = inputs[0].latents.device
        compare = device.type == "cuda" if self._compare is None else self._compare
        if not compare or not any(objective.penalizes_gradient for objective in setup.objectives):
            return False
        part, alpha, scale = inputs
        if level >= LARGE:
            part = part.part(0, max(1, len(part.latents) // setup.discriminator.config.minibatch_group))
        scale = scale.clamp(max=CALM)
        forward = dataclasses.replace(setup, forward=True)

        def one(way: loss_functions.StepContext) -> Gradients:
            return eager(way, "d", part, level, alpha, scale)

        usual = self._measure(lambda: one(setup), device)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # of torch about its own forward mode
                seconds = self._measure(lambda: one(forward), device)
            check(one(forward).found, one(setup).found, tolerance(setup, "d", part, level, alpha, scale))
        except Exception as error:  # noqa: BLE001 (an operation without forward mode, memory: the usual way does)
            free_cached(device)
            self.note(f"gradient penalties by forward mode: {one_line(error)}; going on by the double backward pass")
            return False
        if seconds >= GAIN * usual:
            return False
        told = f"{usual * 1e3:.3g} ms by the double backward pass, {seconds * 1e3:.3g} ms so"
        self.note(f"the gradient penalty at {2**level}x{2**level} is differentiated by forward mode ({told})")
        return True

    def _made(self, setup: loss_functions.StepContext, player: str, level: int, form: str, inputs: Inputs) -> Function:
        if form == "eager":
            return lambda part, alpha, scale: eager(setup, player, part, level, alpha, scale)
        return build_and_verify(form, setup, player, level, inputs, self.backend, self.recorder)

    def _give_up(self, form: str, level: int, error: Exception) -> None:
        """Leaves a form out from here on, at every level."""
        for each, forms in self.modes.items():
            left = [other for other in forms.split("|") if other != form]
            self.modes[each] = "|".join(left) or INSTEAD[form]
        side, instead = 2**level, " or ".join(self.modes[level].split("|"))
        self.note(f"the step at {side}x{side} could not be {form} ({one_line(error)}); going on with {instead}")


def seconds_of(function: Callable[[], Any], device: torch.device) -> float:
    """Seconds that a call takes: the median of several, after one that is not counted."""

    def once() -> float:
        start = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    once()
    found = [once()]
    while (len(found) < ROUNDS and sum(found) < 10 * SECONDS) or sum(found) < SECONDS:
        found.append(once())
    return statistics.median(found)
