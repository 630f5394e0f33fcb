"""Small model files for tests: untrained networks make pictures, too."""

from __future__ import annotations

from pathlib import Path

from pggan.config.train import DiscriminatorConfig, GeneratorConfig
from pggan.networks.factory import build
from pggan.networks.model_file import ModelFile, save_model


def model_file(
    labels: int = 0, channels: int = 3, resolution: int = 16, discriminator: bool = True, **stage
) -> ModelFile:
    common = {"resolution": resolution, "channels": channels, "fmap_base": 64, "fmap_max": 8, "label_size": labels}
    g, d = build(GeneratorConfig(**common, latent_size=12), DiscriminatorConfig(**common), 0)
    named = {"name": "hair", "classes": [f"kind{i}" for i in range(labels)]} if labels else None
    level = resolution.bit_length() - 1
    return ModelFile(g, d if discriminator else None, **{"level": level, "alpha": 1.0, **stage}, labels=named)


def saved(path: Path, **options) -> Path:
    save_model(path, model_file(**options))
    return path
