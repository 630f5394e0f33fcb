"""Reads foreign bytes: whatever a reader raises is that file's fault, and becomes one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pggan.utils.errors import PgganError
from pggan.utils.formatting import one_line


@contextmanager
def reading(what: str, error: type[PgganError], advice: str = "") -> Iterator[None]:
    """Turns any exception of the block into `error`: "WHAT is damaged or not what it claims to be (reason); ADVICE".

    RecursionError, OverflowError, MemoryError, struct and Unicode errors are among them. Errors of pggan pass as they
    are, and so do those of the operating system (a missing file, a full disk).

    Args:
        what: Names the file, and the part of it: "DATA/data.mdb: record 7 at 64x64".
        error: `DataError` or `ModelError`.
        advice: What helps, without a full stop.
    """
    try:
        yield
    except PgganError:
        raise
    except Exception as problem:
        if isinstance(problem, OSError) and problem.errno is not None:
            raise
        hint = f"; {advice}" if advice else ""
        raise error(f"{what} is damaged or not what it claims to be ({one_line(problem)}){hint}") from problem
