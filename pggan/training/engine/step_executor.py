"""How a run computes gradients: step mode, micro-batches, activation checkpointing, and what is done out of memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch

from pggan.networks.activation_checkpointing import CheckpointSwitch, checkpointable_blocks, enable_checkpointing
from pggan.training.engine.cuda_graphs import CudaGraphs, GraphCapturer
from pggan.training.engine.gradients import (
    Backend,
    GradientFn,
    Gradients,
    build_and_verify,
    eager,
    without_unused_reals,
)
from pggan.training.engine.loss_functions import JOINED, StepContext, StepInputs
from pggan.training.engine.memory_estimate import MicroBatchPlan, micro_batch_counts
from pggan.training.engine.state import TrainState
from pggan.training.engine.step_modes import StepMode
from pggan.utils.compile import fall_back_on_failure
from pggan.utils.devices import free_cached, out_of_memory
from pggan.utils.formatting import one_line

# Seconds between two looks at whether the code is there, or a signal asks the run to stop.
POLL_SECONDS = 0.2


class Worker(Protocol):
    """Compiles beside the run (compile_worker.py)."""

    waits: bool  # whether the run has to wait for the code (on a CPU)

    def ready(self, level: int, images: int, seconds: float | None = None) -> bool:
        """Returns whether the code for that many images at once is in the compiler's cache; begins making it if not.

        Where the run has to wait it returns when the code is there, or after `seconds`. Raises `RuntimeError` where it
        could not be made.
        """

    def entered(self, level: int) -> None:
        """The run has this level's code: it is the next level's turn."""


class StepExecutor:
    """Computes gradients of micro-batches, in a mode by level.

    Functions of a mode are built and verified when a level is first met, and dropped when it is left. Where that fails,
    the mode's stand-in computes from then on.
    """

    def __init__(
        self,
        state: TrainState,
        modes: Mapping[int, StepMode] | None = None,
        note: Callable[[str], None] = lambda message: None,
        backend: Backend = "inductor",
        capturer: GraphCapturer | None = None,
        fell_back: Callable[[Mapping[int, StepMode]], None] = lambda modes: None,
        single_thread: Collection[int] = (),
    ) -> None:
        """Prepares to compute gradients of a training state.

        Args:
            state: The networks and objectives, and where micro-batches may be cut.
            modes: Step mode by level; eager where none is given.
            note: Called with a message where a mode is built or fails, and where memory runs out.
            backend: torch.compile's; None leaves functions as they are.
            capturer: Captures CUDA graphs.
            fell_back: Called with the modes from then on where one fails.
            single_thread: Levels whose steps take one thread of a CPU.
        """
        self.state, self.modes, self.note = state, dict(modes or {}), note
        self.backend, self.capturer, self._fell_back = backend, capturer or CudaGraphs(), fell_back
        self._single_thread, self._all_threads = frozenset(single_thread), torch.get_num_threads()
        self.worker: Worker | None = None  # None: the run waits for the compiler
        self._functions: dict[tuple[Any, ...], tuple[StepMode, GradientFn]] = {}  # by level, player and shapes
        self._stall = 0.0  # seconds that the run waited for the level's functions
        self._uncaptured: set[tuple[int, int]] = set()  # levels and micro-batches that memory is too small to capture
        self._accumulate: dict[int, int] = {}  # micro-batches by level, where memory asks for several
        self.checkpointed: set[int] = set()  # levels whose activations are computed again instead of kept
        self._checkpointing = CheckpointSwitch()
        for network in (state.generator, state.discriminator):
            enable_checkpointing(checkpointable_blocks(network), self._checkpointing)

    def __call__(self, inputs: StepInputs) -> Gradients:
        """Computes gradients of one micro-batch. Raises what computing raises: out of memory (OOM), for one."""
        context = self.context(inputs.level)
        inputs = without_unused_reals(context, inputs)
        shapes = (tuple(tensor.shape) for tensor in inputs.batch.tensors())
        key = (inputs.level, inputs.player, inputs.penalties_only, *shapes)
        while (mode := self._mode(inputs.level, inputs.images)) is not StepMode.EAGER:
            with fall_back_on_failure(self.forget, partial(self._fall_back, mode, inputs.level)):
                return self._function(mode, key, inputs)(inputs)
        return eager(context, inputs)

    def context(self, level: int) -> StepContext:
        """Returns the run's context; where memory is short, reals and fakes go through D one after the other."""
        context = self.state.context
        if level in self.checkpointed and context.joined > JOINED["cpu"]:
            return replace(context, joined=JOINED["cpu"])
        return context

    def prepare(self, level: int, count: int, all_ready: Callable[[bool], bool] = lambda ready: ready) -> None:
        """Compiles a level's step for `count` images of this process, where the run waits for that.

        Args:
            level: The level that is computed next.
            count: Images of this process in an iteration.
            all_ready: Called several times a second with whether this process has its code, returns whether all have.
                It may raise anything: nothing changes before the code is there.
        """
        start, images = time.perf_counter(), count // self.num_micro_batches(level, count)
        waits = self.worker is not None and self.worker.waits
        while not all_ready(self._has_code(level, images, POLL_SECONDS) or not waits):
            pass
        self._stall = time.perf_counter() - start

    @contextmanager
    def step_at(self, level: int) -> Iterator[None]:
        """A step at a level: sets whether activations are checkpointed, and for the block how many threads compute."""
        self._checkpointing.on = level in self.checkpointed
        torch.set_num_threads(self.num_threads(level))
        try:
            yield
        finally:
            torch.set_num_threads(self._all_threads)

    def num_threads(self, level: int) -> int:
        """Returns how many threads compute a step at a level on a CPU."""
        return 1 if level in self._single_thread else self._all_threads

    def forget(self) -> None:
        """Drops all functions, and the memory that CUDA graphs hold."""
        self._functions.clear()

    def _mode(self, level: int, images: int) -> StepMode:
        """Returns the level's mode, or its stand-in while the worker compiles."""
        ready = self._has_code(level, images)
        mode = self._wanted(level, images)
        return mode if ready else mode.stand_in

    def _wanted(self, level: int, images: int) -> StepMode:
        mode = self.modes.get(level, StepMode.EAGER)
        return mode.uncaptured if (level, images) in self._uncaptured else mode

    def _has_code(self, level: int, images: int, seconds: float | None = None) -> bool:
        """Returns whether a level's mode has its code, or needs none; falls back where it cannot be compiled."""
        mode = self._wanted(level, images)
        if self.worker is None or not mode.compiles:
            return True
        try:
            return self.worker.ready(level, images, seconds)
        except RuntimeError as error:
            self._fall_back(mode, level, one_line(error))
        return self._has_code(level, images, seconds)

    def _function(self, mode: StepMode, key: tuple[Any, ...], inputs: StepInputs) -> GradientFn:
        """Returns the function for these inputs, built where there is none; uncaptured where capturing lacks memory."""
        if mode is StepMode.EAGER:
            return partial(eager, self.state.context)
        built, function = self._functions.get(key, (None, None))
        if function is not None and built is mode:
            return function
        try:
            return self._build(mode, key, inputs)
        except RuntimeError as error:
            if not (mode.captures and out_of_memory(error)):
                raise
        # outside the handler, whose traceback holds what did not fit. Checks and warm-up of one player stand beside the
        # other's graph: smaller micro-batches, or activations computed again, would be slower than this
        self.forget()
        free_cached(inputs.alpha.device)
        self._uncaptured.add((inputs.level, inputs.images))
        side, instead = 2**inputs.level, mode.uncaptured
        self.note(f"memory ran out while capturing {side}x{side}: going on with {instead.value} steps, which take less")
        return self._function(instead, key, inputs)

    def _build(self, mode: StepMode, key: tuple[Any, ...], inputs: StepInputs) -> GradientFn:
        """Builds and verifies a function, and says how long the run waited for those of both players."""
        level, start = inputs.level, time.perf_counter()
        self._functions = {k: v for k, v in self._functions.items() if k[0] == level and k != key}
        context = self.state.context
        function = build_and_verify(mode, context, inputs, self.backend, self.capturer, self._reference)
        self._functions[key] = mode, function
        self._stall += time.perf_counter() - start
        if inputs.player == "g":
            self.note(f"the step at {2**level}x{2**level}: {mode.value}, {self._stall:.1f} s before it went on")
            self._stall = 0.0
            if self.worker is not None and mode.compiles:
                self.worker.entered(level)
        return function

    def _reference(self, inputs: StepInputs) -> Gradients:
        """Computes eager gradients to compare with. Where memory runs out, activations are computed again.

        Compiled steps take about half of what eager ones take: a check should not decide how a run goes on.
        """
        try:
            return eager(self.state.context, inputs)
        except RuntimeError as error:
            if not (out_of_memory(error) and checkpointable_blocks(self.state.discriminator)):
                raise
        free_cached(inputs.alpha.device)
        with self.checkpointing(True):
            return eager(self.state.context, inputs)

    def _fall_back(self, failed: StepMode, level: int, reason: str) -> None:
        """Replaces a mode by its stand-in from here on, at every level."""
        before = self.modes.get(level)
        for other, mode in self.modes.items():
            if mode is failed:
                self.modes[other] = mode.stand_in
            elif mode.stand_in is failed:  # capturing fails, with the compiler or without
                self.modes[other] = StepMode.COMPILED
        if self.modes.get(level) is before:  # memory was too small to capture, and now what took over fails
            self.modes[level] = failed.stand_in
        side, instead = 2**level, self.modes[level].value
        self.note(f"the step at {side}x{side} could not be {failed.value} ({reason}); going on with {instead}")
        self._fell_back(self.modes)

    def num_micro_batches(self, level: int, count: int) -> int:
        """Returns into how many micro-batches `count` images of this process are cut: as few as are allowed."""
        config = self.state.config
        least = self._accumulate.get(level, 1)
        if config.micro_batch is not None:
            least = max(least, -(-count // int(config.micro_batch.at(2**level))))
        counts = self._counts(count)
        return next((parts for parts in counts if parts >= least), counts[-1])

    def _counts(self, count: int) -> list[int]:
        state = self.state
        return micro_batch_counts(state.config, state.discriminator.config, count, state.world.size)

    def accumulate(self, level: int, parts: int) -> None:
        """Cuts a level's batch of this process into at least `parts` micro-batches from here on."""
        self._accumulate[level] = parts

    def reduce_memory(self, level: int, count: int, why: str = "memory ran out") -> bool:
        """Makes room: halves the micro-batches, then checkpoints activations. Returns False where neither is left.

        Args:
            level: The level that is computed.
            count: Images of this process in an iteration.
            why: Begins the message.
        """
        side, now = 2**level, self.num_micro_batches(level, count)
        more = [parts for parts in self._counts(count) if parts > now]
        if more:
            parts = next((parts for parts in more if parts >= 2 * now), more[0])
            self.accumulate(level, parts)
            self.note(
                f"{why} at {side}x{side}: going on with {parts} micro-batches an iteration, which gives the same "
                "gradients"
            )
            return True
        if level in self.checkpointed or not checkpointable_blocks(self.state.discriminator):
            return False
        self.checkpoint(level)
        self.note(
            f"{why} again at {side}x{side}: activations are computed again instead of kept (activation checkpointing), "
            "which is slower"
        )
        return True

    def checkpoint(self, level: int) -> None:
        """Checkpoints a level's activations from here on; its steps are eager then."""
        self.checkpointed.add(level)
        self._checkpointing.on = True
        self.modes.pop(level, None)
        self.forget()

    def apply_memory_plan(self, plan: Mapping[int, MicroBatchPlan]) -> None:
        """Sets micro-batches and activation checkpointing by level."""
        config = self.state.config
        for level, share in plan.items():
            own = max(1, int(config.batch.at(2**level)) // self.state.world.size)
            self.accumulate(level, -(-own // share.micro_batch))
            if share.recompute:
                self.checkpoint(level)

    @contextmanager
    def checkpointing(self, on: bool) -> Iterator[None]:
        """Checkpoints activations within the block, or keeps them, whatever the run does."""
        before, self._checkpointing.on = self._checkpointing.on, on
        try:
            yield
        finally:
            self._checkpointing.on = before
