"""Image sources: one file per format and one line in this table, tried in order."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pggan.config.registry import Registry
from pggan.utils.errors import DataError, UsageError
from pggan.utils.untrusted import reading

if TYPE_CHECKING:
    from pggan.data.sources.base import Source


@dataclass(frozen=True)
class SourceSpec:
    """A row of the table of sources."""

    name: str
    target: str  # "module:Class"
    summary: str  # for error messages


SOURCES: Registry[SourceSpec] = Registry(
    "source",
    [
        SourceSpec("drawn", "pggan.data.sources.synthetic:DrawnSource", "drawn:COUNT, faces drawn on the spot"),
        SourceSpec("hub", "pggan.data.sources.hub_source:HubSource", "hf://datasets/user/name"),
        SourceSpec("store", "pggan.data.sources.lmdb:StoreSource", "another store of pggan's"),
        SourceSpec("lmdb", "pggan.data.sources.lmdb:StyleGanLmdbSource", "an LMDB of the StyleGAN ports"),
        SourceSpec("tfrecords", "pggan.data.sources.tfrecords:TfrecordSource", "the official TFRecords"),
        SourceSpec("hdf5", "pggan.data.sources.hdf5:Hdf5Source", "an HDF5 file of pictures"),
        SourceSpec("parquet", "pggan.data.sources.parquet:ParquetSource", "Hugging Face's Parquet, a file or a folder"),
        SourceSpec("arrow", "pggan.data.sources.huggingface:ArrowSource", "Hugging Face's save_to_disk folder"),
        SourceSpec("idx", "pggan.data.sources.idx:IdxSource", "idx files (MNIST, Fashion-MNIST)"),
        SourceSpec("npy", "pggan.data.sources.arrays:NpySource", "a .npy array of pictures"),
        SourceSpec("npz", "pggan.data.sources.arrays:NpzSource", "a .npz with an array of pictures"),
        SourceSpec("arrays", "pggan.data.sources.arrays:ArrayFolderSource", "a folder of .npy arrays, one a picture"),
        SourceSpec("celebamask", "pggan.data.sources.celebamask:CelebAMaskSource", "CelebAMask-HQ, folder or zip"),
        SourceSpec("webdataset", "pggan.data.sources.webdataset:WebDatasetSource", "webdataset, as data-{00..09}.tar"),
        SourceSpec("video", "pggan.data.sources.video_source:VideoSource", "a video, or a folder of videos"),
        SourceSpec("zip", "pggan.data.sources.zip_archive:ZipSource", "a zip of pictures"),
        SourceSpec("tar", "pggan.data.sources.tar_archive:TarSource", "a tar of pictures, compressed or not"),
        SourceSpec("folder", "pggan.data.sources.folder:FolderSource", "a folder of pictures, nested or not"),
    ],
)


def open_source(spec: str, **choices: str | float | None) -> Source:
    """Opens a SOURCE argument.

    Args:
        spec: The SOURCE argument.
        choices: What to read of it: `dataset`, `images_root`, `member`, `every`; None: the source's own choice.

    Raises:
        DataError: It does not exist, or has an unknown format.
        UsageError: Its format does not take one of the choices.
    """
    given = {name: value for name, value in choices.items() if value is not None}
    for entry in SOURCES:
        source = SOURCES.load(entry.name)
        if source.sniff(spec):
            for name in given.keys() - set(source.choices):
                raise UsageError(f"--{name.replace('_', '-')} does not go with {spec}, {entry.summary}; leave it out")
            with reading(spec, DataError, "copy or make it again"):
                return source(spec, **given)
    kinds = "; ".join(entry.summary for entry in SOURCES)
    problem = "is not a source of pictures" if os.path.exists(spec) else "does not exist"
    raise DataError(f"{spec} {problem}; give one of: {kinds}")
