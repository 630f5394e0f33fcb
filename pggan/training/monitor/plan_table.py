"""The plan of a run, phase by phase, as JSON and as a text table; nothing is trained (torch-free).

Beside it the bound of a card's peak rates, and what the recipe for eight GPUs does on a large one.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from pggan.config.losses import REGULARIZERS
from pggan.config.option import flag_of
from pggan.config.presets import PRESETS
from pggan.config.schedule import Phase, Schedule
from pggan.config.train import TrainConfig, level_of
from pggan.networks.flops import d_passes, floor_seconds, iteration_flops, parameters
from pggan.training.engine.memory_estimate import fixed_bytes, image_bytes, pass_bytes, value_bytes_of
from pggan.utils.errors import UsageError
from pggan.utils.formatting import figure, size

# The published recipe with the largest batches, and those that it can stand in for on one large GPU.
LARGEST = "celebahq-v2-8gpu"
SMALLER = tuple(f"celebahq-v2-{gpus}gpu" for gpus in (1, 2, 4))
# What NVIDIA's drivers make on Linux and in its guests on Windows: without, a plan need not wait for torch.
DRIVERS = ("/dev/nvidiactl", "/dev/dxg")


def sizes(config: TrainConfig) -> list[dict[str, Any]]:
    """Returns the parameters of G and D that are active at every resolution; one RGB layer counts."""
    g, d = config.networks()
    levels = map(level_of, config.resolutions())
    return [{"resolution": 2**level, "g": parameters(g, level), "d": parameters(d, level)} for level in levels]


def plan(config: TrainConfig) -> dict[str, Any]:
    """Returns a run's phases with their images, batch sizes, learning rates, parameters and FLOPs, as JSON values."""
    schedule = config.schedule
    g, d = config.networks()
    phases = [
        {
            "resolution": phase.resolution,
            "detail": 2**phase.detail,
            "kind": "fade" if phase.fading else "stable",
            "start_kimg": phase.start / 1000,
            "end_kimg": phase.end / 1000,
            "images": phase.images,
            "batch": phase.batch,
            "iterations": _iterations(schedule, phase),
            # at its start
            **dict(zip(("g_lr", "d_lr"), schedule.rates(phase.start, phase.resolution))),
            "g_parameters": parameters(g, phase.level),
            "d_parameters": parameters(d, phase.level),
            "gflop_per_image": round(  # shown to D
                iteration_flops(g, d, phase.level, schedule.n_critic, d_passes(config)) / schedule.n_critic / 1e9, 3
            ),
        }
        for phase in schedule.phases
    ]
    return {
        "phases": phases, "total_kimg": schedule.total / 1000, "n_critic": schedule.n_critic, "loss": config.loss,
        "regularizers": config.regularizers(), "lr_warmup_kimg": config.lr_warmup,
        "schedules": {name: {"start": value.plain, "end": value.end} for name, value in config.schedules().items()},
    }  # fmt: skip


def total_flops(planned: dict[str, Any]) -> float:
    """Returns the floating-point operations of a whole run. `planned`: what `plan` returned."""
    return float(sum(row["gflop_per_image"] * row["images"] for row in planned["phases"]) * 1e9)


def table(config: TrainConfig) -> str:
    """Formats the plan as a text table."""
    planned = plan(config)
    lines = [
        f"{'phase':>5}  {'resolution':>10}  {'kind':<6}  {'kimg':>17}  {'batch':>5}  {'iterations':>10}  "
        f"{'lr G / D':>15}  {'G params':>9}  {'D params':>9}  {'GFLOP/img':>9}"
    ]
    for number, row in enumerate(planned["phases"], start=1):
        side = f"{row['resolution']}x{row['resolution']}"
        if row["detail"] != row["resolution"]:
            side = f"{row['detail']} of {row['resolution']}"
        span = f"{row['start_kimg']:g} - {row['end_kimg']:g}"
        rates = f"{row['g_lr']:g} / {row['d_lr']:g}"
        lines.append(
            f"{number:>5}  {side:>10}  {row['kind']:<6}  {span:>17}  {row['batch']:>5}  {row['iterations']:>10,}  "
            f"{rates:>15}  {row['g_parameters'] / 1e6:>8.3f}M  {row['d_parameters'] / 1e6:>8.3f}M  "
            f"{row['gflop_per_image']:>9g}"
        )
    changing = [f"{flag_of(name)} {value['start']:g}..{value['end']:g}" for name, value in planned["schedules"].items()]
    if planned["lr_warmup_kimg"]:
        changing.append(f"learning rates from 0 in {planned['lr_warmup_kimg']:g} kimg")
    if changing:
        lines.append(f"over the run: {', '.join(changing)}")
    techniques = [name for name in planned["regularizers"] if REGULARIZERS[name].switch or REGULARIZERS[name].joins]
    suffix = f"; with {', '.join(techniques)}" if techniques else ""
    lines.append(
        f"in all {planned['total_kimg']:g} kimg (thousand images shown to D), {total_flops(planned) / 1e15:.3g} PFLOP; "
        f"loss {planned['loss']}, {planned['n_critic']} D step{'s' if planned['n_critic'] > 1 else ''} for each G step"
        f"{suffix}"
    )
    return "\n".join(lines)


