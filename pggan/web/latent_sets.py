"""Points as latents that other commands take: the entry of a PNG, and the latents file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pggan.editing.latent_sources import latent_entry
from pggan.editing.latents_file import LatentSet
from pggan.editing.model_identity import ModelIdentity
from pggan.web.session.points import Point, from_latent, label_vector, latent_of
from pggan.web.session.screen import Screen

if TYPE_CHECKING:
    from pggan.web.explorer import Explorer


def latent_set(explorer: Explorer, points: Sequence[tuple[Point, Screen, str]]) -> LatentSet:
    """Returns the latents of points with the screens that their directions belong to, and their names."""
    space = explorer.space
    rows = np.stack([latent_of(point, space, explorer.directions(screen)) for point, screen, _ in points])
    labels = np.stack([label_vector(point, space) for point, _, _ in points])
    width = space.latent_size
    names = different([name for _, _, name in points])
    origins = tuple(_origin(point) for point, _, _ in points)
    if space.mapped is not None:
        return LatentSet(rows, names, origins, ModelIdentity.of(explorer.model), space="w")
    return LatentSet(
        rows[:, :width], names, origins, ModelIdentity.of(explorer.model),
        labels if space.labels.size else None, rows[:, width:] if space.codes.size else None,
    )  # fmt: skip


def point_of(explorer: Explorer, latents: LatentSet) -> Point:
    """Returns the point of the first of some latents of the model, with the classes that its labels are nearest to."""
    latents = latents.in_space_of(explorer.model)
    classes: tuple[int, ...] = ()
    if latents.labels is not None:
        classes = explorer.space.labels.row_of(latents.labels[0])
    return from_latent(latents.inputs[0], classes)


def png_entry(explorer: Explorer, point: Point, screen: Screen, name: str) -> dict[str, Any]:
    """Returns what `pggan generate --latents PICTURE.png` reads: nothing for a seed, which says it all."""
    return latent_entry(latent_set(explorer, [(point, screen, name)]), 0)


def _origin(point: Point) -> dict[str, Any]:
    if point.seed is not None and not point.moves:
        return {"seed": point.seed}
    edit = {"moves": dict(point.moves)} if point.moves else {}
    return {"edit": {**edit, "seed": point.seed} if point.seed is not None else edit}


def different(names: Sequence[str], mark: str = "-") -> tuple[str, ...]:
    """Returns names of which no two are alike: a number behind a mark tells equal ones apart."""
    used: dict[str, None] = {}
    for name in names:
        own, number = name, 1
        while own in used:
            number += 1
            own = f"{name}{mark}{number}"
        used[own] = None
    return tuple(used)
