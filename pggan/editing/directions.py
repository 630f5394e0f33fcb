"""Finds directions in latent space that change images in a nameable way.

Every function returns a `DirectionSet`; `measure_effects` says how strongly each changes the images. Directions of a
model with a mapping network lie in w.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.editing.directions_file import DirectionSet
from pggan.editing.fits import Fit, fit_classes, fit_values
from pggan.editing.image_scores import IMAGE_SCORES, score_images
from pggan.editing.latent_space import Spread, first_dense_weight, space_of
from pggan.editing.latents_file import LatentSet
from pggan.editing.model_identity import ModelIdentity
from pggan.editing.seed_bank import SEEDS, seed_bank
from pggan.editing.sphere import orthogonal, unit
from pggan.editing.task import UNWATCHED, Task
from pggan.generation.model import Model
from pggan.generation.to_uint8 import to_uint8
from pggan.utils.errors import ModelError, UsageError

COUNT = 6  # directions of SeFa and of principal components
EFFECT_SEEDS, RANDOM_DIRECTIONS = 8, 16
# Level at which effects are measured, where the model has a higher one: larger images would take minutes on a CPU.
EFFECT_LEVEL = 7
# How far latents are moved to measure an effect: degrees in z, standard deviations in w.
EFFECT_AMOUNT = {"z": 25.0, "w": 2.0}
_UNIT = {"z": "degrees", "w": "spreads"}
# A class that fewer of the images belong to is told by whether its logit is above the median instead.
FEWEST_MEMBERS = 0.05


def find_sefa(model: Model, count: int = COUNT) -> DirectionSet:
    """Finds directions in closed form (Shen and Zhou 2021, SeFa).

    They are the eigenvectors of W^T W with the largest eigenvalues; W is the weight of the first dense layer, with rows
    of unit length. Raises `UsageError` for more directions than the latent has dimensions.
    """
    weight = unit(first_dense_weight(model).numpy())
    count = _checked_count(count, model)
    values, vectors = np.linalg.eigh(weight.T @ weight)
    order = np.argsort(-values)[:count]
    share = values / values.sum()
    return _direction_set(
        model,
        {f"sefa{n}": (vectors[:, row], {"eigenvalue_share": float(share[row])}) for n, row in enumerate(order)},
        "sefa",
    )


def find_components(
    model: Model, count: int = COUNT, seeds: int = SEEDS, label: int | str | None = None, task: Task = UNWATCHED
) -> DirectionSet:
    """Finds directions that predict the principal components of images at 16x16, by least squares.

    Args:
        model: The model.
        count: Number of components.
        seeds: Number of images.
        label: As `Model.generate` takes it; None: each seed's own.
        task: Counts images.

    Returns:
        Directions `pca0`, ...; figures: the component's share of the variance, and R^2 on held-out seeds.
    """
    bank = seed_bank(model, seeds, label, task)
    rows = bank.thumbnails.reshape(len(bank.thumbnails), -1).astype(np.float64)
    rows = rows - rows.mean(axis=0)
    count = min(_checked_count(count, model), rows.shape[1], len(rows) - 1)
    components, values, _ = np.linalg.svd(rows, full_matrices=False)
    share = values**2 / (values**2).sum()
    fits = {}
    for n in range(count):
        fit = fit_values(_fit_inputs(bank.latents, model), components[:, n] * values[n])
        fits[f"pca{n}"] = (fit.direction, {"variance_share": float(share[n]), "r2": fit.figure})
    return _direction_set(model, fits, "pca")


def find_scores(
    model: Model,
    names: Sequence[str] = tuple(IMAGE_SCORES),
    seeds: int = SEEDS,
    label: int | str | None = None,
    task: Task = UNWATCHED,
) -> DirectionSet:
    """Finds the direction of each score (see `image_scores`) of the images of seeds 0 to `seeds` - 1.

    Figure: R^2 on held-out seeds. Errors are those of `score_images` and `fit_values`.
    """
    latents = LatentSet.of_seeds(model, range(seeds), label)
    return fit_scores(model, latents, score_images(model, latents, tuple(names), task))


def fit_scores(model: Model, latents: LatentSet, scores: Mapping[str, NDArray[np.floating]]) -> DirectionSet:
    """Finds the direction of each of any scores (N,) of latents, by least squares; figure: R^2 on the last fifth.

    Latents without a score (NaN), as those whose image shows no face, are left out.
    """
    rows, fits = _fit_inputs(latents, model), {}
    for name, values in scores.items():
        known = ~np.isnan(values)
        if not known.any():
            raise UsageError(f"none of {len(values)} pictures has a score {name}; do they show faces?")
        fits[name] = fit_values(rows[known], values[known])
    return _of_fits(model, fits, "scores", "r2")


def find_marks(
    model: Model, yes: Sequence[int], no: Sequence[int], name: str = "marked", label: int | str | None = None
) -> DirectionSet:
    """Finds the direction from seeds that lack something to seeds that have it, by logistic regression.

    `label` is the class with which the seeds were looked at; None: each seed's own.

    Figure: accuracy on seeds that the fit has not seen. Raises `UsageError` for a seed on both sides, or too few.
    """
    if both := {*yes} & {*no}:
        raise UsageError(f"seed {min(both)} is marked both yes and no; give it one mark")
    latents = LatentSet.of_seeds(model, [*yes, *no], label)
    is_member = np.arange(len(latents)) < len(yes)
    return _of_fits(model, {name: fit_classes(_fit_inputs(latents, model), is_member)}, "marks", "accuracy")


def find_classes(
    model: Model, seeds: int = SEEDS, label: int | str | None = None, task: Task = UNWATCHED
) -> DirectionSet:
    """Finds the direction of every class that the model's discriminator tells, by logistic regression.

    An image belongs to the class with the largest logit of its column. Where nearly none or nearly all do, as in a
    conditional model that obeys its label, the images with a logit above the median stand for the class.

    Figures: accuracy on held-out seeds, the share of members, and what a member is.

    Raises `ModelError` for a model whose file keeps no discriminator, `UsageError` for one without class logits.
    """
    names = model.classes
    if not names:
        raise UsageError("this model has no classes; give --from scores or marks, or train with labels")
    if model.file.discriminator is None:
        raise ModelError(f"{model.name} keeps no discriminator, which tells the classes; use one of a run's models")
    latents = LatentSet.of_seeds(model, range(seeds), label)
    logits = _class_logits(model, latents, task)
    rows = _fit_inputs(latents, model)
    fits: dict[str, tuple[NDArray[np.float64], dict[str, Any]]] = {}
    start = 0
    for column in model.labels.columns:
        block = logits[:, start : start + column.width]
        for number in range(column.width):
            member, kind = block.argmax(axis=1) == number, "largest logit"
            if column.width == 1 or not FEWEST_MEMBERS <= member.mean() <= 1 - FEWEST_MEMBERS:
                member = block[:, number] > np.median(block[:, number])
                kind = "number above the median" if column.is_number else "logit above the median"
            fit = fit_classes(rows, member)
            figures = {"accuracy": fit.figure, "members": float(member.mean()), "member": kind}
            name = column.name if column.is_number else names[start + number]
            fits[name] = (fit.direction, figures)
        start += column.width
    return _direction_set(model, fits, "labels")


def keep_fixed(directions: DirectionSet, *others: DirectionSet) -> DirectionSet:
    """Makes directions orthogonal to all others, so that moving along one leaves their properties as they are.

    That holds as far as properties are linear.

    Raises `UsageError` where a direction lies within the others.
    """
    vectors = orthogonal(directions.vectors, np.concatenate([other.vectors for other in others]))
    for name, vector in zip(directions.names, vectors):
        if not vector.any():
            raise UsageError(f"the direction {name} is one of those to keep; leave one of them out")
    names = [name for other in others for name in other.names]
    figures = tuple({**figures, "orthogonal_to": names} for figures in directions.figures)
    return replace(directions, vectors=vectors.astype(np.float32), figures=figures)


def measure_effects(
    model: Model,
    directions: DirectionSet,
    amount: float | None = None,
    label: int | str | None = None,
    task: Task = UNWATCHED,
) -> DirectionSet:
    """Adds to each direction its effect: the mean change of the image, in units of a random direction's.

    The change is the mean absolute difference of the 8-bit images of 8 seeds at plus and minus `amount` (25 degrees, of
    a model with a mapping network 2 standard deviations of w); a random direction's is the mean over 16 of them. Of
    models above 128x128 the images are those of the level 128x128. The order becomes that of the effect. `task` counts
    images.
    """
    space = space_of(model)
    amount = EFFECT_AMOUNT[space] if amount is None else amount
    latents = LatentSet.of_seeds(model, range(EFFECT_SEEDS), label)
    base = _small_images(model, latents)
    random = unit(np.random.RandomState(0).randn(RANDOM_DIRECTIONS, model.latent_size))
    reference = float(np.mean([_change(model, latents, base, row, amount, task) for row in random]))
    figures = []
    for vector, known in zip(directions.vectors, directions.figures):
        change = _change(model, latents, base, vector, amount, task)
        figures.append({**known, "change": change, "effect": change / max(reference, 1e-9), _UNIT[space]: amount})
    return replace(directions, figures=tuple(figures)).by_effect()


def effect_images(count: int) -> int:
    """Returns how many images `measure_effects` computes for `count` directions."""
    return 2 * EFFECT_SEEDS * (count + RANDOM_DIRECTIONS)


def _small_images(model: Model, latents: LatentSet) -> NDArray[np.int16]:
    """Returns the 8-bit images of a few latents, at 128x128 where the model's are larger."""
    taker = latents.taker(model)
    if taker.file.level <= EFFECT_LEVEL:
        return latents.images(model).astype(np.int16)
    return to_uint8(taker.synthesize(latents.inputs, latents.labels, EFFECT_LEVEL, 1.0)).astype(np.int16)


