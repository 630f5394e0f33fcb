"""Stores to one: shards of a source in their order, or any stores of one kind one after the other."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.data.store.checksums import part_names, row
from pggan.data.store.manifest import LabelColumn, Manifest
from pggan.data.store.resume import Progress, load_resume_point
from pggan.data.store.staging import check_destination, existing_parent, staging_directory
from pggan.data.store.store import FILE, Store
from pggan.data.store.writer import StoreWriter, full_disk_told
from pggan.utils.errors import DataError, UsageError
from pggan.utils.formatting import size
from pggan.utils.version import __version__


@dataclass
class MergeReport:
    """What was made of which `parts`, in their order. `resumed`: pictures that an earlier run had done."""

    path: str
    count: int
    parts: list[str]
    channels: int
    resolutions: list[int]
    codecs: dict[int, str]
    bytes: dict[int, int]
    bytes_on_disk: int
    left_out: dict[str, int]
    labels: list[str]
    attribution: str | None
    resumed: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def merge(
    dest: str | Path,
    parts: Sequence[str | Path],
    overwrite: bool = False,
    force: bool = False,
    on_start: Callable[[int], None] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> MergeReport:
    """Makes a store at `dest` of the pictures of `parts`, as `prepare` makes one: atomically, and to be gone on with.

    Shards come in their order, other stores in that given; records are copied as they are. Raises `UsageError` or
    `DataError` for parts that do not belong together, a missing or repeated shard, a damaged record.
    """
    place = Path(os.path.realpath(dest))
    check_destination(place, overwrite)
    start = time.monotonic()
    if len({os.path.realpath(part) for part in parts}) < len(parts):
        raise UsageError("a store is named twice; give each part once")
    with ExitStack() as stack:
        stores = [stack.enter_context(Store(part)) for part in parts]
        stores = in_order(stores)
        manifest = joined(stores)
        with staging_directory(place) as partial:
            progress = load_resume_point(partial, _identity(stores), overwrite)
            resumed = progress.consumed
            if progress.whole:
                with Store(partial) as store:
                    manifest = store.manifest
            else:
                if not force:
                    _check_disk(stores, place, resumed / max(1, manifest.count))
                if on_start is not None:
                    on_start(manifest.count - resumed)
                manifest = _make(stores, manifest, partial, progress, on_progress)
    return _report(str(dest), place, manifest, stores, resumed, time.monotonic() - start)


def in_order(stores: Sequence[Store]) -> list[Store]:
    """Shards by their numbers, others as they are. Raises `UsageError` where they do not make up a whole."""
    sharded = [store for store in stores if store.manifest.shard is not None]
    if not sharded:
        return list(stores)
    for store in stores:
        if store.manifest.shard is None:
            raise UsageError(f"{sharded[0].path} is {_shard(sharded[0])}, {store.path} is none; merge the shards first")
    first = sharded[0]
    found: dict[int, Store] = {}
    for store in sharded:
        if _whole(store) != _whole(first):
            raise UsageError(
                f"{first.path} ({_shard(first)}) and {store.path} ({_shard(store)}) are not of one preparation; give "
                "shards of one SOURCE, made with the same options"
            )
        number = _numbers(store)["number"]
        if number in found:
            raise UsageError(f"{found[number].path} and {store.path} are the same, {_shard(store)}; give each once")
        found[number] = store
    of = _numbers(first)["of"]
    missing = [number for number in range(1, of + 1) if number not in found]
    if missing:
        named = ", ".join(f"{number}/{of}" for number in missing[:10]) + (" ..." if len(missing) > 10 else "")
        raise UsageError(f"missing: shard {named}; make it with pggan prepare-data --shard, and give it too")
    return [found[number] for number in sorted(found)]


def _numbers(store: Store) -> Mapping[str, int]:
    assert store.manifest.shard is not None
    return store.manifest.shard


def _shard(store: Store) -> str:
    numbers = _numbers(store)
    return f"shard {numbers['number']}/{numbers['of']} of {numbers['pictures']} pictures of {store.manifest.source}"


def _whole(store: Store) -> Any:
    """What all shards of a preparation share."""
    numbers, manifest = _numbers(store), store.manifest
    return numbers["of"], numbers["pictures"], manifest.source, json.dumps(dict(manifest.options), sort_keys=True)


def joined(stores: Sequence[Store]) -> Manifest:
    """The manifest of all of them together, but for its digests. Raises `DataError` where they do not fit."""
    manifests = [store.manifest for store in stores]
    first = manifests[0]
    for store, other in zip(stores, manifests):
        for what, ours, theirs in (
            ("resolutions", first.resolutions, other.resolutions),
            ("channels", first.channels, other.channels),
            ("codecs", dict(first.codecs), dict(other.codecs)),
            ("label columns", [c.name for c in first.labels], [c.name for c in other.labels]),
        ):
            if ours != theirs:
                raise DataError(
                    f"{store.path} has other {what} ({_listed(theirs)}) than {stores[0].path} ({_listed(ours)}); "
                    "prepare them alike"
                )
    count = sum(manifest.count for manifest in manifests)
    if not count:
        raise DataError(f"none of the {len(stores)} stores holds a picture; check what was left out of them")
    common = {k: v for k, v in first.options.items() if all(k in m.options and m.options[k] == v for m in manifests)}
    return Manifest(
        count=count,
        channels=first.channels,
        resolutions=first.resolutions,
        codecs=first.codecs,
        bytes={side: sum(manifest.bytes[side] for manifest in manifests) for side in first.resolutions},
        source=_together([manifest.source for manifest in manifests], ", ") or "",
        options=common,
        labels=_columns([manifest.labels for manifest in manifests]),
        attribution=_together([manifest.attribution for manifest in manifests], "; "),
        left_out=dict(sum((Counter(manifest.left_out) for manifest in manifests), Counter())),
        exact=all(manifest.exact for manifest in manifests),
        pggan=__version__,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )


def _listed(values: Any) -> str:
    if isinstance(values, dict):
        values = [f"{side}:{codec}" for side, codec in values.items()]
    return ", ".join(map(str, values)) or "none" if isinstance(values, (list, tuple)) else str(values)


def _together(texts: Sequence[str | None], between: str) -> str | None:
    return between.join(dict.fromkeys(text for text in texts if text)) or None


def _columns(parts: Sequence[tuple[LabelColumn, ...]]) -> tuple[LabelColumn, ...]:
    """Of each column the classes of all parts, those of the first part first."""
    return tuple(
        LabelColumn(columns[0].name, tuple(dict.fromkeys(name for column in columns for name in column.classes)))
        for columns in zip(*parts)
    )


def _identity(stores: Sequence[Store]) -> dict[str, Any]:
    texts = [json.dumps(store.manifest.to_json(), sort_keys=True) for store in stores]
    return {
        "command": "merge-data",
        "pggan": __version__,
        "digest": blake2b("\n".join(texts).encode(), digest_size=16).hexdigest(),
    }


def _check_disk(stores: Sequence[Store], place: Path, done: float) -> None:
    need = int(sum((store.path / FILE).stat().st_size for store in stores) * (1 - done))
    free = shutil.disk_usage(existing_parent(place)).free
    if need > free:
        raise DataError(f"about {size(need)} are needed at {place}, {size(free)} are free; free some space, or --force")


def _make(
    stores: Sequence[Store],
    manifest: Manifest,
    partial: Path,
    progress: Progress,
    on_progress: Callable[[int], None] | None,
) -> Manifest:
    writer = StoreWriter(partial, manifest.codecs, progress)
    try:
        with full_disk_told(writer, manifest.count):
            skipped = progress.consumed
            for store in stores:
                first = min(skipped, len(store))
                skipped -= first
                for records, labels in _copied(store, first, manifest.labels):
                    writer.add(records, labels)
                    if on_progress is not None:
                        on_progress(1)
            return writer.finish(manifest)
    finally:
        writer.close()


def _copied(
    store: Store, first: int, columns: tuple[LabelColumn, ...]
) -> Iterator[tuple[dict[int, bytes], tuple[int, ...]]]:
    """Records and class numbers, those by the classes of `columns`, from picture `first` on."""
    tables = [_renumbered(own, column) for own, column in zip(store.manifest.labels, columns)]
    if any(((n < -1) | (n >= len(table) - 1)).any() for n, table in zip(store.labels.T, tables)):
        raise DataError(f"{store.path}: its labels are damaged; run pggan verify-data --fix on it")
    names = part_names(store.resolutions, bool(columns))
    for at, (records, digests) in enumerate(store.encoded(first), first):
        own = tuple(map(int, store.labels[at])) if columns else ()
        whole = {side: record for side, record in records.items() if record is not None}
        if len(whole) < len(records) or (digests is not None and row(whole, own) != digests):
            part = next((f"{side}x{side}" for side in records if side not in whole), None) or _first_other(
                names, row(whole, own), digests or b""
            )
            raise DataError(f"{store.path}: picture {at}: damaged ({part}); run pggan verify-data --fix on it")
        yield whole, tuple(int(table[number]) for table, number in zip(tables, own))


def _first_other(names: Sequence[str], ours: bytes, theirs: bytes) -> str:
    width = len(ours) // len(names)
    return next(
        (n for i, n in enumerate(names) if ours[i * width : (i + 1) * width] != theirs[i * width : (i + 1) * width]),
        "digest",
    )


def _renumbered(own: LabelColumn, column: LabelColumn) -> NDArray[np.int32]:
    """The new number of each class; the last entry is that of -1, unknown."""
    return np.array([*(column.classes.index(name) for name in own.classes), -1], np.int32)


def _report(
    dest: str, place: Path, manifest: Manifest, stores: Sequence[Store], resumed: int, seconds: float
) -> MergeReport:
    return MergeReport(
        path=dest,
        count=manifest.count,
        parts=[str(store.path) for store in stores],
        channels=manifest.channels,
        resolutions=list(manifest.resolutions),
        codecs=dict(manifest.codecs),
        bytes=dict(manifest.bytes),
        bytes_on_disk=(place / FILE).stat().st_size,
        left_out=dict(manifest.left_out),
        labels=[column.name for column in manifest.labels],
        attribution=manifest.attribution,
        resumed=resumed,
        seconds=round(seconds, 3),
    )
