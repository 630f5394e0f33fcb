"""Very many pictures as numbered folders or tars of a thousand each: shared by processes, taken up where they stopped.

A shard appears when it is whole, so that one which is there is done. Process r of W makes shards r, r + W, ...: they
need no word with each other, only a common folder.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pggan.generation.images import (
    Threads,
    class_suffix,
    describe,
    encode_png,
    in_threads,
    make_folder,
    picture_name,
    write_all,
    writers,
)
from pggan.generation.model import Model
from pggan.generation.seeds import Seeds
from pggan.utils.atomic_files import replace_atomically, sync_directory, sync_file, write_json
from pggan.utils.distributed import SINGLE_PROCESS, World
from pggan.utils.errors import UsageError

LAYOUTS = ("folders", "tar")
SHARD = 1000
ABOUT = "generated.json"

Advance = Callable[[int], None]
Picture = tuple[str, NDArray[np.uint8], dict[str, Any]]  # name, pixels, metadata


@dataclass(frozen=True)
class Sharded:
    """What `write_shards` left: shards in all, and those that this call made."""

    folder: Path
    shards: int
    made: int
    pictures: int


def write_shards(
    model: Model,
    seeds: Seeds,
    out: str | Path,
    layout: str,
    label: int | str | None = None,
    batch: int | None = None,
    world: World = SINGLE_PROCESS,
    advance: Advance = lambda done: None,
) -> Sharded:
    """Writes the pictures of seeds in shards of 1000, those that are missing; `layout` is "folders" or "tar".

    A process of several (`world`) makes its share. `advance` counts its pictures, those made before included. Raises
    `UsageError` where `out` holds other pictures than these.
    """
    folder = Path(out)
    make_folder(folder)
    about = describe(model)
    _check_same(folder, {**about, "seeds": str(seeds), "label": label, "layout": layout, "shard": SHARD})
    count = -(-len(seeds) // SHARD)
    missing: list[tuple[Path, Seeds]] = []
    for number in range(world.rank, count, world.size):
        part = seeds[number * SHARD : (number + 1) * SHARD]
        path = folder / (f"{number:06d}" if layout == "folders" else f"pictures-{number:06d}.tar")
        if path.exists():
            advance(len(part))
        else:
            missing.append((path, part))
    # one stream of all of them: batches reach over the ends of shards
    wanted = Seeds(chain.from_iterable(part.ranges for _, part in missing))
    pictures = _pictures(model, wanted, label, batch, about, advance)
    write = _folder if layout == "folders" else _tar
    for path, part in missing:
        write(path, islice(pictures, len(part)), writers(model))
    return Sharded(folder, count, len(missing), len(seeds))


def _check_same(folder: Path, about: dict[str, Any]) -> None:
    path = folder / ABOUT
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        others = [each.name for each in folder.iterdir() if not each.name.startswith(".")]
        if others and ABOUT not in others:  # another process of this request may have been first
            raise UsageError(f"{folder} holds other files already; give another --out") from None
        write_json(path, about)
        return
    except ValueError:
        found = None
    if found != json.loads(json.dumps(about)):
        differs = next(
            (key for key in about if not isinstance(found, dict) or found.get(key) != about[key]), "contents"
        )
        raise UsageError(f"{folder} holds pictures of another {differs}; give another --out, or the same request")


def _pictures(
    model: Model, seeds: Seeds, label: int | str | None, batch: int | None, about: dict[str, Any], advance: Advance
) -> Iterator[Picture]:
    suffix, start = class_suffix(model, label), 0
    for pictures in model.stream(seeds, label, batch):
        part = seeds[start : start + len(pictures)]
        start += len(part)
        advance(len(part))  # now: nobody asks for more than the last picture
        for picture, seed, classes in zip(pictures, part, model.seed_classes(part, label)):
            described = {"seed": seed, "class": model.labels.describe(classes), **about}
            yield picture_name(seed, suffix), picture, described


def _folder(path: Path, pictures: Iterator[Picture], threads: Threads) -> None:
    temporary = path.with_name(f".{path.name}.tmp")  # one process makes a shard: no other name is needed
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    write_all(((temporary / name, picture, about) for name, picture, about in pictures), threads)
    for _ in in_threads(sync_file, ((each,) for each in temporary.iterdir()), threads):
        pass  # a shard that is there is taken to be whole, whatever went down
    temporary.rename(path)
    sync_directory(path.parent)


def _tar(path: Path, pictures: Iterator[Picture], threads: Threads) -> None:
    def write(temporary: Path) -> None:
        with tarfile.open(temporary, "w") as archive:
            for name, data in in_threads(lambda name, *rest: (name, encode_png(*rest)), pictures, threads):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))

    replace_atomically(path, write)
