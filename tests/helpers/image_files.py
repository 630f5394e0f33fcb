"""Pictures for the tests: smooth enough to survive JPEG, different from each other."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

# EXIF 2.3, 4.6.4 A: where row 0 and column 0 of the file are in the picture as it is shown
SHOWN = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}


def portrait(index: int, side: int = 32, height: int | None = None) -> Image.Image:
    """A colour gradient with a disc, decided by `index`."""
    random = np.random.default_rng(index)
    rows = height or side
    y, x = np.mgrid[0:rows, 0:side].astype(np.float64)
    colours = random.uniform(0, 255, (3, 3))
    values = colours[0] + (colours[1] - colours[0]) * (x / side)[..., None] * 0.7
    values[np.hypot(x - side / 2, y - rows / 2) < side / 4] = colours[2]
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def encoded(picture: Image.Image, format: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def write_folder(folder: Path, count: int, side: int = 32) -> Path:
    """PNGs "0.png" ... whose text order is not their natural order from 10 up."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        portrait(index, side).save(folder / f"{index}.png")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
