"""Ten classes of drawn grey shapes, 28x28, as idx files: what the lab uses where Fashion-MNIST is not at hand."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIDE = 28
NAMES = (
    "disc", "ring", "square", "frame", "triangle", "wedge", "plus", "saltire", "stripes", "crescent",
)  # fmt: skip
Field = NDArray[np.float64]


def draw(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pictures (count, 28, 28) and class numbers (count,), as many of each class; black ground, one shape in grey.

    Place, size, turn (up to 17 degrees either way) and grey vary; edges are smooth over a pixel.
    """
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % len(NAMES)).astype(np.uint8)
    images = np.stack([_draw_one(int(label), random) for label in labels])
    return images, labels


def _draw_one(label: int, random: np.random.Generator) -> NDArray[np.uint8]:
    radius, turn = random.uniform(6.5, 11), random.uniform(-0.3, 0.3)
    left, top = SIDE / 2 + random.uniform(-3, 3, 2)
    across, down = np.meshgrid(np.arange(SIDE) + 0.5 - left, np.arange(SIDE) + 0.5 - top)
    x = (np.cos(turn) * across + np.sin(turn) * down) / radius
    y = (np.cos(turn) * down - np.sin(turn) * across) / radius
    inside = np.clip(0.5 - _distance(NAMES[label], x, y) * radius, 0, 1)
    return np.round(inside * random.uniform(130, 255)).astype(np.uint8)


def _distance(name: str, x: Field, y: Field) -> Field:
    """About the distance to a shape's edge, below 0 inside; the shape has radius 1."""
    far, box = np.hypot(x, y), np.maximum(abs(x), abs(y))
    if name in ("triangle", "wedge"):
        y = y if name == "triangle" else -y
        return np.maximum(y - 0.7, 0.866 * abs(x) - 0.5 * y - 0.5)
    if name == "saltire":
        x, y = (x + y) / np.sqrt(2), (x - y) / np.sqrt(2)
    bars = np.minimum(np.maximum(abs(x) - 1, abs(y) - 0.25), np.maximum(abs(y) - 1, abs(x) - 0.25))
    fields = {
        "disc": far - 0.9,
        "ring": abs(far - 0.75) - 0.22,
        "square": box - 0.8,
        "frame": abs(box - 0.68) - 0.2,
        "plus": bars,
        "saltire": bars,
        "stripes": np.maximum(abs(x) - 0.9, abs(abs(y) - 0.5) - 0.25),
        "crescent": np.maximum(far - 0.95, 0.75 - np.hypot(x - 0.5, y)),
    }
    return fields[name]


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    """An idx file of bytes (the format of MNIST): two zeros, the type (8), the dimensions, their sizes, the values."""
    header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + np.ascontiguousarray(array).tobytes())


def make(folder: Path, count: int, seed: int) -> None:
    """Training files as Fashion-MNIST's: pictures and labels."""
    images, labels = draw(count, seed)
    write_idx(folder / "train-images-idx3-ubyte", images)
    write_idx(folder / "train-labels-idx1-ubyte", labels)
