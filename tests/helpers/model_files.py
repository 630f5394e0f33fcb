"""Small model files for tests, with untrained networks."""

from __future__ import annotations

from pathlib import Path

from pggan.config.train import DiscriminatorConfig, GeneratorConfig
from pggan.networks.factory import build
from pggan.networks.model_file import ModelFile, save_model


def model_file(
    labels: int = 0, channels: int = 3, resolution: int = 16, discriminator: bool = True, g_fields=(), **fields
) -> ModelFile:
    """Makes a small untrained model.

    Args:
        labels: Classes kind0, kind1, ... of the column "hair"; 0: not conditional.
        channels: Channels of the images.
        resolution: Side of the images in pixels.
        discriminator: Whether it has one.
        g_fields: Further fields of `GeneratorConfig`, as pairs.
        **fields: Further fields of `ModelFile`, such as alpha.
    """
    common = {"resolution": resolution, "channels": channels, "fmap_base": 64, "fmap_max": 8, "label_size": labels}
    g, d = build(GeneratorConfig(**common, latent_size=12, **dict(g_fields)), DiscriminatorConfig(**common), 0)
    column = {"name": "hair", "classes": [f"kind{i}" for i in range(labels)]} if labels else None
    level = resolution.bit_length() - 1
    return ModelFile(g, d if discriminator else None, **{"level": level, "alpha": 1.0, **fields}, labels=column)


def saved(path: Path, **options) -> Path:
    """Saves `model_file(**options)` at `path`, which it returns."""
    save_model(path, model_file(**options))
    return path
