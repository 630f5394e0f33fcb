"""What training takes of memory, measured: gradients of few images at once, the line through them, and what fits.

On the run's own networks, device, precision, losses and techniques, eagerly; nothing is stepped, and every buffer is as
before afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

from pggan.config.schedule import Phase, Schedule
from pggan.config.train import TrainConfig, level_of
from pggan.data.loading.cache_policy import GPU_SHARE
from pggan.data.loading.loader import BatchRequest, LoadedBatch
from pggan.networks.activation_checkpointing import checkpointable_blocks
from pggan.networks.flops import parameters
from pggan.training.engine.gradients import eager
from pggan.training.engine.memory_estimate import (
    LIBRARIES,
    USABLE,
    MicroBatchPlan,
    image_bytes,
    pass_bytes,
    planned,
    room,
    sizes_of,
    too_little,
    value_bytes_of,
)
from pggan.training.engine.state import TrainState
from pggan.training.engine.step import BatchBuilder
from pggan.utils import distributed
from pggan.utils.devices import can_measure, free_cached, free_memory, held_memory, out_of_memory, peak_memory
from pggan.utils.distributed import World
from pggan.utils.errors import UsageError
from pggan.utils.formatting import size

# Twice the estimate within this share of the room needs no measuring.
PLENTY = 0.25
# A line from two small sizes is trusted up to this share of the room; beyond, the size itself is tried, which takes no
# longer than an iteration.
NEAR = 0.5
# Bytes of a parameter's two moments, and of its gradient: summed over micro-batches, there are two of that.
MOMENTS, GRADIENT = 8, 4
# How much more than eager passes recordings hold: assumed, as what they set aside is theirs alone.
RECORDED_FACTOR = 1.2

# (images at once, bytes expected or None) -> the process's peak in bytes, infinity where memory ran out
Measure = Callable[[int, float | None], float]


class Fit(NamedTuple):
    """How many images at once fit (0: not even the fewest), the bytes they take, and the peaks measured by number."""

    images: int
    bytes: float
    measured: dict[int, float]


def fitted(sizes: list[int], held: float, limit: float, measure: Measure) -> Fit:
    """The largest of `sizes` (ascending) whose peak stays within `limit` bytes; `held`: before anything is computed.

    The two smallest are measured, the others follow from the line through both; near the limit the size is tried, and
    where that fails the next smaller one.
    """
    first, *more = sizes
    peaks = {first: measure(first, None)}
    if not more or peaks[first] > limit:
        return Fit(first if peaks[first] <= limit else 0, peaks[first], peaks)
    second = more[0]
    peaks[second] = measure(second, None)
    each = max(0.0, (peaks[second] - peaks[first]) / (second - first)) if math.isfinite(peaks[second]) else math.inf
    trusted = held + NEAR * (limit - held)
    for count in reversed(sizes):
        if count not in peaks:
            expected = peaks[second] + each * (count - second)
            if expected <= trusted:
                return Fit(count, expected, peaks)
            if expected > limit:
                continue
            peaks[count] = measure(count, expected)
            trusted = 0.0  # of a line that has been wrong, nothing
        if peaks[count] <= limit:
            return Fit(count, peaks[count], peaks)
    raise AssertionError("the smallest size fits")


class Probe:
    """Measures on a run's state. `pictures`: how many the data has; `say` hears of each resolution measured."""

    def __init__(self, state: TrainState, feed: BatchBuilder, pictures: int, say: Callable[[str], None]) -> None:
        self.state, self.feed, self.pictures, self.say = state, feed, pictures, say
        self.config, self.device = state.config, state.device
        self.sizes = sizes_of(self.config, state.world.size)
        # torch counts its own tensors only
        self.beside = LIBRARIES["cuda"] if self.device.type == "cuda" else 0
        self.held = float(held_memory(self.device) or 0) + self.beside
        sharing = 1 if self.device.type == "cuda" else distributed.local_world_size()
        self.free = free_memory(self.device) / sharing - self._compiling()
        self._told = False

    def _compiling(self) -> float:
        """Bytes of a GPU that the process that compiles beside the run takes: networks, and their pictures."""
        if self.state.computing.ahead is None or self.device.type != "cuda":
            return 0
        modules = (self.state.generator, self.state.discriminator, self.state.average)
        weights = sum(tensor.numel() * tensor.element_size() for each in modules for tensor in each.parameters())
        return LIBRARIES["cuda"] + weights

    def shares(self) -> dict[int, MicroBatchPlan]:
        """A `MicroBatchPlan` of every resolution. Raises `UsageError` where one group does not fit."""
        shares = {}
        phases = {phase.resolution: phase for phase in reversed(Schedule(self.config).phases)}
        with untouched(self.state):
            for resolution in self.config.resolutions():
                shares[resolution] = self._share(resolution, phases.get(resolution))
        return shares

    def _share(self, resolution: int, phase: Phase | None) -> MicroBatchPlan:
        """By estimate where that settles it, and where the run never gets to."""
        sizes = self.sizes[resolution]
        limit, extra = self._limit(resolution), self._extra(resolution)
        for recompute in (False, True):
            bytes_ = {count: self.held + extra + self.estimate(resolution, count, recompute) for count in sizes}
            fitting = [count for count in sizes if bytes_[count] <= limit]
            if phase is None and (fitting or recompute):
                count = max(fitting, default=sizes[0])
                return MicroBatchPlan(count, recompute, bytes_[count])
            most = bytes_[sizes[-1]] - self.held - extra
            if not recompute and 2 * most <= PLENTY * (limit - self.held - extra):
                return MicroBatchPlan(sizes[-1], False, bytes_[sizes[-1]])
        assert phase is not None
        return self._measured(phase, limit, extra)

    def _measured(self, phase: Phase, limit: float, extra: float) -> MicroBatchPlan:
        side, sizes = phase.resolution, self.sizes[phase.resolution]
        if not self._told:
            self.say("measuring what gradients take of memory, which takes about an iteration at each resolution")
        self._told = True
        factor = _mode_factor(self.state.computing.modes.get(phase.level, "eager"))
        for recompute in (False, True) if checkpointable_blocks(self.state.discriminator) else (False,):
            trial = Trial(self, phase, recompute, 1.0 if recompute else factor)
            fit = fitted(sizes, self.held, limit - extra, trial)
            told = ", ".join(f"{count}: {_said(bytes_)}" for count, bytes_ in sorted(fit.measured.items()))
            again = ", activations computed again" if recompute else ""
            self.say(f"memory at {side}x{side} by images at once{again}: {told}")
            if fit.images:
                measured = {str(n): peak for n, peak in sorted(fit.measured.items()) if math.isfinite(peak)}
                return MicroBatchPlan(fit.images, recompute, fit.bytes + extra, True, measured)
        need = "more" if math.isinf(fit.bytes) else size((fit.bytes + extra) / USABLE)
        raise too_little(limit / USABLE, side, sizes[0], need)

    def estimate(self, resolution: int, images: int, recompute: bool) -> float:
        """Bytes that gradients of so many images at once add to what is held."""
        value_bytes = value_bytes_of(self.state.precision)
        each = image_bytes(self.config, resolution, value_bytes, recompute, self.device.type)
        gradients = GRADIENT * max(parameters(network, level_of(resolution)) for network in self.config.networks())
        return images * each + gradients + pass_bytes(self.config, resolution, recompute)

    def _limit(self, resolution: int) -> float:
        """Bytes that this process may take in all at a resolution."""
        budget, auto = self.config.budget, self.config.auto_batch
        kept = self._pictures_kept(resolution)
        limits = []
        if budget is not None:
            limits.append(budget * USABLE - (kept if self.device.type == "cuda" else 0))
        if auto:
            limits.append(self.held + (self.free - kept) * USABLE)
        return min(limits)

    def _pictures_kept(self, resolution: int) -> float:
        """What the loader will keep of the data in this memory."""
        config = self.config
        whole = self.pictures * config.channels * resolution**2
        if self.device.type == "cuda":
            return whole if whole <= GPU_SHARE.get(config.cache, 0.0) * self.free else 0
        return whole if config.cache != "none" and whole <= config.cache_mb << 20 else 0

    def _extra(self, resolution: int) -> float:
        """What a run holds beside a micro-batch's gradients: moments of the active levels, sums over micro-batches."""
        of_g, of_d = (parameters(each, level_of(resolution)) for each in self.config.networks())
        return MOMENTS * (of_g + of_d) + GRADIENT * max(of_g, of_d)

    def safe(self, expected: float) -> bool:
        """Whether so many bytes can be tried: where main memory ends, the system ends processes."""
        return self.device.type == "cuda" or expected <= self.held + self.free


