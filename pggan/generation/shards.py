"""Shards: very many images as numbered folders or tars of a thousand each, shared by processes, resumable.

A shard appears under its name when it is complete, so that an existing shard is done. Process r of W makes the shards
r, r + W, ...: processes need no messages, only a common folder.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pggan.generation.images import (
    Advance,
    ImageRequest,
    NamedImage,
    Writers,
    describe,
    encode_png,
    in_threads,
    make_folder,
    named_images,
    write_all,
    writers,
)
from pggan.generation.model import Model
from pggan.generation.seeds import Seeds
from pggan.utils.atomic_files import TEMPORARY, replace_atomically, sync_directory, sync_file, write_json
from pggan.utils.distributed import SINGLE_PROCESS, World
from pggan.utils.errors import UsageError

SHARD = 1000
ABOUT = "generated.json"


@dataclass(frozen=True)
class WrittenShards:
    """What `write_shards` wrote."""

    folder: Path
    shards: int  # in all
    written: int  # by this call
    images: int  # in all shards


def write_shards(
    model: Model,
    seeds: Seeds,
    out: str | Path,
    layout: str,
    label: int | str | None = None,
    batch: int | None = None,
    world: World = SINGLE_PROCESS,
    advance: Advance = lambda count: None,
) -> WrittenShards:
    """Writes the images of seeds in shards of 1000, as far as they are missing.

    Args:
        model: The model.
        seeds: The seeds.
        out: The common folder.
        layout: "folders" or "tar".
        label: As `Model.generate` takes it; None: each seed's own.
        batch: Images computed at once; None: what fits the memory.
        world: The processes that share the shards.
        advance: Is called with numbers of this process's images, those written before included.

    Raises:
        UsageError: `out` holds images of another request, or other files.
    """
    folder = Path(out)
    make_folder(folder)
    about = describe(model)
    _check_same_request(folder, {**about, "seeds": str(seeds), "label": label, "layout": layout, "shard": SHARD})
    count = -(-len(seeds) // SHARD)
    missing: list[tuple[Path, Seeds]] = []
    for number in range(world.rank, count, world.size):
        part = seeds[number * SHARD : (number + 1) * SHARD]
        path = folder / (f"{number:06d}" if layout == "folders" else f"pictures-{number:06d}.tar")
        if path.exists():
            advance(len(part))
        else:
            missing.append((path, part))
    # one stream for all shards: batches reach across their boundaries
    missing_seeds = Seeds(chain.from_iterable(part.ranges for _, part in missing))
    images = named_images(model, ImageRequest(missing_seeds, label, None, batch), about, advance)
    write_shard = _write_folder if layout == "folders" else _write_tar
    for path, part in missing:
        write_shard(path, islice(images, len(part)), writers(model))
    return WrittenShards(folder, count, len(missing), len(seeds))


def _check_same_request(folder: Path, about: dict[str, Any]) -> None:
    """Records the request in an empty folder, or compares it with the recorded one."""
    path = folder / ABOUT
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        others = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
        if others and ABOUT not in others:  # another process of this request may have been first
            raise UsageError(f"{folder} holds other files already; give another --out") from None
        write_json(path, about)
        return
    except ValueError:
        recorded = None
    if recorded != json.loads(json.dumps(about)):
        differs = next(
            (key for key in about if not isinstance(recorded, dict) or recorded.get(key) != about[key]), "contents"
        )
        raise UsageError(
            f"{folder} holds pictures of another request, which differs in its {differs}; give another --out, or the "
            "same request"
        )


def _write_folder(path: Path, images: Iterator[NamedImage], writers: Writers) -> None:
    temporary = path.with_name(f".{path.name}{TEMPORARY}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    write_all(temporary, images, writers)
    # an existing shard counts as complete, even after a power failure
    deque(in_threads(sync_file, ((file,) for file in temporary.iterdir()), writers), maxlen=0)
    temporary.rename(path)
    sync_directory(path.parent)


def _write_tar(path: Path, images: Iterator[NamedImage], writers: Writers) -> None:
    def write(temporary: Path) -> None:
        with tarfile.open(temporary, "w") as archive:
            for name, data in in_threads(lambda name, *rest: (name, encode_png(*rest)), images, writers):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))

    replace_atomically(path, write)
