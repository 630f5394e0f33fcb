"""Points as latents that other commands take: the entry of a PNG, and the latents file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pggan.editing.latent_sources import latent_entry
from pggan.editing.latents_file import LatentSet
from pggan.utils.errors import UsageError
from pggan.web.session.points import Point, from_latent, label_vector, unmoved
from pggan.web.session.screen import Screen

if TYPE_CHECKING:
    from pggan.web.explorer import Explorer

# How far the numbers of a latent may be from those that were stored: rounding, which no pixel shows.
ROUNDING = 1e-3


def latent_set(explorer: Explorer, points: Sequence[tuple[Point, Screen, str]]) -> LatentSet:
    """Returns the latents of points with the screens that their directions belong to, and their names.

    Raises `UsageError` for a mixed picture.
    """
    for point, _, name in points:
        if point.mix is not None:
            raise UsageError(f"{name} is mixed of two pictures, which no single latent makes; remove it first")
    space, identity = explorer.space, explorer.shelf.loaded("").identity
    rows = np.stack([explorer.row(point, screen) for point, screen, _ in points])
    labels = np.stack([label_vector(point, space) for point, _, _ in points])
    width = space.latent_size
    names = different([name for _, _, name in points])
    origins = tuple(_origin(point) for point, _, _ in points)
    if space.mapped is not None:
        return LatentSet(rows, names, origins, identity, space="w")
    return LatentSet(
        rows[:, :width], names, origins, identity,
        labels if space.labels.size else None, rows[:, width:] if space.codes.size else None,
    )  # fmt: skip


def point_of(explorer: Explorer, latents: LatentSet) -> Point:
    """Returns the point of the first of some latents of the model, with the classes that its labels are nearest to."""
    latents = latents.in_space_of(explorer.model)
    classes: tuple[int, ...] = ()
    if latents.labels is not None:
        classes = explorer.space.labels.row_of(latents.labels[0])
    return from_latent(latents.inputs[0], classes)


def storable(explorer: Explorer, point: Point, screen: Screen) -> Point:
    """Returns a point to store: the second picture of its mix is a latent without moves, which directions may leave."""
    if point.mix is None or not point.mix.other.moves:
        return point
    other = point.mix.other
    latent = explorer.row(other, screen).astype("<f4").tobytes()
    return replace(point, mix=replace(point.mix, other=unmoved(other, latent, explorer.space)))


def restored(explorer: Explorer, point: Point, latent: bytes, screen: Screen) -> Point:
    """Returns a point that was stored with its latent, which replaces moves that no longer lead there.

    Their directions may be gone since, or taught anew, or others are locked.
    """
    if not point.moves:
        return point
    row = explorer.row(point, screen)
    same = np.allclose(row, np.frombuffer(latent, "<f4"), rtol=0, atol=ROUNDING)
    return point if same else unmoved(point, latent, explorer.space)


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
