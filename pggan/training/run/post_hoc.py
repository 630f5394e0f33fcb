"""Post-hoc averages: a generator's average of any length, built after the training from what snapshots keep.

A run with --power-averages keeps two power-function averages in each snapshot. A weighted sum of them has a profile
(how much the generator of each moment counts) that is nearest to that of the length asked for, by least squares
(Karras et al. 2024, EDM2, section 3.2 and appendix C). The averages start anew with each resolution, for a network that
has grown is another one; so the profile goes over the images since the last resolution began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pggan.config.model_metadata import ModelMetadata, label_layout
from pggan.config.strict_json import is_kind
from pggan.networks.ema import LONGEST, SHORTEST, power_exponent
from pggan.networks.model_file import ModelFile, load_model
from pggan.training.engine.progress import MAX_COUNT
from pggan.training.run.directory import RunDirectory, images_of
from pggan.training.run.snapshots import POWER
from pggan.utils.errors import ModelError, TrainingError, UsageError

# Lengths that a search tries.
LENGTHS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25)


@dataclass(frozen=True)
class StoredAverage:
    """A power-function average that a snapshot keeps."""

    path: Path
    nimg: int  # images seen by the run
    level: int  # log2 of the resolution
    length: float
    images: int  # over which the average goes


@dataclass(frozen=True)
class PostHoc:
    """A generator's average that was built afterwards."""

    model: ModelFile
    files: int  # of which it is made
    # share of the wanted profile that the sum lacks: || sum - wanted || / || wanted ||; 0: exact
    error: float


def stored_averages(run: RunDirectory, kimg: float | None = None) -> list[StoredAverage]:
    """Returns the averages of one resolution, oldest first.

    Args:
        run: The run.
        kimg: Images of the snapshot at which they end, in thousands; None: of the newest one.

    Raises:
        TrainingError: The run keeps none, or has no such snapshot.
        UsageError: `kimg` is no number of images.
        ModelError: A file is damaged.
    """
    run.read_options()
    paths = sorted(run.averages.glob("average-*-*.safetensors"), key=images_of) if run.averages.is_dir() else []
    if not paths:
        raise TrainingError(
            f"{run.path} keeps no power-function averages, of which others are made; train with --power-averages, or "
            "average whole snapshots with --snapshots"
        )
    last = images_of(paths[-1]) if kimg is None else _images(kimg)
    stored = [_read(path) for path in paths if images_of(path) <= last]
    if not stored or stored[-1].nimg != last:
        raise TrainingError(f"{run.path} has no averages of {last / 1000:g} kimg; {_known(paths)}")
    return [each for each in stored if each.level == stored[-1].level]


def _images(kimg: float) -> int:
    if not 0 <= kimg <= MAX_COUNT / 1000:  # NaN, too
        raise UsageError(f"{kimg:g} kimg is no number of images; give that of a snapshot, as in its file's name")
    return round(kimg * 1000)


def _known(paths: Iterable[Path]) -> str:
    kimg = sorted({images_of(path) for path in paths})
    shown = [f"{nimg / 1000:g}" for nimg in (kimg if len(kimg) <= 12 else [*kimg[:4], *kimg[-4:]])]
    return f"there are {', '.join(shown)}" if len(kimg) <= 12 else f"there are {len(kimg)}, such as {', '.join(shown)}"


def _read(path: Path) -> StoredAverage:
    about = ModelMetadata.read(path)
    power = about.info.get(POWER)
    if not isinstance(power, dict) or not is_kind(power, dict[str, float]) or not {"length", "images"} <= power.keys():
        raise ModelError(f"{path} does not say what average it is; remove it")
    length, images = float(power["length"]), int(power["images"])
    if not (SHORTEST <= length <= LONGEST and images > 0):
        raise ModelError(f"{path} is an average of an impossible length; remove it")
    return StoredAverage(path, images_of(path), about.level, length, images)


def inner_products(ends: Sequence[float], exponents: Sequence[float]) -> NDArray[np.float64]:
    """Returns the integrals (N, N) of the products of profiles `(x + 1) t^x / end^(x + 1)` on [0, end].

    With m = min(a, b): (x + 1)(y + 1) / (x + y + 1) * (m / a)^(x + 1) * (m / b)^(y + 1) / m.
    """
    end, power = np.asarray(ends, np.float64), np.asarray(exponents, np.float64) + 1
    least = np.minimum(end[:, None], end[None])
    scale = power[:, None] * power[None] / (power[:, None] + power[None] - 1)
    products = (least / end[:, None]) ** power[:, None] * (least / end[None]) ** power[None]
    return np.asarray(products * scale / least, np.float64)


