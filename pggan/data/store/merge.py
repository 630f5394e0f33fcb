"""Merges stores into one: shards in their order, or any compatible stores one after the other."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from pggan.data.duplicate_groups import merge_groups
from pggan.data.label_columns import LabelColumn
from pggan.data.store.checksums import SIZE, checksum_row, part_names
from pggan.data.store.lmdb_environment import FILE
from pggan.data.store.manifest import Manifest, check_size
from pggan.data.store.resume import StoreProgress, load_resume_point
from pggan.data.store.staging import check_destination, existing_parent, staging_directory
from pggan.data.store.store import Store
from pggan.data.store.summary import StoreSummary
from pggan.data.store.writer import StoreWriter, explain_full_disk
from pggan.utils.errors import DataError, UsageError
from pggan.utils.formatting import size
from pggan.utils.version import __version__


@dataclass
class MergeReport(StoreSummary):
    """Summary of a merged store and the `parts` it was made of, in their order."""

    parts: list[str]


def merge(
    dest: str | Path,
    parts: Sequence[str | Path],
    overwrite: bool = False,
    force: bool = False,
    on_start: Callable[[int], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> MergeReport:
    """Makes a store at `dest` from the images of `parts`, atomically and resumably, as `prepare` makes one.

    Records are copied without decoding.

    Args:
        dest: Directory of the new store.
        parts: Stores; shards are sorted by their numbers, other stores stay in the given order.
        overwrite: Replace a store at `dest`, or another command's unfinished one.
        force: Skip the check of the free disk space.
        on_start: Gets the number of images to copy.
        on_progress: Gets the number of images copied since its last call.

    Raises:
        UsageError: `dest` exists, or a shard is missing or given twice.
        DataError: The parts are incompatible, a record is damaged, or the disk is too small.
    """
    place = Path(os.path.realpath(dest))
    check_destination(place, overwrite)
    start = time.monotonic()
    if len({os.path.realpath(part) for part in parts}) < len(parts):
        raise UsageError("a store is named twice; give each part once")
    with ExitStack() as stack:
        stores = sort_shards([stack.enter_context(Store(part)) for part in parts])
        check_compatible(stores)
        manifest = merge_manifests([store.manifest for store in stores])
        check_size(manifest)
        with staging_directory(place) as partial:
            progress = load_resume_point(partial, _identity(stores), overwrite)
            resumed = progress.consumed
            if progress.complete:
                with Store(partial) as store:
                    manifest = store.manifest
            else:
                if not force:
                    _check_disk(stores, place, resumed / max(1, manifest.count))
                if on_start is not None:
                    on_start(manifest.count - resumed)
                manifest = _write(stores, manifest, partial, progress, on_progress)
        names = [str(store.path) for store in stores]
        return MergeReport.of(str(dest), place, manifest, resumed, time.monotonic() - start, parts=names)


def sort_shards(stores: Sequence[Store]) -> list[Store]:
    """Sorts shards by their numbers; returns other stores in the given order.

    Raises `UsageError` for a missing or repeated shard, and for shards of different preparations.
    """
    sharded = [store for store in stores if store.manifest.shard is not None]
    if not sharded:
        return list(stores)
    for store in stores:
        if store.manifest.shard is None:
            raise UsageError(f"{sharded[0].path} is {_shard(sharded[0])}, {store.path} is none; merge the shards first")
    first = sharded[0]
    by_number: dict[int, Store] = {}
    for store in sharded:
        if _preparation(store) != _preparation(first):
            raise UsageError(
                f"{first.path} ({_shard(first)}) and {store.path} ({_shard(store)}) are not of one preparation, by "
                f"{_difference(store, first)}; give shards of one SOURCE, made with the same options"
            )
        number = _numbers(store)["number"]
        if number in by_number:
            raise UsageError(f"{by_number[number].path} and {store.path} are the same, {_shard(store)}; give each once")
        by_number[number] = store
    of = _numbers(first)["of"]
    missing = list(islice((number for number in range(1, of + 1) if number not in by_number), 11))
    if missing:
        names = ", ".join(f"{number}/{of}" for number in missing[:10]) + (" ..." if len(missing) > 10 else "")
        raise UsageError(f"missing: shard {names}; make it with pggan prepare-data --shard, and give it too")
    return [by_number[number] for number in sorted(by_number)]


def _numbers(store: Store) -> Mapping[str, int]:
    assert store.manifest.shard is not None
    return store.manifest.shard


def _shard(store: Store) -> str:
    numbers = _numbers(store)
    return f"shard {numbers['number']}/{numbers['of']} of {numbers['pictures']} pictures of {store.manifest.source}"


def _preparation(store: Store) -> dict[str, Any]:
    """What all shards of one preparation have in common."""
    numbers, manifest = _numbers(store), store.manifest
    own = {"shards": numbers["of"], "pictures": numbers["pictures"], "SOURCE": manifest.source}
    return own | {f"--{name.replace('_', '-')}": value for name, value in manifest.options.items()}


def _difference(one: Store, other: Store) -> str:
    """Names what two shards do not have in common: `--labels (./a.csv, a.csv)`."""
    ours, theirs = _preparation(one), _preparation(other)
    names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    return ", ".join(f"{name} ({theirs.get(name)}, {ours.get(name)})" for name in names)


def check_compatible(stores: Sequence[Store]) -> None:
    """Raises `DataError` unless all stores have the same levels, channels, codecs and label columns, and any image."""
    first = stores[0]
    expected = _layout(first.manifest)
    for store in stores[1:]:
        for name, value in _layout(store.manifest).items():
            if value != expected[name]:
                raise DataError(
                    f"{store.path} has other {name} ({_listed(value)}) than {first.path} ({_listed(expected[name])}); "
                    "prepare them alike"
                )
    if not any(len(store) for store in stores):
        raise DataError(f"none of the {len(stores)} stores holds a picture; check what was left out of them")


def _layout(manifest: Manifest) -> dict[str, Any]:
    return {
        "resolutions": manifest.resolutions,
        "channels": manifest.channels,
        "codecs": dict(manifest.codecs),
        "label columns": [f"{c.name} (a number)" if c.is_number else c.name for c in manifest.labels],
    }


def _listed(values: Any) -> str:
    if isinstance(values, dict):
        values = [f"{side}:{codec}" for side, codec in values.items()]
    return ", ".join(map(str, values)) or "none" if isinstance(values, (list, tuple)) else str(values)


def merge_manifests(manifests: Sequence[Manifest]) -> Manifest:
    """Returns the manifest of compatible stores merged in this order, without its digests.

    Counts and bytes are summed. Options stay where all stores agree, and of --quality the lowest, by which
    `jpeg_tolerance` tells damage; sources and attributions are listed once each.
    """
    first, others = manifests[0], manifests[1:]
    options = {
        name: value
        for name, value in first.options.items()
        if all(name in other.options and other.options[name] == value for other in others)
    }
    qualities = [manifest.options["quality"] for manifest in manifests if "quality" in manifest.options]
    if qualities:
        options["quality"] = min(qualities)
    return Manifest(
        count=sum(manifest.count for manifest in manifests),
        channels=first.channels,
        resolutions=first.resolutions,
        codecs=first.codecs,
        bytes={side: sum(manifest.bytes[side] for manifest in manifests) for side in first.resolutions},
        source=_join_distinct([manifest.source for manifest in manifests], ", ") or "",
        options=options,
        labels=_merge_columns([manifest.labels for manifest in manifests]),
        attribution=_join_distinct([manifest.attribution for manifest in manifests], "; "),
        left_out=dict(sum((Counter(manifest.left_out) for manifest in manifests), Counter())),
        exact=all(manifest.exact for manifest in manifests),
        duplicates=merge_groups(
            [(manifest.count, manifest.duplicates) for manifest in manifests], shards=first.shard is not None
        ),
        pggan=__version__,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )


def _join_distinct(texts: Sequence[str | None], separator: str) -> str | None:
    return separator.join(dict.fromkeys(text for text in texts if text)) or None


def _merge_columns(parts: Sequence[tuple[LabelColumn, ...]]) -> tuple[LabelColumn, ...]:
    """Returns each column with the classes of all parts, those of the first part first, or with all their numbers."""
    return tuple(map(LabelColumn.merged, zip(*parts)))


def _identity(stores: Sequence[Store]) -> dict[str, Any]:
    manifests = [json.dumps(store.manifest.to_json(), sort_keys=True) for store in stores]
    return {
        "command": "merge-data",
        "pggan": __version__,
        "digest": blake2b("\n".join(manifests).encode(), digest_size=16).hexdigest(),
    }


def _check_disk(stores: Sequence[Store], place: Path, done: float) -> None:
    """Raises `DataError` if the disk lacks room for the rest. `done`: share of the images already copied."""
    need = int(sum((store.path / FILE).stat().st_size for store in stores) * (1 - done))
    free = shutil.disk_usage(existing_parent(place)).free
    if need > free:
        raise DataError(f"about {size(need)} are needed at {place}, {size(free)} are free; free some space, or --force")


def _write(
    stores: Sequence[Store],
    manifest: Manifest,
    partial: Path,
    progress: StoreProgress,
    on_progress: Callable[[int], None] | None,
) -> Manifest:
    """Copies the images that `progress` lacks; returns the manifest with its digests."""
    writer = StoreWriter(partial, manifest.codecs, progress)
    with closing(writer), explain_full_disk(writer, manifest.count):
        skipped = progress.consumed
        for store in stores:
            first = min(skipped, len(store))
            skipped -= first
            for records, labels in _checked_records(store, first, manifest.labels):
                writer.add(records, labels)
                if on_progress is not None:
                    on_progress(1)
        return writer.finish(manifest)


def _checked_records(
    store: Store, first: int, columns: tuple[LabelColumn, ...]
) -> Iterator[tuple[dict[int, bytes], tuple[int, ...]]]:
    """Yields each image's records and its class numbers in the merged `columns`, from image `first` on.

    Raises `DataError` for damaged records or labels.
    """
    renumber = [old.renumbering(merged) for old, merged in zip(store.manifest.labels, columns)]
    names = part_names(store.resolutions, bool(columns))
    for index, (records, digests) in enumerate(store.encoded(first), first):
        labels = tuple(map(int, store.labels[index])) if columns else ()
        present = {side: record for side, record in records.items() if record is not None}
        damaged = next((f"{side}x{side}" for side in records if side not in present), None)
        if damaged is None and digests is not None:
            damaged = _first_difference(names, checksum_row(present, labels), digests)
        if damaged is not None:
            raise DataError(f"{store.path}: picture {index}: damaged ({damaged}); run pggan verify-data --fix on it")
        yield present, tuple(table(number) for table, number in zip(renumber, labels))


def _first_difference(names: Sequence[str], ours: bytes, theirs: bytes) -> str | None:
    """Names the first part whose digest differs between two checksum rows, or "digest" for rows of other lengths."""
    if ours == theirs:
        return None
    for index, name in enumerate(names):
        digest = slice(index * SIZE, (index + 1) * SIZE)
        if ours[digest] != theirs[digest]:
            return name
    return "digest"
