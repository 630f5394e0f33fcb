"""Synthetic faces (`drawn:COUNT`): DiceBear's `toon-head` style over painted backgrounds, from a seed.

`drawn:4000` is images 0 to 3999; image i depends only on (seed, i). The style's choices are the labels.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.config.content.channels import RGBA
from pggan.data.label_columns import STEPS, LabelColumn
from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref, Source
from pggan.data.sources.image_io import convert_channels
from pggan.utils.errors import UsageError

STYLE = "toon-head"
DEFAULT_RESOLUTION = 256
MAX_COUNT = 100_000_000

# Label columns: what varies in shape, and what varies in colour.
PARTS = ("hair", "rearHair", "beard", "mouth", "eyes", "eyebrows", "clothes")
COLOURS = ("skin", "hair", "clothes")
# Names of the style's colours.
COLOUR_NAMES = {
    "skin": {"#5c3829": "dark", "#f1c3a5": "light", "#a36b4f": "brown", "#c68e7a": "tan", "#b98e6a": "olive"},
    "hair": {"#2c1b18": "black", "#d6b370": "blond", "#724133": "brown", "#a55728": "auburn", "#b58143": "caramel"},
    "clothes": {
        "#151613": "black", "#0b3286": "navy", "#545454": "grey", "#147f3c": "green", "#f97316": "orange",
        "#ec4899": "pink", "#731ac3": "violet", "#b11f1f": "red", "#e8e9e6": "white", "#eab308": "yellow",
    },
}  # fmt: skip
# Share of the images that have an optional part.
OPTIONAL = {"rearHair": 0.45, "beard": 0.3}
# Numbers that a head can have as labels: its size relative to the style's own frame, and how far it is to the right, as
# a share of the image's side.
NUMBERS = {
    "size": LabelColumn("size", bounds=(0.6, 1.25)),
    "shift": LabelColumn("shift", bounds=(-0.2, 0.2)),
}
ZOOM = (1.05, 1.25)  # of the head, relative to the style's own frame
SHIFT = 0.035  # largest random offset, as a fraction of the image
DROP = 0.03  # constant offset downwards, to leave room for the hair


@cache
def _definition() -> dict[str, Any]:
    return json.loads(files("dicebear_styles").joinpath(f"{STYLE}.json").read_text("utf-8"))


def _variants(part: str) -> list[str]:
    return list(_definition()["components"][part]["variants"])


def _colours(part: str) -> list[str]:
    return list(_definition()["colors"][part]["values"])


@cache
def _style() -> Any:
    """Parses the style, once per process."""
    from dicebear import Style

    return Style(_definition())


class DrawnReader(Reader):
    """Draws images (resolution, resolution, C). A reference's payload: the image's number."""

    def __init__(self, resolution: int, seed: int, numbers: tuple[str, ...] = ()) -> None:
        self.resolution, self.seed, self.numbers = resolution, seed, numbers

    def size(self, ref: Ref) -> tuple[int, int]:
        return self.resolution, self.resolution

    def read(self, ref: Ref, channels: int) -> DecodedImage:
        random = np.random.default_rng((self.seed, ref.payload))
        options, labels = self._draw_choices(random)
        # a stream of their own: without numbers as labels, the pictures stay the same
        shares = np.random.default_rng((self.seed, ref.payload, 1)).integers(STEPS + 1, size=len(NUMBERS))
        drawn = {name: int(entry) for name, entry in zip(NUMBERS, shares) if name in self.numbers}
        labels += tuple(drawn[name] for name in self.numbers)
        face = self._render(options, random, {name: NUMBERS[name].value(entry) for name, entry in drawn.items()})
        # RGBA: the head alone, over nothing
        image = face if channels == RGBA else _over(face, _background(self.resolution, random))
        return DecodedImage(convert_channels(image, channels)[0], labels=labels)

    def _draw_choices(self, random: np.random.Generator) -> tuple[dict[str, Any], tuple[int, ...]]:
        """Returns the style's options and the class numbers, in the order of PARTS, then COLOURS."""
        options: dict[str, Any] = {}
        labels: list[int] = []
        for part in PARTS:
            variants = _variants(part)
            present = random.random() < OPTIONAL.get(part, 1.0)
            chosen = int(random.integers(len(variants)))
            options[f"{part}Variant"] = variants[chosen]
            options[f"{part}Probability"] = 100 if present else 0
            # class 0 of an optional part is "none"
            labels.append((chosen + 1 if present else 0) if part in OPTIONAL else chosen)
        for part in COLOURS:
            values = _colours(part)
            chosen = int(random.integers(len(values)))
            options[f"{part}Color"] = values[chosen]
            labels.append(chosen)
        return options, tuple(labels)

    def _render(
        self, options: dict[str, Any], random: np.random.Generator, numbers: dict[str, float]
    ) -> NDArray[np.uint8]:
        """Returns the drawing, RGBA (R, R, 4). `numbers`: those that are not left to chance."""
        import resvg_py
        from dicebear import Avatar
        from PIL import Image

        svg = Avatar(_style(), {"seed": "face", **options}).to_string()
        zoom, shift = random.uniform(*ZOOM), random.uniform(-SHIFT, SHIFT, 2)
        shift[0] = -numbers.get("shift", -shift[0])  # the view moves the other way
        svg = _zoom(svg, numbers.get("size", zoom), shift)
        try:
            data = bytes(
                resvg_py.svg_to_bytes(svg, width=self.resolution, height=self.resolution, skip_system_fonts=True)
            )
        except ValueError as error:
            raise BadImage(f"not drawn: {error}") from None
        return np.asarray(Image.open(io.BytesIO(data), formats=["PNG"]).convert("RGBA"))


