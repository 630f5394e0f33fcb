"""Favourites: points with notes in one JSON file, beside a run or in the user's data folder.

Several explorers may have the file open: every change reads it again under a lock, and replaces it at once.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pggan.generation.model import Model
from pggan.utils.atomic_files import write_json
from pggan.utils.caching.cache_folders import cache_folder
from pggan.utils.errors import DataError, UsageError
from pggan.utils.file_lock import exclusive_lock
from pggan.utils.paths import data_folder

NAME, VERSION = "favourites.json", 1
MOST_FAVOURITES, MOST_NOTE = 500, 500
MOST_BYTES = 16 << 20
LOCK_SECONDS, LOCK_TRIES = 2.0, 40


@dataclass(frozen=True)
class Favourite:
    """A point that somebody liked."""

    key: str
    point: dict[str, Any]
    z: str  # the latent with all moves, base64 of float32: it stays when a direction is gone
    note: str = ""
    level: int = 0
    alpha: float = 1.0
    snapshot: str = ""


def favourites_path(model: Model, run: Path | None) -> Path:
    """Returns the file of a model's favourites: in its run, else in the user's data folder by name and digest."""
    if run is not None:
        return run / NAME
    digest = hashlib.sha256(model.path.read_bytes()).hexdigest()[:12] if model.path is not None else "unsaved"
    safe = re.sub(r"[^\w.-]", "_", model.name)[:60]
    return data_folder() / "favourites" / f"{safe}-{digest}.json"


class Favourites:
    """The favourites of a model, on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Favourite]:
        """Returns the favourites.

        Raises:
            DataError: The file is damaged or of another version; it is never replaced then.
        """
        try:
            if self.path.stat().st_size > MOST_BYTES:
                raise ValueError("it is too large")
            data = json.loads(self.path.read_text(encoding="utf-8"))
            if data["version"] != VERSION:
                raise ValueError(f"its version is {data['version']}")
            return [Favourite(**entry) for entry in data["favourites"]]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"{self.path} cannot be read ({error}); move it away to begin a new one"
            raise DataError(reason) from None

    def describe(self) -> dict[str, Any]:
        """Returns the favourites for the page, and where they are kept or why not."""
        place = str(self.path)
        try:
            return {"entries": [dict(vars(entry)) for entry in self.read()], "place": place, "problem": ""}
        except (DataError, OSError) as error:
            return {"entries": [], "place": place, "problem": str(error)}

    def add(self, favourite: Favourite, at: int | None = None) -> Favourite:
        """Adds a favourite at a place of the list, at its end by default; one without a key gets a new key."""
        new = favourite if favourite.key else replace(favourite, key=secrets.token_hex(6))

        def insert(entries: list[Favourite]) -> None:
            if len(entries) >= MOST_FAVOURITES:
                raise UsageError(f"there are {MOST_FAVOURITES} favourites; remove some, or export them")
            if all(entry.key != new.key for entry in entries):
                entries.insert(len(entries) if at is None else at, new)

        self._edit(insert)
        return new

    def remove(self, key: str) -> tuple[Favourite, int] | None:
        """Removes a favourite; returns it with its place, None where it was gone."""
        removed: list[tuple[Favourite, int]] = []

        def delete(entries: list[Favourite]) -> None:
            for at, entry in enumerate(entries):
                if entry.key == key:
                    removed.append((entry, at))
                    del entries[at]
                    return

        self._edit(delete)
        return removed[0] if removed else None

    def set_note(self, key: str, note: str) -> str | None:
        """Changes a note; returns the old one, None where the favourite is gone."""
        old: list[str] = []

        def edit(entries: list[Favourite]) -> None:
            for at, entry in enumerate(entries):
                if entry.key == key:
                    old.append(entry.note)
                    entries[at] = replace(entry, note=note)

        self._edit(edit)
        return old[0] if old else None

    def _edit(self, change: Callable[[list[Favourite]], None]) -> None:
        with self._lock():
            entries = self.read()
            before = list(entries)
            change(entries)
            if entries != before:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_json(self.path, {"version": VERSION, "favourites": [vars(entry) for entry in entries]})

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Keeps other explorers from the file; the lock lies in the cache folder, not beside the user's files."""
        folder = cache_folder("locks")
        if folder is None:  # no home, or one that is read-only: nobody else's lock can be seen
            yield
            return
        path = folder / hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:24]
        for _ in range(LOCK_TRIES):
            with exclusive_lock(path) as is_mine:
                if is_mine:
                    yield
                    return
            time.sleep(LOCK_SECONDS / LOCK_TRIES)
        raise UsageError("another explorer keeps the favourites busy; try again")
