"""Step modes: how a run computes gradients at each resolution (torch-free until asked)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from enum import Enum

from pggan.config.schedule import Schedule
from pggan.config.train import TrainConfig, level_of
from pggan.networks.flops import D_PASSES_IN_G_STEP, G_PASSES, d_passes, iteration_flops, layers


class StepMode(Enum):
    """How gradients are computed; the values are what options.json holds."""

    EAGER = "eager"
    CAPTURED_EAGER = "captured-eager"  # a CUDA graph, without the compiler
    COMPILED = "compiled"
    CAPTURED = "captured"  # compiled, then a CUDA graph

    @property
    def compiles(self) -> bool:
        return self in (StepMode.COMPILED, StepMode.CAPTURED)

    @property
    def captures(self) -> bool:
        return self in (StepMode.CAPTURED_EAGER, StepMode.CAPTURED)

    @property
    def uncaptured(self) -> StepMode:
        """The same computation without a CUDA graph."""
        return StepMode.COMPILED if self.compiles else StepMode.EAGER

    @property
    def stand_in(self) -> StepMode:
        """What computes while this mode is being compiled, and instead of it where it fails."""
        return StepMode.CAPTURED_EAGER if self is StepMode.CAPTURED else StepMode.EAGER


# On a GPU: the iterations at a resolution from which `auto` compiles, at 4x4 and for every level above. Compiling is
# assumed to take 40 s and 15 s a level, an iteration to save 10 ms, and the gain has to be twice the cost: so the
# published recipes compile from 32x32. Counted at 8x8 on the tests' stand-in for a GPU: both players' gradients are 224
# kernels compiled, and 771 captured. `tools/benchmark.py train --mode captured-eager --mode captured` measures both
# rates and what a run waits ("start s").
GPU_PAYS_FROM = 8_000, 3_000
# On a CPU `auto` compiles where the iterations save at least this multiple of what compiling takes, and at least this
# share of an iteration: where convolutions take nearly all of it, what compiling saves is not to be told from 0.
CPU_GAIN, CPU_LEAST_SHARE = 2.0, 0.1
# Seconds that a run waits for the compiler with an empty cache, at 4x4 and for every level above.
CPU_COMPILE_SECONDS = 85.0, 30.0
# Seconds that an iteration saves for each pass of a layer and for each value that it puts out, and loses for each of
# its weights, which compiled code lays out anew; and the operations a second of what takes as long as before. Fitted to
# iterations on one thread of a two-core virtual machine (README.md). The machine of a run is not measured: equal runs
# compile the same levels.
CPU_SAVED_SECONDS, CPU_FLOPS = (80e-6, 2.5e-9, -0.87e-9), 70e9
# Without these vector instructions compiled steps were as fast as eager ones or slower (README.md).
CPU_PAYS_WITH = "AVX512"
COMPILERS = ("g++", "clang++", "c++", "cl")
# FLOPs of an iteration for each layer below which one thread of a CPU is faster than several, which wait for each other
# at every operation. On two cores a second thread made iterations 0.66 to 0.89 times as fast below it (README.md);
# more cores were not measured.
SHARED_FROM = 250e6


def pick_modes(
    schedule: Schedule, device: str, against: str | None, unfit: list[str]
) -> tuple[dict[int, StepMode], str]:
    """Picks the step mode of every level of a run.

    Args:
        schedule: The run's schedule, with its configuration.
        device: "cpu", or a GPU such as "cuda" or "cuda:0".
        against: Why nothing is to be compiled on this machine, None if it may be.
        unfit: Names of objectives that cannot be compiled or captured.

    Returns:
        The mode by level, and the reason in words.
    """
    config = schedule.config
    levels = [level_of(side) for side in config.resolutions()]
    if _kind(device) not in ("cpu", "cuda"):
        return dict.fromkeys(levels, StepMode.EAGER), f"on {_kind(device)} all steps are"
    if config.mode != "auto":
        mode, why = _requested(config.mode, device, against, unfit)
        return dict.fromkeys(levels, mode), why
    if unfit:
        return dict.fromkeys(levels, StepMode.EAGER), f"{', '.join(unfit)} cannot be compiled"
    plain, fast = StepMode.EAGER, StepMode.COMPILED
    if _kind(device) == "cuda":
        plain, fast = StepMode.CAPTURED_EAGER, StepMode.CAPTURED
    if against:
        return dict.fromkeys(levels, plain), against
    modes = {level: fast if compiling_pays(schedule, device, level) else plain for level in levels}
    if fast in modes.values():
        return modes, "compiled where that pays"
    return modes, "too few iterations to compile for" if _kind(device) == "cuda" else "compiling would save too little"


def _requested(mode: str, device: str, against: str | None, unfit: list[str]) -> tuple[StepMode, str]:
    """Returns the mode that was asked for, or the nearest that works here."""
    if unfit and mode != "eager":
        return StepMode.EAGER, f"{', '.join(unfit)} cannot be {mode}"
    if mode == "captured" and _kind(device) != "cuda":
        return StepMode.COMPILED, "CUDA graphs need a GPU"
    if mode == "captured" and against:
        return StepMode.CAPTURED_EAGER, against
    return StepMode(mode), "as asked for"


def compiling_pays(schedule: Schedule, device: str, level: int) -> bool:
    """Returns whether the iterations at a level pay for compiling its step: a function of the configuration alone."""
    d_steps = sum(phase.d_steps for phase in schedule.phases if phase.level == level)
    if _kind(device) == "cuda":
        first, more = GPU_PAYS_FROM
        return d_steps / schedule.n_critic >= first + more * (level - 2)
    config = schedule.config
    measured = config.arch_g == config.arch_d == "pggan" and config.precision in ("auto", "fp32")
    if _kind(device) != "cpu" or not measured:
        return False
    first_seconds, more_seconds = CPU_COMPILE_SECONDS
    saved, share = saved_seconds(schedule, level)
    enough = d_steps * saved >= CPU_GAIN * (first_seconds + more_seconds * (level - 2))
    return enough and share >= CPU_LEAST_SHARE


def saved_seconds(schedule: Schedule, level: int) -> tuple[float, float]:
    """Estimates what compiling saves of a D step with its share of G's step on a CPU: in seconds, and as a share.

    It saves launches and the traffic of activations between memory and processor. Convolutions take as long as before,
    and large weights longer.
    """
    config = schedule.config
    of_layer, of_value, of_weight = CPU_SAVED_SECONDS
    batch, n_critic = int(config.batch.at(2**level)), schedule.n_critic
    passes = 1 + (G_PASSES - 1) / n_critic, d_passes(config) + D_PASSES_IN_G_STEP / n_critic
    saved = rest = 0.0
    for count, network in zip(passes, config.networks()):
        for layer in layers(network, level):
            saved += count * (of_layer + of_value * batch * layer.activations + of_weight * layer.parameters)
            rest += count * 2.0 * batch * layer.macs / CPU_FLOPS
    return saved, saved / (saved + rest)


def single_thread_levels(config: TrainConfig, device: str, processes: int) -> tuple[int, ...]:
    """Returns the levels whose steps take one thread of a CPU: a function of the configuration and the processes."""
    if _kind(device) != "cpu":
        return ()
    (g, d), levels = config.networks(), []
    for side in config.resolutions():
        level, images = level_of(side), int(config.batch.at(side)) / processes
        if config.micro_batch is not None:
            images = min(images, int(config.micro_batch.at(side)))
        flops = images * iteration_flops(g, d, level, config.schedule.n_critic, d_passes(config))
        if flops < SHARED_FROM * len([*layers(g, level), *layers(d, level)]):
            levels.append(level)
    return tuple(levels)


def _kind(device: str) -> str:
    return device.partition(":")[0]


def describe(modes: Mapping[int, StepMode], why: str, single_thread: Sequence[int] = ()) -> str:
    """Returns `eager from 4x4, captured from 64x64 (compiled where that pays), by one thread at 4x4`."""
    sides = ", ".join(f"{2**level}x{2**level}" for level in single_thread)
    threads = f", by one thread at {sides}" if sides else ""
    changes: list[tuple[int, StepMode]] = []
    for level, mode in modes.items():
        if not changes or changes[-1][1] is not mode:
            changes.append((level, mode))
    if len(changes) == 1:
        return f"{changes[0][1].value} ({why}){threads}"
    return ", ".join(f"{mode.value} from {2**level}x{2**level}" for level, mode in changes) + f" ({why}){threads}"


def resolve_modes(config: TrainConfig, device: str) -> tuple[dict[int, StepMode], str]:
    """Returns `pick_modes` for this machine and the run's objectives."""
    from pggan.training.engine.loss_functions import make_objectives

    objectives = make_objectives(config.loss, config.label_size > 0, config.objective_options(), config.has_codes)
    unfit = [type(objective).__name__ for objective in objectives if not objective.compilable]
    return pick_modes(config.schedule, device, against_compiling(device), unfit)


def against_compiling(device: str) -> str | None:
    """Why this machine compiles nothing of its own accord: it lacks a compiler, or what makes that pay on a CPU."""
    if _kind(device) == "cuda":
        from importlib.util import find_spec

        if find_spec("triton") is None:
            return "there is no triton to compile with"
    if "CXX" not in os.environ and not any(shutil.which(name) for name in COMPILERS):
        return "there is no C++ compiler (g++) to compile with"
    if _kind(device) == "cpu" and not cpu_capability().startswith(CPU_PAYS_WITH):
        return f"compiling saves too little on a CPU without {CPU_PAYS_WITH}"
    return None


def cpu_capability() -> str:
    """The vector instructions that torch uses here, as "AVX2"."""
    import torch

    return torch.backends.cpu.get_cpu_capability()
