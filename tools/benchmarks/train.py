"""Images a second of training by resolution and mode, beside what the chip could do."""

from __future__ import annotations

import json
import resource
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import click

from benchmarks.measuring import Numbers, Rate, machine, processor_seconds, rate, show, synchronize
from pggan.config.presets import PRESETS, configure
from pggan.config.train import PRECISIONS, PerResolution, TrainConfig, level_of
from pggan.networks.flops import floor_seconds

MODES = ("eager", "compiled", "captured", "captured-eager")
# In the order of what they tell: half of a schedule's time, launches and middle sizes, then what lies between.
GPU_RESOLUTIONS = (1024, 64, 256, 4, 512, 16, 128, 32, 8)
# On a CPU networks of full width take minutes an image.
CPU_WIDTH = {"fmap_base": 512, "fmap_max": 64, "latent_size": 64}
COPY_BYTES = {"cpu": 256 << 20}  # on GPUs four times that
COLUMNS = {
    "resolution": "resolution", "mode": "mode", "joined": "joined", "threads": "threads", "batch": "batch",
    "rate": "img/s", "ms": "ms/img",
    "processor_ms": "CPU ms/img", "floor_ms": "floor ms/img", "of_floor": "of floor", "parts": "parts",
    "memory_mb": "peak MB", "start": "start s", "start_processor": "start CPU s",
}  # fmt: skip