def bound(config: TrainConfig, tflops: float, gigabytes: float) -> dict[str, Any]:
    """Returns the hours that a run takes at least on a card, as JSON values: a roofline, not a measurement.

    Args:
        config: The run's configuration.
        tflops: Peak rate of the card in the run's precision, 10^12 operations a second.
        gigabytes: Peak rate of its memory, 10^9 bytes a second.
    """
    schedule, networks = config.schedule, config.networks()
    value_bytes, passes = _value_bytes(config), d_passes(config)
    hours = dict.fromkeys(config.resolutions(), 0.0)
    for phase in schedule.phases:
        of_image = floor_seconds(
            *networks, phase.level, tflops * 1e12, gigabytes * 1e9, value_bytes, schedule.n_critic, passes
        )
        hours[phase.resolution] += phase.images * of_image / 3600
    by_resolution = {str(side): each for side, each in hours.items()}
    return {
        "peak_tflops": tflops, "peak_bandwidth": gigabytes, "hours_at_least": sum(hours.values()),
        "by_resolution": by_resolution, "measured": False,
    }  # fmt: skip


def describe_bound(values: dict[str, Any]) -> str:
    """Formats `bound`: `at least 2.1 hours on a card of 989 TFLOP/s and 4,800 GB/s (...)`."""
    hours, total = values["by_resolution"], values["hours_at_least"]
    parts = ", ".join(f"{side}x{side} {figure(each)}" for side, each in hours.items() if each >= 0.05 * total)
    return (
        f"at least {figure(total)} hours on a card of {values['peak_tflops']:,g} TFLOP/s and "
        f"{values['peak_bandwidth']:,g} GB/s ({parts}): a bound from its peak rates, not a measurement; runs take "
        "longer, often several times as long"
    )


def _iterations(schedule: Schedule, phase: Phase) -> int:
    return -(-phase.d_steps // schedule.n_critic)


def _value_bytes(config: TrainConfig) -> int:
    """Returns the bytes of a value on a GPU; `auto` is half precision on those of today."""
    return 2 if config.precision == "auto" else value_bytes_of(config.precision)


def large_card(config: TrainConfig, memory: float | None) -> dict[str, Any] | None:
    """Returns what the recipe for eight GPUs would do on one large GPU, as JSON values; None for other recipes.

    Args:
        config: A run by a recipe for fewer GPUs, with the recipe's batches.
        memory: Bytes of the GPU; None: unknown.
    """
    names = ("batch", "g_lr", "d_lr")
    if config.preset not in SMALLER:
        return None
    recipe, own = PRESETS[LARGEST].values, PRESETS[config.preset].values
    value_bytes, sides = _value_bytes(config), config.resolutions()
    other = any(getattr(config, name) != own[name] for name in names)
    if other or own["batch"].at(sides[-1]) == recipe["batch"].at(sides[-1]):
        return None
    large = replace(config, preset=LARGEST, **{name: recipe[name] for name in names})
    need = max(
        pass_bytes(large, side, False) + large.batch.at(side) * image_bytes(large, side, value_bytes, False, "cuda")
        for side in sides
    )
    need += fixed_bytes(large, "cuda")
    iterations, instead_of = (
        sum(_iterations(each.schedule, phase) for phase in each.schedule.phases) for each in (large, config)
    )
    return {
        "preset": LARGEST, "iterations": iterations, "instead_of": instead_of, "bytes": need,
        "fits": None if memory is None else need <= memory, "resolution": sides[-1],
        "batches": [int(each.batch.at(sides[-1])) for each in (config, large)],
        "rates": [each.schedule.phases[-1].g_lr for each in (config, large)],
    }  # fmt: skip


def describe_large_card(values: dict[str, Any]) -> str:
    """Formats `large_card`: as an offer where the memory is there."""
    side, (batch, larger), (rate, higher) = values["resolution"], values["batches"], values["rates"]
    fits = {None: "", True: ", which is there", False: ", which is not there"}[values["fits"]]
    return (
        f"on one large GPU --preset {values['preset']} takes {values['iterations']:,} iterations instead of "
        f"{values['instead_of']:,} (batches of {larger} at {side}x{side}, not {batch}), which fill it better; it is "
        f"another recipe (learning rate {higher:g} there, not {rate:g}) and takes {size(values['bytes'])} of memory by "
        f"estimate{fits}"
    )


def card_plan(config: TrainConfig, peaks: tuple[float, float] | None) -> tuple[dict[str, Any], list[str]]:
    """Returns what the plan says of a GPU, as JSON values and in lines: of this machine's, or of a stated one.

    Args:
        config: The run's configuration.
        peaks: TFLOP/s and GB/s of a card, for `bound`; None: none is stated.
    """
    values: dict[str, Any] = {}
    lines = []
    if peaks is not None:
        values["bound"] = bound(config, *peaks)
        lines.append(describe_bound(values["bound"]))
    memory = _gpu_memory(config)
    if memory is None and peaks is None:
        return values, lines
    known = [limit for limit in (memory, config.budget) if limit is not None]
    if (large := large_card(config, min(known, default=None))) is not None:
        values["large_card"] = large
        lines.append(describe_large_card(large))
    return values, lines


def _gpu_memory(config: TrainConfig) -> float | None:
    """Returns the bytes of this machine's CUDA GPU; None where the run would not use one."""
    if not (config.device.startswith("cuda") or (config.device == "auto" and any(map(os.path.exists, DRIVERS)))):
        return None
    import torch

    from pggan.utils.devices import pick_device

    try:
        device = pick_device(config.device)
    except UsageError:  # a plan for another machine
        return None
    return float(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else None
