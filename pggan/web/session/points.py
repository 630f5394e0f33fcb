"""What a picture is made of: a seed or a latent, with classes, codes, moves along directions and a second parent.

A `Point` is small, immutable and hashable; it travels as JSON between page, URL, PNG entries and favourites.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.generation.labels import LabelSpace
from pggan.generation.latent_walks import slerp
from pggan.generation.seeds import MAX_SEED
from pggan.networks.latents import CodeSpace, seed_latents
from pggan.utils.errors import UsageError
from pggan.web.session.fields import base64_bytes, choice, integer, mapping, number, text
from pggan.web.session.mapped import Mapped

Vector = NDArray[np.float32]

# A slider's reach each way in degrees.
MOST_DEGREES = 25.0
MOST_MOVES, MOST_NAME = 64, 80
# Side of the square mask of a mix, a byte a cell.
MASK_SIDE = 16
# Children of two parents: shares of the second one, and how far brothers and sisters are turned.
CHILD_SHARES, CHILD_DEGREES = (0.3, 0.5, 0.7), 15.0
_ZERO = 1e-12


@dataclass(frozen=True)
class Space:
    """Which points a model can draw: sizes of its latents, its codes, labels and levels."""

    latent_size: int
    codes: CodeSpace
    labels: LabelSpace
    min_level: int
    max_level: int
    mapped: Mapped | None = None  # of a model with a mapping network: latents and moves are w

    @property
    def width(self) -> int:
        """Numbers of a latent with its codes; of w, which holds them, without."""
        return self.latent_size + (self.codes.size if self.mapped is None else 0)


@dataclass(frozen=True)
class Mix:
    """A second parent: its feature maps replace the first one's at a level, where the mask says so."""

    other: Point
    level: int  # 2**level: the resolution of the feature maps that are mixed
    share: float  # of the other where there is no mask, 0 to 1
    mask: bytes | None = None  # MASK_SIDE x MASK_SIDE shares of the other, 255 is all


@dataclass(frozen=True)
class Point:
    """A picture's origin: `seed`, or else `latent`."""

    seed: int | None = None
    latent: bytes | None = None  # float32, little-endian: latent and codes, or w
    classes: tuple[int | None, ...] = ()  # of each label column; None: the seed's own
    codes: tuple[tuple[int, float], ...] = ()  # number and value of codes that were set
    moves: tuple[tuple[str, float], ...] = ()  # direction, and degrees or standard deviations of w
    mix: Mix | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the form that `parse_point` reads."""
        data: dict[str, Any] = {}
        if self.latent is not None:
            data["z"] = base64.b64encode(self.latent).decode()
        else:
            data["seed"] = self.seed
        if any(number is not None for number in self.classes):
            data["classes"] = list(self.classes)
        if self.codes:
            data["codes"] = {str(code): value for code, value in self.codes}
        if self.moves:
            data["moves"] = dict(self.moves)
        if self.mix is not None:
            mask = {} if self.mix.mask is None else {"mask": base64.b64encode(self.mix.mask).decode()}
            mixed = {"with": self.mix.other.to_json(), "level": self.mix.level, "share": self.mix.share}
            data["mix"] = {**mixed, **mask}
        return data


def from_latent(row: NDArray[np.floating], classes: tuple[int | None, ...] = ()) -> Point:
    """Returns the point of a latent with its codes (latent_size + codes.size,)."""
    return Point(latent=np.ascontiguousarray(row, dtype="<f4").tobytes(), classes=classes)


def parse_point(value: Any, space: Space, depth: int = 0) -> Point:
    """Reads a point's JSON.

    Raises:
        UsageError: It is none, or the model cannot draw it.
    """
    data = mapping(value, 8, "a picture's description")
    seed: int | None = None
    latent: bytes | None = None
    if "z" in data:
        latent = base64_bytes(data["z"], 4 * space.width, "the latent")
        row = np.frombuffer(latent, "<f4")
        if not np.isfinite(row).all() or np.abs(row).max(initial=0) > 1e6:
            raise UsageError("the latent holds values that are no finite numbers")
    else:
        seed = integer(data.get("seed"), 0, MAX_SEED, "the seed")
    moves = mapping(data.get("moves", {}), MOST_MOVES, "moves")
    return Point(
        seed,
        latent,
        _parse_classes(data.get("classes"), space),
        _parse_codes(data.get("codes", {}), space),
        tuple(
            (text(name, MOST_NAME, "a direction"), number(degrees, -90, 90, "degrees"))
            for name, degrees in sorted(moves.items())
            if degrees != 0
        ),
        _parse_mix(data["mix"], space, depth) if data.get("mix") is not None else None,
    )


def _parse_classes(value: Any, space: Space) -> tuple[int | None, ...]:
    columns = space.labels.columns
    if value is None:
        return (None,) * len(columns)
    if not isinstance(value, list) or len(value) != len(columns):
        raise UsageError(f"classes have to be a list of {len(columns)}, one for each label column")
    return tuple(
        None if entry is None else integer(entry, 0, column.limit - 1, f"the class of {column.name}")
        for entry, column in zip(value, columns)
    )


def _parse_codes(value: Any, space: Space) -> tuple[tuple[int, float], ...]:
    codes = []
    scratch = np.zeros((1, space.codes.size), np.float32)
    for name, setting in sorted(mapping(value, 256, "codes").items()):
        code = int(name) if name.isascii() and name.isdecimal() and len(name) < 5 else -1
        setting = number(setting, -1e6, 1e6, "a code's value")
        space.codes.set_code(scratch, code, setting)  # raises for one that is not there
        codes.append((code, setting))
    return tuple(codes)


def _parse_mix(value: Any, space: Space, depth: int) -> Mix:
    if depth:
        raise UsageError("a picture is mixed with one other, which is not mixed itself")
    data = mapping(value, 4, "a mix")
    mask = data.get("mask")
    return Mix(
        parse_point(data.get("with"), space, depth + 1),
        integer(data.get("level"), space.min_level, space.max_level, "the level of the mix"),
        number(data.get("share", 1.0), 0, 1, "the share of the mix"),
        None if mask is None else base64_bytes(mask, MASK_SIDE**2, "the mask"),
    )


def base_latent(point: Point, space: Space) -> Vector:
    """Returns the latent with its codes, (latent_size + codes.size,), before the moves; or w (latent_size,)."""
    if point.latent is not None and space.mapped is not None:
        return np.frombuffer(point.latent, "<f4").astype(np.float32)
    row = input_of(point, space)
    return row if space.mapped is None else space.mapped.to_w(row, space.labels.vectors([classes_of(point, space)])[0])


def input_of(point: Point, space: Space) -> Vector:
    """Returns what a model takes for a seed, or for a latent z: (latent_size + codes.size,), before the moves."""
    if point.latent is not None:
        row: Vector = np.frombuffer(point.latent, "<f4").astype(np.float32)
    else:
        assert point.seed is not None
        seeds = [point.seed]
        row = np.concatenate([seed_latents(seeds, space.latent_size), space.codes.of_seeds(seeds)], axis=1)[0]
    for code, value in point.codes:
        space.codes.set_code(row[None, space.latent_size :], code, value)
    return row


def latent_of(point: Point, space: Space, directions: Mapping[str, Vector]) -> Vector:
    """Returns the latent with its codes, (latent_size + codes.size,), moved along its directions.

    Moves add up on the sphere (its exponential map), so that their order does not matter. Unknown directions, of a
    rack that is gone, are left out. Moves of w add up along straight lines.
    """
    row = base_latent(point, space)
    if space.mapped is not None:
        return row + offset_of(point, space, directions)
    noise = row[: space.latent_size].astype(np.float64)
    length = float(np.linalg.norm(noise))
    if length < _ZERO:
        return row
    unit = noise / length
    tangent = np.zeros_like(unit)
    for name, degrees in point.moves:
        if name not in directions:
            continue
        across = directions[name].astype(np.float64)
        across = across - (across @ unit) * unit
        size = float(np.linalg.norm(across))
        if size > _ZERO:
            tangent += np.radians(degrees) / size * across
    angle = float(np.linalg.norm(tangent))
    if angle > _ZERO:
        moved = np.cos(angle) * unit + np.sin(angle) / angle * tangent
        row[: space.latent_size] = (length * moved).astype(np.float32)
    return row


def unmoved(point: Point, latent: bytes, space: Space) -> Point:
    """Returns a point with the latent that its moves have led to, instead of them; its class stays."""
    return replace(point, seed=None, latent=latent, classes=classes_of(point, space), codes=(), moves=())


def offset_of(point: Point, space: Space, directions: Mapping[str, Vector]) -> Vector:
    """Returns the sum (latent_size,) of a point's moves of w."""
    total = np.zeros(space.latent_size, np.float32)
    if space.mapped is not None:
        for name, spreads in point.moves:
            if name in directions:
                total += space.mapped.step(directions[name], spreads)
    return total


