"""What is said where work that can be gone on with is stopped (torch-free)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pggan.utils.errors import PgganError


class Stopped(PgganError):  # noqa: N818 (what happened)
    """Ctrl-C or SIGTERM, with the exit status that it has."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def can_go_on(dest: str) -> Iterator[None]:
    """Says so when the block is stopped and an unfinished store of `dest` stays."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        from pggan.data.store.resume import partial_path, read_progress

        partial = partial_path(Path(os.path.realpath(dest)))
        try:
            kept = read_progress(partial)
        except PgganError:
            kept = None
        if kept is None:
            raise stop from None
        status = stop.code if isinstance(stop, SystemExit) and isinstance(stop.code, int) else 130
        raise Stopped(
            f"interrupted; {kept.consumed} pictures are done and kept in {partial}, run the same command again to go "
            "on",
            status,
        ) from None
