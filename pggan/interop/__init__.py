"""Models of other programs: one importer a format, asked in order (torch-free table)."""

from __future__ import annotations

from dataclasses import dataclass

from pggan.config.registry import Registry


@dataclass(frozen=True)
class ImporterSpec:
    """`target`: a class with `sniff(path)` and `read(path)`, which gives a `foreign.ForeignModel`."""

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
