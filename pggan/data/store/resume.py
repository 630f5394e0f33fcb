"""How far an unfinished store is: a record that every transaction renews, and what the same command is told by."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lmdb

from pggan.data.store.store import FILE, MANIFEST, META, check_length
from pggan.utils.errors import DataError, UsageError

PROGRESS = b"progress"
# An LMDB begins with two pages of its own: a file that is shorter was left in its first moment.
_SHORTEST = 2 * 4096


@dataclass
class Progress:
    """`consumed` of the source, `count` written with `sizes` (bytes by resolution); `identity`: of what command.

    `notes`: what the command keeps with it. `whole`: the manifest is written, only the name is to be taken.
    """

    identity: Mapping[str, Any] = field(default_factory=dict)
    consumed: int = 0
    count: int = 0
    sizes: dict[int, int] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    whole: bool = False

    def dump(self) -> bytes:
        values = {name: value for name, value in vars(self).items() if name != "whole"}
        return json.dumps(values).encode()

    @classmethod
    def load(cls, text: bytes, whole: bool) -> Progress:
        values = json.loads(text)
        return cls(
            values["identity"],
            int(values["consumed"]),
            int(values["count"]),
            {int(side): int(count) for side, count in values["sizes"].items()},
            dict(values["notes"]),
            whole,
        )


def unfinished(dest: Path) -> Path:
    """Where the store `dest` is while it is made."""
    return dest.with_name(dest.name + ".partial")


def read_progress(path: Path) -> Progress | None:
    """That of an unfinished store; None where there is nothing to go on from. Raises `DataError` for a damaged one."""
    if not (path / FILE).is_file() or os.path.getsize(path / FILE) < _SHORTEST:
        return None
    try:
        with lmdb.open(str(path), readonly=True, lock=False, max_dbs=2, create=False) as env:
            check_length(env, path)
            meta = env.open_db(META, create=False)
            with env.begin(db=meta) as txn:
                text, whole = txn.get(PROGRESS), txn.get(MANIFEST) is not None
        return None if text is None else Progress.load(text, whole)
    except lmdb.NotFoundError:
        return None
    except (lmdb.Error, ValueError, KeyError, TypeError, AttributeError, DataError) as error:
        raise DataError(f"the unfinished store at {path} is damaged ({error}); --overwrite it, or remove it") from None


def load_resume_point(partial: Path, identity: Mapping[str, Any], overwrite: bool, clear: bool = True) -> Progress:
    """What is there of the store that `identity` describes; if nothing, a new beginning in an empty place.

    Another command's unfinished store gives way under `overwrite` only. `clear` False: nothing is removed yet. Raises
    `UsageError` that names what differs, `DataError`.
    """
    wanted = json.loads(json.dumps(identity))
    try:
        found = read_progress(partial)
    except DataError:
        if not overwrite:
            raise
        found = None
    if found is not None:
        differences = _differences(found.identity, wanted)
        if not differences:
            return found
        if not overwrite:
            raise UsageError(
                f"the unfinished store at {partial} was made with other options ({'; '.join(differences)}); run that "
                "command again, or --overwrite (or remove it) to start anew"
            )
    if clear and partial.exists():
        shutil.rmtree(partial)
    return Progress(wanted)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two identities, as a person asked for it."""
    if old.get("command") != new.get("command"):
        return [f"it is of pggan {old.get('command', '(an older version)')}"]
    found = []
    for name in [*new, *(name for name in old if name not in new)]:
        before, now = old.get(name), new.get(name)
        if before == now:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            changed = [each for each in {**before, **now} if before.get(each) != now.get(each)]
            found += [f"--{each.replace('_', '-')} {_change(before.get(each), now.get(each))}" for each in changed]
        elif isinstance(now, (int, str)) and name != "digest":
            found.append(f"{name} {_change(before, now)}")
        else:
            found.append(f"another {_CONTENT.get(str(new.get('command')), 'content')}")
    return found


_CONTENT = {"prepare-data": "SOURCE, or files in it have changed", "merge-data": "list of stores"}


def _change(before: Any, now: Any) -> str:
    return f"was {_said(before)}, now {_said(now)}"


def _said(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "given", False: "not given", None: "unset"}[value]
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)
