"""A small model of each kind that the editing commands take, saved in a file."""

from __future__ import annotations

from pathlib import Path

from pggan.config.train import DiscriminatorConfig, GeneratorConfig
from pggan.generation.model import Model, load
from pggan.networks.factory import build
from pggan.networks.model_file import ModelFile, save_model

# Fields of both configurations by kind.
KINDS = {
    "plain": {},
    "labels": {"label_size": 3},
    "codes": {"categorical": (3,), "continuous": 2},
    "grey": {"channels": 1},
    "fc": {"arch": "fc"},
    "dcgan": {"arch": "dcgan"},
    "4x4": {"resolution": 4},
    "mapping": {"mapping_layers": 2},
    "mapped-labels": {"mapping_layers": 2, "label_size": 3, "categorical": (3,), "continuous": 1},
}
# By configuration the largest; untrained and one map wide there.
LARGE = {"1024": {"resolution": 1024, "fmap_base": 512, "fmap_max": 4}}
LATENT_SIZE = 12


def saved_kind(
    kind: str, folder: Path, seed: int = 0, discriminator: bool = True, classes: list[str] | None = None
) -> Path:
    """Saves an untrained model of a kind as `folder/KIND.safetensors`, which it returns."""
    fields = {"resolution": 16, "fmap_base": 64, "fmap_max": 8, **(KINDS | LARGE)[kind]}
    of_d = {name: value for name, value in fields.items() if name != "mapping_layers"}
    g, d = build(GeneratorConfig(**fields, latent_size=LATENT_SIZE), DiscriminatorConfig(**of_d), seed)
    classes = classes or [f"kind{i}" for i in range(fields.get("label_size", 0))]
    labels = {"name": "hair", "classes": classes} if classes else None
    level = fields["resolution"].bit_length() - 1
    path = folder / f"{kind}.safetensors"
    save_model(path, ModelFile(g, d if discriminator else None, level, 1.0, labels=labels))
    return path


def loaded_kind(kind: str, folder: Path, seed: int = 0, discriminator: bool = True) -> Model:
    """Loads what `saved_kind` saves, on the CPU."""
    return load(saved_kind(kind, folder, seed, discriminator), "cpu")
