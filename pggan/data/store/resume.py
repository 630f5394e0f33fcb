"""Resume point of an unfinished store: its progress, updated by every transaction, and the command's identity."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pggan.data.store.lmdb_environment import FILE, MANIFEST, META, open_readonly
from pggan.data.store.lmdb_pages import LmdbPages, NoMemoryMaps
from pggan.utils.errors import DataError, UsageError
from pggan.utils.untrusted import reading

PROGRESS = b"progress"
# An LMDB file begins with two meta pages: a shorter file was interrupted before the first transaction.
_MIN_FILE_BYTES = 2 * 4096


@dataclass
class StoreProgress:
    """How far an unfinished store is."""

    identity: Mapping[str, Any] = field(default_factory=dict)  # of the command that makes it
    consumed: int = 0  # images of the source that were processed
    count: int = 0  # images written
    sizes: dict[int, int] = field(default_factory=dict)  # bytes of their records, by resolution
    notes: dict[str, Any] = field(default_factory=dict)  # the command's own, as JSON values
    complete: bool = False  # the manifest is written; only the renaming is missing

    def dump(self) -> bytes:
        values = {name: value for name, value in vars(self).items() if name != "complete"}
        return json.dumps(values).encode()

    @classmethod
    def load(cls, text: bytes, complete: bool) -> StoreProgress:
        """Reads the bytes of `dump`. Raises `ValueError`, `KeyError`, `TypeError` or `RecursionError` for others."""
        values = json.loads(text)
        consumed, count, sizes = values["consumed"], values["count"], dict(values["sizes"])
        if any(type(number) is not int or number < 0 for number in (consumed, count, *sizes.values())):
            raise ValueError("a negative number of pictures or bytes")
        if count > consumed:
            raise ValueError(f"{count} of {consumed} pictures")
        by_side = {int(side): total for side, total in sizes.items()}
        return cls(dict(values["identity"]), consumed, count, by_side, dict(values["notes"]), complete)


def partial_path(dest: Path) -> Path:
    """Returns the path of the store `dest` while it is unfinished."""
    return dest.with_name(dest.name + ".partial")


def read_progress(path: Path) -> StoreProgress | None:
    """Reads the progress of an unfinished store, None if there is none.

    Raises `DataError` for a damaged store, `UsageError` for a database of another program.
    """
    if not (path / FILE).is_file() or os.path.getsize(path / FILE) < _MIN_FILE_BYTES:
        return None
    with explain_unfinished(path):
        with closing(LmdbPages(path / FILE)) as pages:
            known = META in pages.main.entries()
            if known:
                pages.database(META).check()
        with open_readonly(path) as env:
            if not known:
                if env.stat()["entries"]:
                    raise UsageError(f"{path} is in the way, and no unfinished store; rename or remove it")
                return None
            meta = env.open_db(META, create=False)
            with env.begin(db=meta) as txn:
                text, complete = txn.get(PROGRESS), txn.get(MANIFEST) is not None
        return None if text is None else StoreProgress.load(text, complete)


@contextmanager
def explain_unfinished(path: Path) -> Iterator[None]:
    """Turns what a damaged unfinished store raises in the block into a `DataError`."""
    what, advice = f"the unfinished store at {path}", "--overwrite it, or remove it"
    try:
        with reading(what, DataError, advice):
            yield
    except NoMemoryMaps:
        raise
    except DataError as error:
        if str(error).startswith(what):
            raise
        raise DataError(f"{what} is damaged ({error}); {advice}") from None


def load_resume_point(partial: Path, identity: Mapping[str, Any], overwrite: bool, clear: bool = True) -> StoreProgress:
    """Returns the progress of the command's unfinished store, or a new one if there is nothing to resume.

    Args:
        partial: The staging directory.
        identity: Of the command and its options; JSON values.
        overwrite: Discard an unfinished store of another command, or a damaged one.
        clear: Empty the staging directory where nothing is resumed; False for a dry run.

    Raises:
        UsageError: The unfinished store has another identity; the message names the differences.
        DataError: The unfinished store is damaged.
    """
    identity = json.loads(json.dumps(identity))
    try:
        progress = read_progress(partial)
    except DataError:
        if not overwrite:
            raise
        progress = None
    if progress is not None:
        differences = _differences(progress.identity, identity)
        if not differences:
            return progress
        if progress.complete:
            raise UsageError(f"{partial} is a whole store, made with other options; rename or remove it")
        if not overwrite:
            raise UsageError(
                f"the unfinished store at {partial} was made with other options ({'; '.join(differences)}); run that "
                "command again, or --overwrite (or remove it) to start anew"
            )
    if clear and partial.exists():
        shutil.rmtree(partial)
    return StoreProgress(identity)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Describes the differences between two identities in terms of the command line."""
    if old.get("command") != new.get("command"):
        return [f"it is of pggan {old.get('command', '(an older version)')}"]
    differences = []
    for name in [*new, *(name for name in old if name not in new)]:
        before, now = old.get(name), new.get(name)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            changed = [option for option in {**before, **now} if before.get(option) != now.get(option)]
            differences += [
                f"--{option.replace('_', '-')} {_change(before.get(option), now.get(option))}" for option in changed
            ]
        elif isinstance(now, (int, str)) and name != "digest":
            differences.append(f"{name} {_change(before, now)}")
        else:
            differences.append(f"another {_CONTENT.get(str(new.get('command')), 'content')}")
    return differences


_CONTENT = {"prepare-data": "SOURCE, or files in it have changed", "merge-data": "list of stores"}


def _change(before: Any, now: Any) -> str:
    return f"was {_shown(before)}, now {_shown(now)}"


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "given", False: "not given", None: "unset"}[value]
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)