def classes_of(point: Point, space: Space) -> tuple[int, ...]:
    """Returns the class number of each label column: the point's, else its seed's own, else 0."""
    own = space.labels.drawn(point.seed, space.latent_size) if point.seed is not None and space.labels.columns else ()
    given = point.classes or (None,) * len(space.labels.columns)
    return tuple(number if number is not None else (own[column] if own else 0) for column, number in enumerate(given))


def label_vector(point: Point, space: Space) -> Vector:
    """Returns the label vector (label_size,) of a point; none of w, which holds it."""
    if space.mapped is not None:
        return np.zeros(0, np.float32)
    return space.labels.vectors([classes_of(point, space)])[0]


def family(point: Point, space: Space, directions: Mapping[str, Vector], degrees: float, count: int) -> list[Point]:
    """Returns `count` points that are `degrees` away from a point, in random directions. The same ones every time."""
    row = latent_of(point, space, directions)
    if space.mapped is not None:
        return [from_latent(relative) for relative in space.mapped.relatives(row, degrees, count)]
    random = np.random.default_rng(np.frombuffer(row.tobytes(), np.uint8).astype(np.uint32))
    classes, children = classes_of(point, space), []
    for _ in range(count):
        across = random.standard_normal(space.latent_size).astype(np.float32)
        turned = latent_of(replace(from_latent(row), moves=(("across", degrees),)), space, {"across": across})
        children.append(from_latent(turned, classes))
    return children


def children(first: Point, second: Point, space: Space, directions: Mapping[str, Vector]) -> list[Point]:
    """Returns nine points between two: a row of three for each share of the second one, each a small turn apart."""
    a, b = (latent_of(parent, space, directions) for parent in (first, second))
    classes = [classes_of(parent, space) for parent in (first, second)]
    born = []
    for share in CHILD_SHARES:
        row = (1 - share) * a + share * b
        if space.mapped is None:
            row[: space.latent_size] = slerp(a[: space.latent_size], b[: space.latent_size], share)
        middle = from_latent(row, classes[share > 0.5] if space.mapped is None else ())
        born += [middle, *family(middle, space, directions, CHILD_DEGREES, 2)]
    return born


def parse_quality(value: Any) -> str:
    """Returns "moving" (small and quick) or "still" (exact)."""
    return choice(value, ("moving", "still"), "quality")
