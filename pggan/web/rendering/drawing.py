"""Draws pictures of a model in batches, as the bytes that a browser shows."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pggan.config.content.channels import over
from pggan.data.sources.image_io import to_pil
from pggan.editing.latent_space import space_of, takes_w, to_w
from pggan.generation.grid import Images
from pggan.generation.images import encode_png
from pggan.generation.level_features import synthesize_blend
from pggan.generation.model import Model
from pggan.generation.to_uint8 import to_uint8
from pggan.web.session.points import MASK_SIDE

# Sides up to which a still picture is a PNG, to the last bit; larger ones are nearly lossless JPEGs. Saving is exact.
PNG_SIDE = 256
MOVING_QUALITY, STILL_QUALITY = 88, 95
# Milliseconds that a picture may take while a slider moves: with encoding and the way to the page it stays below 60.
MOVING_MS = 34.0
# Milliseconds of the slowest level that is measured.
MEASURED_MS = 90.0
# What a quick picture leaves of the time that the next level is thought to take.
RETRY = 0.95


@dataclass(frozen=True)
class Latent:
    """What a picture is made of: latent z with codes and labels, or w, which a snapshot's own mapping makes of them."""

    values: bytes  # float32
    labels: bytes = b""  # float32 label vector; empty: a model without labels, or w
    space: str = "z"
    offset: bytes = b""  # float32 (latent_size,), that is added to w; empty: none

    def in_w(self, model: Model) -> NDArray[np.float32]:
        """Returns w (latent_size,) by a model's own mapping network."""
        row = np.frombuffer(self.values, "<f4").astype(np.float32)
        if self.space == "z":
            labels = np.frombuffer(self.labels, "<f4")[None] if model.label_size else None
            row = to_w(model, row[None], labels)[0]
        return row + np.frombuffer(self.offset, "<f4") if self.offset else row


def latent_rows(
    model: Model, latents: Sequence[Latent]
) -> tuple[Model, NDArray[np.float32], NDArray[np.float32] | None]:
    """Returns latents as rows for `Model.synthesize`, their labels, and the model that takes them."""
    if space_of(model) == "w":
        return takes_w(model), np.stack([latent.in_w(model) for latent in latents]), None
    rows = np.stack([np.frombuffer(latent.values, "<f4") for latent in latents])
    labels = np.stack([np.frombuffer(latent.labels, "<f4") for latent in latents]) if model.label_size else None
    return model, rows, labels


@dataclass(frozen=True)
class Blend:
    """A second latent whose feature maps come in at a level."""

    latent: Latent
    level: int
    share: float
    mask: bytes | None


@dataclass(frozen=True)
class Drawing:
    """A picture to draw. Equal ones are the same picture."""

    latent: Latent
    level: int
    alpha: float
    snapshot: str = ""
    quality: str = "still"  # or "moving"
    blend: Blend | None = None

    @property
    def batch_key(self) -> tuple[object, ...]:
        """Drawings with the same key can be computed together."""
        return (self.snapshot, self.level, self.alpha, id(self) if self.blend else None)


@dataclass(frozen=True)
class Encoded:
    """A picture as a browser shows it."""

    kind: str  # MIME type
    data: bytes
    side: int


def drawn_level(model: Model, level: int, alpha: float) -> tuple[int, float]:
    """Returns the level and alpha that are drawn where these are asked for: a model's own where it ends below."""
    return (level, alpha) if level <= model.file.level else (model.file.level, model.file.alpha)


def draw(model: Model, drawings: Sequence[Drawing]) -> Images:
    """Computes drawings of one level and alpha: uint8 (N, R, R, C)."""
    return to_uint8(raw_images(model, drawings))


def raw_images(model: Model, drawings: Sequence[Drawing]) -> Tensor:
    """Computes drawings of one level and alpha: network output (N, C, R, R)."""
    if drawings[0].blend is not None:
        return torch.cat([_blended(model, drawing, drawing.blend) for drawing in drawings if drawing.blend])
    taker, latents, labels = latent_rows(model, [drawing.latent for drawing in drawings])
    return taker.synthesize(latents, labels, *drawn_level(model, drawings[0].level, drawings[0].alpha))


def _blended(model: Model, drawing: Drawing, blend: Blend) -> Tensor:
    """Computes a picture of two latents (1, C, R, R)."""
    taker, latents, labels = latent_rows(model, [drawing.latent, blend.latent])
    weight = np.full((1, 1), blend.share, np.float32)
    if blend.mask is not None:
        weight = np.frombuffer(blend.mask, np.uint8).reshape(MASK_SIDE, MASK_SIDE) / np.float32(255)
    return synthesize_blend(
        taker, latents, labels, weight, blend.level, *drawn_level(model, drawing.level, drawing.alpha)
    )


def score_of(model: Model, drawing: Drawing) -> float:
    """Returns D's score of a picture alone, without others beside it for the minibatch statistic."""
    images = raw_images(model, [drawing])
    return float(model.discriminator(images, *drawn_level(model, drawing.level, drawing.alpha)).score[0])


def encode(image: Images, quality: str) -> Encoded:
    """Encodes an image (R, R, C): PNG where it is small, JPEG, RGBA over white, else."""
    side = image.shape[0]
    if side <= PNG_SIDE and (quality == "still" or side <= 64):
        return Encoded("image/png", encode_png(image), side)
    out = io.BytesIO()
    value = STILL_QUALITY if quality == "still" else MOVING_QUALITY
    to_pil(over(image)).save(out, "JPEG", quality=value, subsampling=0)
    return Encoded("image/jpeg", out.getvalue(), side)


class LevelTimes:
    """How long one picture takes at each level, and which level keeps up with a moving slider."""

    def __init__(self) -> None:
        self.ms: dict[int, float] = {}

    def note(self, level: int, ms: float) -> None:
        """Takes a measured picture in: at once where it was slow, by a moving average where it was quick."""
        self.ms[level] = max(ms, 0.8 * self.ms.get(level, ms) + 0.2 * ms)
        if level + 1 in self.ms and ms < MOVING_MS / 2:
            self.ms[level + 1] *= RETRY  # a level that was slow once, beside other programs, gets another chance

    def moving_level(self, level: int, lowest: int) -> int:
        """Returns the highest level up to `level` that is quick enough; unmeasured ones are not."""
        quick = [at for at, ms in self.ms.items() if ms <= MOVING_MS and at <= level]
        return max(quick, default=min(lowest, level))

    def measure(self, model: Model, lowest: int, highest: int) -> None:
        """Measures the levels from the lowest on, up to one that takes too long."""
        latents = model.seed_latents([0])
        labels = model.seed_labels([0])
        for level in range(lowest, highest + 1):
            times = []
            for _ in range(3):  # the first one makes buffers and chooses kernels
                start = time.perf_counter()
                encode(to_uint8(model.synthesize(latents, labels, level, 1.0))[0], "moving")
                times.append(1e3 * (time.perf_counter() - start))
            self.note(level, min(times))
            if min(times) > MEASURED_MS:
                self.ms |= {above: min(times) * 4.0 ** (above - level) for above in range(level + 1, highest + 1)}
                break
