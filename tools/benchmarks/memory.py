"""What gradients take of memory by resolution and images at once: measured, and estimated as runs do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from benchmarks.measuring import Numbers, as_json, machine, show
from benchmarks.train import config_at
from pggan.config.presets import PRESETS
from pggan.config.train import PRECISIONS, level_of
from pggan.utils.errors import UsageError

COLUMNS = {
    "resolution": "resolution", "activations": "activations", "images": "at once", "estimate_mb": "estimate MiB",
    "measured_mb": "measured MiB", "tensors_mb": "in tensors MiB", "each": "an image, of estimate",
    "each_tensors": "in tensors",
}  # fmt: skip


@click.command("memory")
@click.option("--resolutions", type=Numbers(), help="Default: 4 to 1024 (CPU: 4 to 32).")
@click.option("--precision", type=click.Choice(PRECISIONS), default="auto", show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--preset", default="celebahq-v2-8gpu", show_default=True, type=click.Choice(PRESETS.names()))
@click.option("--batch", type=click.IntRange(1), help="Default: the preset's (CPU: 16 at most).")
@click.option("--stddev-group", type=click.IntRange(1), help="Fewest images at once. Default: the preset's.")
@click.option("--fmap-base", type=int, help="Default: the preset's, on a CPU 512 with 64 maps at most.")
@click.option("--fmap-max", type=int)
@click.option("--sizes", type=click.IntRange(1), default=3, show_default=True, help="How many, from the fewest up.")
@click.option("--tensors", is_flag=True, help="On a CPU: what torch's tensors take alone, too (twice the time).")
@as_json
def command(as_json: bool, **given: Any) -> None:
    """Peak of gradients of D and of G, one after the other, above what the networks alone hold.

    On a GPU that is torch's own count, on a CPU the process's resident memory: more than its tensors, as the C library
    keeps pieces. The last columns: what each further image adds, as a share of the estimate.
    """
    from pggan.utils.devices import can_measure, pick_device, pick_precision

    device = pick_device(given["device"])
    if not can_measure(device):
        raise UsageError("this system does not tell how much memory a process took")
    precision = pick_precision(given["precision"], device)
    rows: list[dict[str, Any]] = []
    for side in given["resolutions"] or [2**level for level in range(2, 11 if device.type == "cuda" else 6)]:
        rows += measured(given, side, device, precision)
        click.echo(f"measured {side}x{side}", err=True)
    show({"machine": machine(), "device": str(device), "precision": precision, "rows": rows}, "rows", COLUMNS, as_json)


def measured(given: dict[str, Any], side: int, device: Any, precision: str) -> list[dict[str, Any]]:
    """Returns a row for each number of images at once, activations kept and checkpointed."""
    from pggan.training.engine.memory_estimate import image_bytes, micro_batch_sizes, pass_bytes, value_bytes_of
    from pggan.training.engine.memory_trial import measure_micro_batch
    from pggan.training.engine.state import TrainState
    from pggan.training.engine.step_executor import StepExecutor

    config = config_at(given, side, device.type)
    config = replace(config, stddev_group=given["stddev_group"] or config.stddev_group)
    executor, level, rows = StepExecutor(TrainState(config, device, precision)), level_of(side), []
    sizes = micro_batch_sizes(config, 1)[side][: given["sizes"]]
    for again in (False, True):
        if again:
            executor.checkpoint(level)
        # the profiler keeps memory of its own: last
        peaks = [measure_micro_batch(executor, level, images) or math.inf for images in sizes]
        tensors = [tensors_of(executor, level, images) if given["tensors"] else None for images in sizes]

        def estimate(images: int, again: bool = again) -> float:
            each = image_bytes(config, side, value_bytes_of(precision), again, device.type)
            return images * each + pass_bytes(config, side, again)

        rows += _rows(side, again, list(zip(sizes, peaks, tensors)), estimate)
    return rows


def _rows(
    side: int, again: bool, found: list[tuple[int, float, float | None]], estimate: Callable[[int], float]
) -> list[dict[str, Any]]:
    rows, each = [], estimate(2) - estimate(1)
    for images, bytes_, tensors in found:
        row: dict[str, Any] = {"resolution": side, "activations": "again" if again else "kept", "images": images}
        row |= {"estimate_mb": estimate(images) / 2**20, "measured_mb": _mb(bytes_), "tensors_mb": _mb(tensors)}
        first = found[0]
        if images > first[0] and math.isfinite(bytes_):
            row["each"] = (bytes_ - first[1]) / (images - first[0]) / each
            if tensors is not None and first[2] is not None:
                row["each_tensors"] = (tensors - first[2]) / (images - first[0]) / each
        rows.append(row)
    return rows


def _mb(bytes_: float | None) -> float | None:
    return None if bytes_ is None or math.isinf(bytes_) else bytes_ / 2**20


def tensors_of(executor: Any, level: int, images: int) -> float:
    """Returns the most bytes that torch allocated and had not freed at a time, by its profiler."""
    from torch.profiler import profile

    from pggan.training.engine.memory_trial import compute_micro_batch

    with profile(profile_memory=True) as seen:
        compute_micro_batch(executor, level, images)
    held = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return float(most)