@click.command("train")
@click.option("--resolutions", type=Numbers(), help="Default: all, what tells most first (CPU: 4 to 32).")
@click.option("--mode", "modes", multiple=True, type=click.Choice(MODES), help="Default: all (CPU: eager, compiled).")
@click.option("--precision", type=click.Choice(PRECISIONS), default="auto", show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--preset", default="celebahq-v2-8gpu", show_default=True, type=click.Choice(PRESETS.names()))
@click.option("--batch", type=click.IntRange(1), help="Images an iteration. Default: the preset's (CPU: 16 at most).")
@click.option("--fmap-base", type=int, help="Default: the preset's, on a CPU 512 with 64 maps at most.")
@click.option("--fmap-max", type=int)
@click.option(
    "--joined", type=Numbers(), metavar="LEVEL,...", help="Levels up to which D judges reals and fakes in one batch."
)
@click.option("--threads", type=Numbers(), metavar="N,...", help="Threads of a CPU. Default: as a run has them.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Measurements of each figure.")
@click.option("--seconds", type=float, default=1.0, show_default=True, help="Length of a measurement.")
@click.option("--profile", is_flag=True, help="Tell, too, in which operations each mode's time goes.")
@click.option("--time-limit", type=click.FloatRange(0), metavar="MINUTES", help="Begin no resolution after that long.")
@click.option(
    "--json",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the figures there, too, after each resolution.",
)
def command(file: Path | None, **given: Any) -> None:
    """Training by resolution: rate, share of the floor, peak memory, start-up time, projected length of the schedule.

    The floor: each weight layer's arithmetic at the measured rate of large matrix products, or its activations read and
    written once at the measured rate of copying, whichever takes longer. "start": until the first iteration was done.
    "CPU": processor time, which other programs hardly change; with TORCHINDUCTOR_COMPILE_THREADS=1 the start counts
    the compiler's, too.
    Peak memory on a GPU is what torch took for the mode, CUDA graphs included; on a CPU the process's, from its start.
    "parts": micro-batches, where memory was short of the whole batch. "joined": --joined's level, log2 of the side; -:
    the device's own. Modes are measured in turns, side by side. The
    projection is for each mode, and for the fastest at every resolution.
    """
    import torch

    from pggan.utils.devices import pick_device, pick_precision

    device = pick_device(given["device"])
    given["modes"] = given["modes"] or MODES[: {"cpu": 2, "cuda": None}.get(device.type, 1)]
    precision = pick_precision(given["precision"], device)
    chip = _chip(device, precision)
    about = {"device": str(device), "precision": precision, "torch": torch.__version__, **chip}
    if device.type == "cuda":
        about["gpu"] = torch.cuda.get_device_name(device)
    rows: list[dict[str, Any]] = []
    limit, begun = given["time_limit"], time.monotonic()
    for side in given["resolutions"] or (GPU_RESOLUTIONS if device.type == "cuda" else (4, 8, 16, 32)):
        level_of(side)
        if rows and limit is not None and time.monotonic() - begun > 60 * limit:
            click.echo(f"--time-limit: {side}x{side} and what follows it were not measured", err=True)
            break
        rows += _measured(config_at(given, side, device.type), side, given, str(device), precision, chip)
        click.echo(f"measured {side}x{side}", err=True)
        result = _result(given, about, rows, file)
    show(result, "rows", COLUMNS, False)
    _tell(result, given, device.type)


def _result(
    given: dict[str, Any], about: dict[str, Any], rows: list[dict[str, Any]], file: Path | None
) -> dict[str, Any]:
    """Returns what was measured so far, with the hours of a whole schedule, and writes it where asked for."""
    hours = {mode: _hours(given, rows, {mode}) for mode in given["modes"]}
    if len(hours) > 1:
        hours["fastest"] = _hours(given, rows, set(given["modes"]))
    ordered = sorted(rows, key=lambda row: row["resolution"])
    result = {"machine": machine(), **about, "rows": ordered, "projected_hours": hours}
    if file is not None:
        file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def _chip(device: Any, precision: str) -> dict[str, float]:
    """What the floor is made of, measured here: operations and copied bytes (read and written) a second."""
    import torch

    from pggan.utils.devices import compute_dtype, set_precision

    set_precision(precision)
    large = 8192 if device.type == "cuda" else 1024
    matrix = torch.randn(large, large, device=device).to(compute_dtype(precision))

    def multiply() -> int:
        matrix @ matrix
        synchronize(device)
        return 2 * large**3

    multiply()
    flops = max(rate(multiply, 0.5).wall for _ in range(3))
    source = torch.empty(COPY_BYTES.get(device.type, 1 << 30), dtype=torch.uint8, device=device).fill_(1)
    target = torch.empty_like(source)

    def copy() -> int:
        target.copy_(source)
        synchronize(device)
        return 2 * source.numel()

    copy()
    return {"flops": flops, "bytes": max(rate(copy, 0.3).wall for _ in range(3))}


def config_at(given: dict[str, Any], side: int, kind: str) -> TrainConfig:
    """The preset at one resolution, with the widths and the batch that were asked for."""
    width = {name: given.get(name) or (size if kind == "cpu" else None) for name, size in CPU_WIDTH.items()}
    asked = {"start_res": side, "max_res": side, "precision": given["precision"], "device": given["device"], **width}
    config = configure(given["preset"], asked)
    preset_batch = int(config.batch.at(side))
    batch = given["batch"] or (min(16, preset_batch) if kind == "cpu" else preset_batch)
    return replace(config, batch=PerResolution(batch), total_kimg=None)


def _measured(
    config: TrainConfig, side: int, given: dict[str, Any], device: str, precision: str, chip: dict[str, float]
) -> list[dict[str, Any]]:
    """A row for each mode; rounds go over all of them, so that what disturbs one disturbs its peers."""
    from benchmarks.training import Trainer, operations

    value_bytes = 2 if precision in ("bf16", "fp16") else 4
    floor = floor_seconds(*config.networks(), level_of(side), chip["flops"], chip["bytes"], value_bytes)
    trainers, rows = [], []
    for mode, joined, threads in product(given["modes"], given["joined"] or [None], given["threads"] or [None]):
        held = _begin_peak(device)
        trainer = Trainer(config, device, mode, joined, threads)
        start, processor = time.perf_counter(), processor_seconds()
        trainer.step()
        trainer.wait()
        started, processor = time.perf_counter() - start, processor_seconds() - processor
        trainer.step()
        trainer.wait()
        trainers.append(trainer)
        batch, peak = trainer.scheduled.batch, _peak(device) - held
        rows.append({"resolution": side, "mode": mode, "batch": batch, "start": started, "memory_mb": peak / 2**20})
        rows[-1] |= {"joined": joined, "threads": trainer.threads, "start_processor": processor}
        rows[-1]["parts"] = trainer.executor.num_micro_batches(trainer.scheduled.level, batch)
        if (taken := trainer.mode) != mode:
            reason = next((line for line in trainer.notes if "could not be" in line), "activations are computed again")
            rows[-1] |= {"mode": f"{mode} ({taken})", "fell_back": reason}
    measured: list[list[Rate]] = [[] for _ in trainers]
    for _ in range(given["rounds"]):
        for trainer, rates in zip(trainers, measured):
            rates.append(rate(trainer.step, given["seconds"], trainer.wait))
    for row, rates in zip(rows, measured):
        walls = [each.wall for each in rates]
        each = 1 / median(walls)
        row |= {"rate": 1 / each, "ms": each * 1e3, "floor_ms": floor * 1e3, "of_floor": floor / each, "rates": walls}
        row["processor_ms"] = 1e3 / median(each.cpu for each in rates)
    if given["profile"]:
        for row, trainer in zip(rows, trainers):
            row["operations"] = operations(trainer)
    return rows


def _begin_peak(device: str) -> float:
    """Bytes that torch holds of a GPU for other modes' networks, from which the next peak counts."""
    if not device.startswith("cuda"):
        return 0.0
    import torch

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return float(torch.cuda.memory_reserved(device))


def _peak(device: str) -> float:
    if device.startswith("cuda"):
        import torch

        return float(torch.cuda.max_memory_reserved(device))  # the memory of CUDA graphs is in it
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def _hours(given: dict[str, Any], rows: list[dict[str, Any]], modes: set[str]) -> float | None:
    """The preset's whole schedule at the rate of the fastest of `modes`; None where a resolution was not measured."""

    rates: dict[int, float] = {}
    for row in rows:
        if row["mode"] in modes:
            rates[row["resolution"]] = max(row["rate"], rates.get(row["resolution"], 0.0))
    phases = configure(given["preset"], {}).schedule.phases
    if any(phase.resolution not in rates for phase in phases):
        return None
    return sum(phase.images / rates[phase.resolution] for phase in phases) / 3600


def _tell(result: dict[str, Any], given: dict[str, Any], kind: str) -> None:
    click.echo(f"measured here: {result['flops'] / 1e9:,.0f} GFLOP/s in {result['precision']}, "
               f"{result['bytes'] / 1e9:.1f} GB/s copied")  # fmt: skip
    for row in result["rows"]:
        if "fell_back" in row:
            click.echo(f"{row['resolution']}x{row['resolution']}: {row['fell_back']}")
    for row in result["rows"]:
        if "operations" in row:
            shares = ", ".join(f"{name} {share:.0%}" for name, share in list(row["operations"].items())[:8])
            click.echo(f"{row['resolution']}x{row['resolution']} {row['mode']}: {shares}")
    for mode, hours in result["projected_hours"].items():
        if hours is not None:
            wide = "" if kind == "cuda" and not given["fmap_base"] else " with networks of this width"
            click.echo(f"projected, {mode}: {hours:.1f} hours for the whole schedule of {given['preset']}{wide}")