def _zoom(svg: str, zoom: float, shift: NDArray[np.float64]) -> str:
    """Changes the drawing's view box: enlarged by `zoom`, moved by `shift` (x, y) in fractions of its side."""
    match = re.search(r'viewBox="([-\d.]+) ([-\d.]+) ([-\d.]+) ([-\d.]+)"', svg)
    if match is None:
        return svg
    left, top, width, height = map(float, match.groups())
    side = width / zoom
    x = left + (width - side) / 2 + shift[0] * side
    y = top + (height - side) / 2 + (shift[1] - DROP) * side
    return svg[: match.start()] + f'viewBox="{x:.3f} {y:.3f} {side:.3f} {side:.3f}"' + svg[match.end() :]


def _over(face: NDArray[np.uint8], background: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Composites a drawing (R, R, 4) over a background (R, R, 3), which is changed in place."""
    alpha = face[:, :, 3:].astype(np.float32)
    alpha *= np.float32(1 / 255)
    background += alpha * (face[:, :, :3] - background)
    background += np.float32(0.5)  # rounds the conversion
    return background.astype(np.uint8)


def _background(side: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Returns (side, side, 3) from 0 to 255: two muted colours, blended along a direction or around a point."""
    near, far = random.uniform(70, 245, (2, 3)).astype(np.float32)
    far = near * np.float32(0.45) + far * np.float32(0.55)
    place = np.linspace(0, 1, side, dtype=np.float32)
    x, y = place[None, :], place[:, None]
    if random.random() < 0.6:
        angle = random.uniform(0, 2 * np.pi)
        along, across = np.float32(np.cos(angle) / 1.4143), np.float32(np.sin(angle) / 1.4143)
        t = along * (x - np.float32(0.5)) + (across * (y - np.float32(0.5)) + np.float32(0.5))
    else:
        middle = random.uniform(0.2, 0.8, 2).astype(np.float32)
        t = np.sqrt((x - middle[0]) ** 2 + (y - middle[1]) ** 2) * np.float32(1 / 1.2)
    return near + (far - near) * np.clip(t, 0, 1)[:, :, None]


class DrawnSource(Source):
    """`drawn:COUNT`."""

    scalable = True

    def __init__(self, spec: str) -> None:
        count = spec.partition(":")[2]
        if not count.isdecimal() or not 1 <= int(count) <= MAX_COUNT:
            raise UsageError(f"{spec!r} is not drawn:COUNT with a count from 1 to {MAX_COUNT}, such as drawn:4000")
        self._count, self._numbers = int(count), tuple[str, ...]()
        parts = {part: _variants(part) for part in PARTS} | {part: ["none", *_variants(part)] for part in OPTIONAL}
        colours = {
            f"{part}-colour": [COLOUR_NAMES[part].get(value.lower(), value) for value in _colours(part)]
            for part in COLOURS
        }
        self.label_columns = tuple(LabelColumn(name, tuple(classes)) for name, classes in {**parts, **colours}.items())
        self.attribution = f"{_definition()['meta']['license']['text']}; drawn by DiceBear"

    @staticmethod
    def sniff(spec: str) -> bool:
        return spec.partition(":")[0] == "drawn"

    def __len__(self) -> int:
        return self._count

    def refs(self) -> Iterable[Ref]:
        return (Ref(f"drawn {i}", i) for i in range(self._count))

    def reader(self, resolution: int, seed: int) -> Reader:
        return DrawnReader(resolution, seed, self._numbers)

    def with_numbers(self, names: tuple[str, ...]) -> DrawnSource:
        """Adds numbers to the labels, after which each head is drawn. Raises `UsageError` for others than NUMBERS."""
        if unknown := [name for name in names if name not in NUMBERS]:
            raise UsageError(f"--numbers {unknown[0]}: drawn heads have {', '.join(NUMBERS)}")
        if len(set(names)) < len(names):
            raise UsageError(f"--numbers {','.join(names)} names a number twice; name each once")
        self._numbers = names
        self.label_columns += tuple(NUMBERS[name] for name in names)
        return self
