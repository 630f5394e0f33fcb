"""The message after Ctrl-C or SIGTERM where the same command resumes the work. Torch-free."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pggan.utils.errors import PgganError


class Interrupted(PgganError):  # noqa: N818 (an event, not a mistake)
    """Ctrl-C or SIGTERM: its message says how to resume, its exit status is the signal's, 130 or 143."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@contextmanager
def resume_hint(dest: str) -> Iterator[None]:
    """Raises `Interrupted` where the block is interrupted and leaves an unfinished store of `dest` to resume from."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as interrupt:
        from pggan.data.store.resume import partial_path, read_progress

        partial = partial_path(Path(os.path.realpath(dest)))
        try:
            progress = read_progress(partial)
        except PgganError:
            progress = None
        if progress is None:
            raise interrupt from None
        status = interrupt.code if isinstance(interrupt, SystemExit) else None
        raise Interrupted(
            f"interrupted; {progress.consumed} pictures are done and kept in {partial}, run the same command again to "
            "go on",
            status if isinstance(status, int) else 130,
        ) from None
