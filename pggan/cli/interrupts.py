"""The message after Ctrl-C or SIGTERM where the same command resumes the work. Torch-free."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pggan.utils.errors import PgganError


@contextmanager
def resume_hint(dest: str) -> Iterator[None]:
    """Says how to resume where the block is interrupted and leaves an unfinished store of `dest` to resume from.

    The exit status of that error is the signal's, 130 (Ctrl-C) or 143 (SIGTERM).
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as interrupt:
        from pggan.data.store.resume import partial_path, read_progress

        partial = partial_path(Path(os.path.realpath(dest)))
        progress = None
        with suppress(PgganError):
            progress = read_progress(partial)
        if progress is None:
            raise interrupt from None
        error = PgganError(
            f"interrupted; {progress.consumed} pictures are done and kept in {partial}, run the same command again to "
            "go on"
        )
        status = interrupt.code if isinstance(interrupt, SystemExit) else None
        error.exit_code = status if isinstance(status, int) else 130
        raise error from None