def _change(
    model: Model, latents: LatentSet, base: NDArray[np.int16], vector: NDArray[np.floating], amount: float, task: Task
) -> float:
    changes = []
    for sign in (-1, 1):
        moved = _small_images(model, latents.moved(model, vector, sign * amount))
        changes.append(float(np.abs(moved - base).mean()))
        task.advance(len(latents))
    return float(np.mean(changes))


def _class_logits(model: Model, latents: LatentSet, task: Task) -> NDArray[np.float64]:
    size, rows = model.batch_size(), []
    for start in range(0, len(latents), size):
        part = latents.select(range(start, min(start + size, len(latents))))
        for image in model.synthesize(part.inputs, part.labels):  # each alone: see `discriminator_scores`
            logits = model.discriminator(image[None]).class_logits
            if logits is None:
                raise UsageError(f"the discriminator of {model.name} tells no classes; give --from scores or marks")
            rows.append(logits[0].cpu().double().numpy())
        task.advance(len(part))
    return np.stack(rows)


def _fit_inputs(latents: LatentSet, model: Model) -> NDArray[np.float64]:
    """Returns what fits take: latents z on the sphere, or w about its average, both with elements of unit variance."""
    if space_of(model) == "z":
        return unit(latents.z) * np.sqrt(model.latent_size)
    spread = Spread.of(model)
    return np.asarray((latents.in_w(model).z - spread.average) / max(spread.scale, 1e-12), np.float64)


def _checked_count(count: int, model: Model) -> int:
    if not 1 <= count <= model.latent_size:
        raise UsageError(f"{count} directions are not from 1 to {model.latent_size}, the size of the latent")
    return count


def _of_fits(model: Model, fits: Mapping[str, Fit], method: str, figure: str) -> DirectionSet:
    return _direction_set(model, {name: (fit.direction, {figure: fit.figure}) for name, fit in fits.items()}, method)


def _direction_set(
    model: Model, parts: Mapping[str, tuple[NDArray[np.floating], dict[str, Any]]], method: str
) -> DirectionSet:
    vectors = unit(np.stack([vector for vector, _ in parts.values()])).astype(np.float32)
    figures = tuple({"from": method, **figures} for _, figures in parts.values())
    return DirectionSet(vectors, tuple(parts), figures, ModelIdentity.of(model), space_of(model))