def solve_weights(ends: Sequence[float], lengths: Sequence[float], length: float) -> tuple[NDArray[np.float64], float]:
    """Finds the sum of stored profiles that is nearest to a profile of `length` at the last of `ends`.

    Args:
        ends: Images over which each stored average goes.
        lengths: Of the stored averages.
        length: The one wanted.

    Returns:
        The weights (N,), whose sum is 1, and what the sum of profiles lacks, as a share of the wanted one's norm.
    """
    wanted = float(max(ends))
    share = np.asarray([*ends, wanted], np.float64) / wanted
    products = inner_products(list(share), [power_exponent(each) for each in (*lengths, length)])
    gram, target, norm = products[:-1, :-1], products[:-1, -1], products[-1, -1]
    free, direction = np.linalg.lstsq(gram, np.stack([target, np.ones_like(target)], axis=1), rcond=1e-12)[0].T
    # of another sum, all parameters would be scaled by it: least squares under that condition (a Lagrange multiplier)
    weights = np.asarray(free + (1 - free.sum()) / direction.sum() * direction, np.float64)
    rest = norm - 2 * weights @ target + weights @ gram @ weights
    return weights, float(np.sqrt(max(0.0, rest) / norm))


def check_length(length: float) -> None:
    """Raises `UsageError` where there is no average of that length."""
    if not SHORTEST <= length <= LONGEST:
        raise UsageError(
            f"{length:g} is no length of an average; give {SHORTEST:g} to {LONGEST:g}, which is nearly a plain mean"
        )


def build_average(run: RunDirectory | Path | str, length: float, kimg: float | None = None) -> PostHoc:
    """Builds the generator's average of any length, at a snapshot.

    Args:
        run: A run with `power_averages`.
        length: Standard deviation of the profile, as a share of the images since the resolution began.
        kimg: Of the snapshot, in thousands of images; None: the newest one.

    Raises:
        UsageError: There is no average of that length.
        TrainingError: The run keeps no averages, or has no such snapshot.
        ModelError: A file is damaged.
    """
    check_length(length)
    stored = stored_averages(run if isinstance(run, RunDirectory) else RunDirectory(Path(run)), kimg)
    weights, error = solve_weights([s.images for s in stored], [s.length for s in stored], length)
    about = {"length": length, "images": stored[-1].images, "files": len(stored), "error": error}
    model = _weighted([s.path for s in stored], [*weights])
    info = {name: value for name, value in model.info.items() if name != POWER}
    return PostHoc(replace(model, info={**info, "post_hoc": about}), len(stored), error)


def average_snapshots(run: RunDirectory | Path | str, kimg: Sequence[float]) -> PostHoc:
    """Builds the plain mean of the generators (EMA) of several snapshots of one resolution.

    Args:
        run: Any run.
        kimg: Of the snapshots, in thousands of images.

    Raises:
        TrainingError: The run has no such snapshot, or they are of several resolutions.
        UsageError: A snapshot is named twice, or there is only one.
    """
    run = run if isinstance(run, RunDirectory) else RunDirectory(Path(run))
    run.read_options()
    nimg = sorted(map(_images, kimg))
    if len(set(nimg)) < max(2, len(nimg)):
        raise UsageError("--snapshots: name two or more snapshots, each once, as 100,110,120 (kimg)")
    paths = {images_of(path): path for path in run.models()}
    if missing := [each for each in nimg if each not in paths]:
        raise TrainingError(f"{run.path} has no model of {missing[0] / 1000:g} kimg; {_known(paths.values())}")
    chosen = [paths[each] for each in nimg]
    if len({ModelMetadata.read(path).level for path in chosen}) > 1:
        raise TrainingError("--snapshots: these are of several resolutions; name those of one")
    model = _weighted(chosen, [1 / len(chosen)] * len(chosen))
    about = {"snapshots": [each / 1000 for each in nimg]}
    return PostHoc(replace(model, trained=None, info={**model.info, "post_hoc": about}), len(chosen), 0.0)


def _weighted(paths: Sequence[Path], weights: Sequence[float]) -> ModelFile:
    """Returns the last file's contents with the weighted sum of all generators' parameters, in float64 one by one."""
    sums: dict[str, torch.Tensor] = {}
    for path, weight in zip(paths, weights, strict=True):
        model = load_model(path)
        for name, parameter in model.generator.named_parameters():
            term = parameter.detach().double() * float(weight)
            sums[name] = sums[name] + term if name in sums else term
    with torch.no_grad():
        for name, parameter in model.generator.named_parameters():
            parameter.copy_(sums[name])
        if model.generator.mapping is not None:
            layout = label_layout(model.labels, model.generator.config.label_size)
            model.generator.mapping.average.copy_(model.generator.average_w(layout))
    model.info.pop("best", None)
    return model


def search(
    run: RunDirectory, lengths: Sequence[float], score: Callable[[ModelFile], float], better: str, kimg: float | None
) -> tuple[PostHoc, list[dict[str, Any]]]:
    """Builds averages of several lengths; returns the best one, and length, score and error of each.

    Args:
        run: A run with `power_averages`.
        lengths: To try.
        score: Measures a model.
        better: "lower" or "higher".
        kimg: Of the snapshot; None: the newest one.
    """
    sign = 1 if better == "lower" else -1
    rows: list[dict[str, Any]] = []
    best: tuple[float, PostHoc] | None = None
    for length in lengths:
        built = build_average(run, length, kimg)
        value = score(built.model)
        rows.append({"length": length, "score": value, "error": built.error})
        if best is None or sign * value < sign * best[0]:
            best = value, built
    assert best is not None, "there are lengths to try"
    return best[1], rows
