"""Which mode a run's steps are computed in, by resolution: the fastest that is sound and pays (torch-free until asked).

Compiling costs time once a resolution and saves some of every iteration. On GPUs both are assumed to tell where it is
worth a try; what is faster then is measured in the run. On the CPU nothing is compiled unless a person asks for it.
"""

from __future__ import annotations

import os
import shutil
from functools import partial
from typing import Any

from pggan.config.schedule import Schedule
from pggan.config.train import TrainConfig, level_of
from pggan.networks.flops import iteration_flops

# What is measured against each other on a GPU: without the compiler, and with it.
RECORDING = "eager|captured-eager"
COMPILING = f"{RECORDING}|compiled|captured"
# On a GPU: seconds to compile 4x4 and what each level above adds; seconds of launches that an iteration saves; the
# share of its arithmetic that it saves.
COST, COST_OF_A_LEVEL, LAUNCHES, SHARE = 40.0, 15.0, 0.010, 0.2
# It has to win this many times its cost: estimates err.
MARGIN = 2.0
# Floating-point operations a second that are taken for granted where none are measured.
MATMUL_SECONDS = 0.05
COMPILERS = ("g++", "clang++", "c++", "cl")


def pick_modes(
    config: TrainConfig, device: str, flops: float, missing: str | None, unfit: list[str]
) -> tuple[dict[str, str], str]:
    """A mode for every resolution of a run, and why, in words: a form of gradients.py, or several, joined by "|", of
    which the run measures the fastest when it is there.

    `device`: "cpu", "cuda", "cuda:N"; `flops`: operations a second of its matrix products; `missing`: what it lacks to
    compile, `unfit`: names of objectives that cannot be compiled.
    """
    sides = config.resolutions()
    if config.mode != "auto":
        mode, why = _asked(config.mode, device, missing, unfit)
        return {str(side): mode for side in sides}, why
    if unfit:
        return {str(side): "eager" for side in sides}, f"{', '.join(unfit)} cannot be compiled"
    if _kind(device) == "cpu":
        # it takes a core or two for minutes a resolution, and only eager runs resume to the same bits
        why = "on the CPU compiling is for those who ask for it: --mode compiled"
        return {str(side): "eager" for side in sides}, why
    paying = set() if missing else {side for side in sides if pays(config, side, flops)}
    if missing:
        why = f"there is no {missing} to compile with"
    elif not paying:
        seconds = round(sum(_cost(side) for side in sides))
        why = f"compiling would take about {seconds} s in all, and not win that back"
    else:
        why = "compiled where that pays"
    return {str(side): COMPILING if side in paying else RECORDING for side in sides}, why


def _asked(mode: str, device: str, missing: str | None, unfit: list[str]) -> tuple[str, str]:
    """A mode that was asked for, or the nearest that is to be had."""
    if unfit and mode != "eager":
        return "eager", f"{', '.join(unfit)} cannot be {mode}"
    if mode == "captured" and _kind(device) != "cuda":
        return "compiled", "CUDA graphs need a GPU"
    if mode == "captured" and missing:
        return "captured-eager", f"there is no {missing} to compile with"
    return mode, "as asked for"


def pays(config: TrainConfig, resolution: int, flops: float) -> bool:
    """Whether compiling the step at a resolution wins clearly more time than it takes."""
    schedule = Schedule(config)
    phases = [phase for phase in schedule.phases if phase.resolution == resolution]
    g, d = config.networks()
    each = iteration_flops(g, d, level_of(resolution), schedule.n_critic) / schedule.n_critic
    saved = sum(phase.iterations * LAUNCHES + phase.images * each / flops * SHARE for phase in phases)
    return saved > MARGIN * _cost(resolution)


def _cost(resolution: int) -> float:
    return COST + COST_OF_A_LEVEL * (level_of(resolution) - 2)


def _kind(device: str) -> str:
    return device.partition(":")[0]


def describe(modes: dict[str, str], why: str) -> str:
    """`eager from 4x4, compiled from 64x64 (where compiling pays)`."""
    runs: list[tuple[str, str]] = []
    for side, mode in modes.items():
        if not runs or runs[-1][1] != mode:
            runs.append((side, mode))
    if len(runs) == 1:
        return f"{_words(runs[0][1])} ({why})"
    return ", ".join(f"{_words(mode)} from {side}x{side}" for side, mode in runs) + f" ({why})"


def _words(mode: str) -> str:
    *others, last = mode.split("|")
    return f"the fastest of {', '.join(others)} and {last}" if others else last


def by_level(resolved: dict[str, Any]) -> dict[int, str]:
    """The modes of a recorded run by level; runs of before have none: eager."""
    return {level_of(int(side)): mode for side, mode in resolved.get("modes", {}).items()}


def resolve_modes(config: TrainConfig, device: str) -> tuple[dict[str, str], str]:
    """`pick_modes` with what this machine and the run's objectives are."""
    from pggan.training.engine.loss_functions import make_objectives

    objectives = make_objectives(config.loss, config.label_size > 0, dict(config.loss_options), config.has_codes)
    unfit = [type(each).__name__ for each in objectives if not each.functional]
    wanted = config.mode in ("auto", "captured") and not unfit and _kind(device) == "cuda"
    missing = _missing_compiler(device) if wanted else None
    flops = _training_rate(config, device) if wanted and config.mode == "auto" and missing is None else 1.0
    return pick_modes(config, device, flops, missing, unfit)


def _missing_compiler(device: str) -> str | None:
    if _kind(device) == "cuda":
        from importlib.util import find_spec

        if find_spec("triton") is None:
            return "triton"
    if "CXX" in os.environ or any(shutil.which(name) for name in COMPILERS):
        return None
    return "C++ compiler (g++)"


def _training_rate(config: TrainConfig, device: str) -> float:
    """Of products large enough to fill a GPU, in what the run computes in."""
    from pggan.utils.devices import compute_dtype, pick_device, pick_precision

    precision = pick_precision(config.precision, pick_device(device))
    return matmul_rate(device, 4096, compute_dtype(precision))


def matmul_rate(device: str, side: int = 512, dtype: Any = None, seconds: float = MATMUL_SECONDS) -> float:
    """Floating-point operations a second of square matrix products on a device, measured; `dtype` None: float32."""
    import time

    import torch

    a = torch.randn(side, side, device=device).to(dtype or torch.float32)
    wait = partial(torch.cuda.synchronize, device) if _kind(device) == "cuda" else lambda: None
    for _ in range(2):
        a @ a
    wait()
    count, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        a @ a
        count += 1
        wait()
    return max(count, 1) * 2.0 * side**3 / passed
