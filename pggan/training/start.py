"""A configuration fitted to its data, and runs begun or taken up again: what the command line and scripts call."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pggan.config import TrainConfig
from pggan.errors import DataError, UsageError
from pggan.training.rundir import RunDirectory

if TYPE_CHECKING:
    from pggan.data.store import LabelColumn, Manifest
    from pggan.training.loop import Display, Outcome

# Faces drawn where no data is given, and their largest side unless one is asked for.
DRAWN_COUNT, DRAWN_RESOLUTION = 4000, 256


def fit_to_data(config: TrainConfig, manifest: Manifest, asked: int | None) -> TrainConfig:
    """The configuration with the data's channels, labels and, unless `asked`, at most its resolution.

    Raises `DataError` where the data lacks what is asked for.
    """
    largest = max(manifest.resolutions)
    if asked is not None and asked > largest:
        raise DataError(
            f"--max-res {asked} asked for, but the data ends at {largest}x{largest}; prepare it with "
            f"--max-res {asked}, or train with --max-res {largest}"
        )
    if manifest.count < 1:
        raise DataError("the data holds no pictures; prepare it again")
    return fit_to(config, largest, manifest.channels, manifest.labels)


def fit_to(config: TrainConfig, largest: int, channels: int, columns: Sequence[LabelColumn]) -> TrainConfig:
    classes = 0
    if config.labels is not None:
        named = {column.name: column for column in columns}
        if config.labels not in named:
            raise DataError(f"the data has no labels {config.labels!r}; it has: {', '.join(named) or 'none'}")
        classes = len(named[config.labels].classes)
    max_res = min(config.max_res, largest)
    if config.start_res > max_res:
        raise UsageError(f"--start-res {config.start_res} is above the data's {max_res}x{max_res}; give a lower one")
    return dataclasses.replace(config, max_res=max_res, channels=channels, label_size=classes)


def fit_to_drawn(config: TrainConfig, asked: int | None) -> TrainConfig:
    """The configuration for faces drawn on the spot."""
    from pggan.data.sources.drawn import DrawnSource

    columns = DrawnSource(f"drawn:{DRAWN_COUNT}").label_columns
    return fit_to(config, asked or min(config.max_res, DRAWN_RESOLUTION), 3, columns)


def resolve(config: TrainConfig) -> dict[str, Any]:
    """What "auto" becomes here, and the hardware and versions: recorded with the run."""
    import platform

    import torch

    from pggan.devices import pick_device, pick_precision

    device = pick_device(config.device)
    return {
        "device": str(device),
        "precision": pick_precision(config.precision, device),
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def begin(config: TrainConfig, out: Path, display: Display) -> Outcome:
    """A new run in the directory `out`. Raises `UsageError` where one lies there already."""
    from pggan.training.loop import Training

    resolved = resolve(config)
    run = RunDirectory(out)
    training = Training(config, resolved, run, display)
    run.create(config, resolved)
    return training.train()


def resume(run: RunDirectory, display: Display, device: str | None = None) -> Outcome:
    """Goes on with a run from its newest training state, with its recorded options."""
    from pggan.training.loop import Training

    config, resolved = run.read_options()
    if device is not None:
        moved = resolve(dataclasses.replace(config, device=device))
        resolved = {**moved, "precision": moved["precision"] if config.precision == "auto" else config.precision}
    training = Training(config, resolved, run, display)
    training.resume()
    return training.train()