class Trial:
    """Gradients of D and G at a resolution, as an iteration computes them, of so many images at once: a `Measure`.

    `factor`: how many times what an eager pass takes is counted.
    """

    def __init__(self, probe: Probe, phase: Phase, recompute: bool, factor: float = 1.0) -> None:
        self.probe, self.phase, self.recompute, self.factor = probe, phase, recompute, factor
        self._known = probe.held, 0.0  # bytes, and what the estimate says of them

    def __call__(self, count: int, expected: float | None) -> float:
        known, before = self._known
        estimate = self.probe.estimate(self.phase.resolution, count, self.recompute)
        if not self.probe.safe(known + max(0.0, estimate - before) if expected is None else expected):
            return math.inf
        state = self.probe.state
        try:
            with state.keeping(activations=not self.recompute):
                peak = peak_memory(state.device, lambda: self.compute(count))
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            peak = None  # what did not fit is freed with the error
        if peak is None:
            free_cached(state.device)
            return math.inf
        used = peak + self.probe.beside
        self._known = used, estimate
        return self.probe.held + (used - self.probe.held) * self.factor

    def compute(self, count: int) -> None:
        """One micro-batch of each player."""
        state, feed, phase = self.probe.state, self.probe.feed, self.phase
        alpha = torch.full((), 0.5, device=state.device)
        loaded = _pictures(state.config, phase, state.world, feed.column)
        batch = feed.discriminator(loaded, phase.start, alpha)
        parts = len(batch.latents) // count
        for player, scaler in (("d", state.d_scaler), ("g", state.g_scaler)):
            if player == "g":
                batch = feed.generator(batch, phase.start)
            eager(state.setup, player, batch.part(0, parts), phase.level, alpha, scaler.scale())


