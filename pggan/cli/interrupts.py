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
        from pggan.data.store.staging import own_name

        place = Path(os.path.realpath(dest))
        partial, faces = partial_path(place), own_name(place, "faces")
        progress = None
        with suppress(PgganError):
            progress = read_progress(partial)
        if progress is not None:
            work = f"{progress.consumed} pictures are done and kept in {partial}"
        elif faces.is_file():
            work = f"the faces found so far are kept in {faces}"
        else:
            raise interrupt from None
        error = PgganError(f"interrupted; {work}, run the same command again to go on")
        status = interrupt.code if isinstance(interrupt, SystemExit) else None
        error.exit_code = status if isinstance(status, int) else 130
        raise error from None
