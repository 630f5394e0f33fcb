"""Faces of a preparation: found, or read from a file; then the typical ones among them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from typing import NamedTuple

from pggan.data.photos.face_search import find_faces
from pggan.data.photos.search_memory import SearchMemory
from pggan.data.photos.typical import Features, keep_typical
from pggan.data.prepare.prepare_options import AUTO, PrepareOptions
from pggan.data.sources.aligned import AlignedSource
from pggan.data.sources.base import Source
from pggan.data.sources.face_table import FaceTable
from pggan.data.sources.fingerprint import fingerprint


class FaceProgress(NamedTuple):
    """Shows the search for faces: `start(images)`, then `advance(images since the last call)`."""

    start: Callable[[int], None]
    advance: Callable[[int], None]


def align_source(
    spec: str,
    source: Source,
    options: PrepareOptions,
    progress: FaceProgress | None,
    dest: Path | None,
    features: Features | None,
) -> AlignedSource:
    """Returns a source's faces as --align and --keep-typical choose them, and writes the table of --report.

    Args:
        spec: The SOURCE argument.
        source: Its images.
        options: Of the preparation; `align` is set.
        progress: Shows the search for faces.
        dest: The store, beside which an interrupted search is remembered; None: it is not.
        features: Network for --keep-typical, see `keep_typical`.
    """
    assert options.align is not None
    found = options.align
    aligned = AlignedSource(source, _search(spec, source, options, progress, dest) if found == AUTO else found)
    if options.keep_typical < 1:
        aligned = keep_typical(aligned, options.keep_typical, features, options.workers, options.limit)
    if options.report is not None and isinstance(aligned.landmarks, FaceTable):
        aligned.landmarks.write(options.report)
    return aligned


def _search(
    spec: str, source: Source, options: PrepareOptions, progress: FaceProgress | None, dest: Path | None
) -> FaceTable:
    """Finds the faces of a source."""
    memory = None if dest is None else SearchMemory(dest, spec, _source_digest(spec, source, options))
    if progress is not None:
        progress.start(min(len(source), options.limit or len(source)))
    advance = None if progress is None else progress.advance
    with nullcontext() if memory is None else closing(memory):
        return find_faces(source, options.face_choice, options.workers, advance, options.limit, memory)


def _source_digest(spec: str, source: Source, options: PrepareOptions) -> str:
    """Returns a digest of a source and of the options that choose what is read of it."""
    chosen = (options.dataset, options.member, options.images_root)
    return f"{fingerprint(source.address or spec, [options.images_root])} {chosen}"
