"""Small grey pictures with labels: idx files (Fashion-MNIST, or shapes drawn on the spot) through prepare-data."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments import shapes
from experiments.trial import ONE, Data, Trial
from pggan.config.train import DiscriminatorConfig, GeneratorConfig
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.store.store import Store
from pggan.networks.factory import build
from pggan.networks.latents import one_hot
from pggan.training.engine.loss_functions import real_images
from pggan.utils.errors import UsageError

# Pictures and latents of most comparisons.
SIDE, LEVEL, LATENT = 16, 4, 32
# Names of classes are the pictures' own numbers; -1: not told.
UNKNOWN = -1


class Pictures(NamedTuple):
    """`images` uint8 (N, 1, R, R); `labels` (N,) class numbers below `classes`; `name`: what they are."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: int
    name: str

    def data(self, labels: NDArray[np.int64] | None = None) -> Data:
        """Draws of them for a trial, with these labels (-1: not told), or none."""
        pool = real_images(torch.from_numpy(self.images), ONE)
        known = np.zeros((len(pool), 0), np.float32) if labels is None else one_hot(labels, self.classes)
        told = torch.from_numpy(known)

        def draw(count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
            at = torch.randint(len(pool), (count,), generator=random)
            return pool[at], told[at]

        return draw

    def trial(
        self, players: tuple[nn.Module, nn.Module], loss: str, labels: NDArray[np.int64] | None = None, **options: Any
    ) -> Trial:
        """A trial of a generator and a discriminator of 16x16 on these pictures."""
        return Trial(*players, loss, self.data(labels), latent_size=LATENT, level=LEVEL, **options)


def fc_players(width: int, seed: int, **options: Any) -> tuple[nn.Module, nn.Module]:
    """Fully connected players of 16x16; `options`: more fields of D's configuration."""
    common: dict[str, Any] = {"resolution": SIDE, "channels": 1, "arch": "fc", "fmap_max": width}
    g = GeneratorConfig(latent_size=LATENT, **common)
    return build(g, DiscriminatorConfig(diversity="none", **options, **common), seed)


def load(source: str | None, resolution: int, count: int, seed: int = 0) -> Pictures:
    """So many pictures at a resolution of 8, 16 or 32, from an idx file or a folder of them (None: drawn shapes).

    Raises `UsageError` for colour pictures and those without labels, which the comparisons need.
    """
    with tempfile.TemporaryDirectory(prefix="pggan-lab-") as place:
        if source is None:
            files = Path(place) / "idx"
            files.mkdir()
            shapes.make(files, count, seed)
        options = PrepareOptions(max_res=32, codec="png", upscale=True, limit=count, workers=1)
        prepare(source or str(files), Path(place) / "store", options)
        with Store(Path(place) / "store") as store:
            if store.channels != 1 or not store.labels.shape[1]:
                raise UsageError(f"{source} has no grey pictures with labels, as Fashion-MNIST's idx files are")
            images = store.read(resolution, range(len(store)))
            labels = store.labels[:, 0].astype(np.int64)
    return Pictures(images, labels, int(labels.max()) + 1, "drawn shapes" if source is None else Path(source).name)
