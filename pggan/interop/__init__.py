"""The table of importers: one per format of another program, tried in order (torch-free)."""

from __future__ import annotations

from dataclasses import dataclass

from pggan.config.registry import Registry


@dataclass(frozen=True)
class ImporterSpec:
    """One importer. `target`: a class with `sniff(path) -> bool` and `read(path) -> ImportedModel`."""

    name: str
    target: str
    summary: str


IMPORTERS: Registry[ImporterSpec] = Registry(
    "importer",
    [
        ImporterSpec(
            "zoo", "pggan.interop.pytorch_gan_zoo:ZooImporter", "a PGAN checkpoint of pytorch_GAN_zoo (.pt, .pth)"
        ),
        ImporterSpec("official", "pggan.interop.official:OfficialImporter", "a pickle of the official PG-GAN (.pkl)"),
    ],
)