def _pictures(config: TrainConfig, phase: Phase, world: World, column: int) -> LoadedBatch:
    """A process's share of a minibatch, of noise instead of the data's pictures."""
    own = max(1, phase.batch // world.size)
    random = np.random.default_rng(0)
    shape = (own, config.channels, phase.resolution, phase.resolution)
    images, held_out = (random.integers(0, 256, shape, np.uint8) for _ in range(2))
    labels = np.zeros((own, column + 1), np.int32)
    request = BatchRequest(phase.start, phase.batch, phase.resolution)
    return LoadedBatch(images, labels, request, held_out if config.held_out else None)


@contextmanager
def untouched(state: TrainState) -> Iterator[None]:
    """Buffers and the process's random numbers are after the block what they were before, and memory is given back."""
    modules = (state.generator, state.discriminator, state.objectives)
    buffers = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
    cards = [state.device] if state.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cards):
        try:
            yield
        finally:
            for buffer, before in buffers:
                buffer.copy_(before)
            free_cached(state.device)


def measured_plan(
    state: TrainState, feed: BatchBuilder, pictures: int, say: Callable[[str], None]
) -> dict[int, MicroBatchPlan]:
    """The plan of all processes: each measures, and the smallest share holds; by estimate where nobody tells of memory.

    Raises `UsageError` where one group does not fit in some process.
    """
    config, problem, shares = state.config, None, {}
    try:
        if can_measure(state.device):
            shares = Probe(state, feed, pictures, say).shares()
        else:
            bytes_, sizes = room(config, state.device), sizes_of(config, state.world.size)
            shares = planned(config, bytes_, state.device.type, state.precision, sizes)
    except UsageError as error:
        problem = error
    if distributed.all_reduce_max(int(problem is not None), state.world):
        raise problem or UsageError("memory does not suffice in another process of the run")
    return {resolution: _agreed(share, state.world) for resolution, share in shares.items()}


def _agreed(share: MicroBatchPlan, world: World) -> MicroBatchPlan:
    return share._replace(
        micro_batch=-distributed.all_reduce_max(-share.micro_batch, world),
        recompute=bool(distributed.all_reduce_max(int(share.recompute), world)),
        bytes=float(distributed.all_reduce_max(round(share.bytes), world)),
        probed=bool(distributed.all_reduce_max(int(share.probed), world)),
    )


def _mode_factor(mode: str) -> float:
    """Of the form that takes most, where a mode tries several."""
    return RECORDED_FACTOR if any(form.startswith("captured") for form in mode.split("|")) else 1.0


def _said(bytes_: float) -> str:
    return "more than there is" if math.isinf(bytes_) else size(bytes_)
