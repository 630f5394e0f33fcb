"""The plan of a run, phase by phase, as JSON and as a text table; nothing is trained (torch-free)."""

from __future__ import annotations

from typing import Any

from pggan.config.losses import REGULARIZERS
from pggan.config.option import flag_of
from pggan.config.train import TrainConfig, level_of
from pggan.networks.flops import iteration_flops, parameters


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
            "iterations": phase.iterations,
            # at its start
            **dict(zip(("g_lr", "d_lr"), schedule.rates(phase.start, phase.resolution))),
            "g_parameters": parameters(g, phase.level),
            "d_parameters": parameters(d, phase.level),
            "gflop_per_image": round(iteration_flops(g, d, phase.level, schedule.n_critic) / 1e9, 3),
        }
        for phase in schedule.phases
    ]
    return {
        "phases": phases, "total_kimg": schedule.total / 1000, "n_critic": schedule.n_critic, "loss": config.loss,
        "regularizers": config.regularizers(), "lr_warmup_kimg": config.lr_warmup,
        "schedules": {name: {"start": value.plain, "end": value.end} for name, value in config.schedules().items()},
    }  # fmt: skip


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
    flops = sum(row["gflop_per_image"] * row["images"] for row in planned["phases"]) * 1e9
    lines.append(
        f"in all {planned['total_kimg']:g} kimg (thousand images shown to D), {flops / 1e15:.3g} PFLOP; "
        f"loss {planned['loss']}, {planned['n_critic']} D step{'s' if planned['n_critic'] > 1 else ''} for each G step"
        f"{suffix}"
    )
    return "\n".join(lines)
