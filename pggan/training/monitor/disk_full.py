"""Full or failing disks: a write that fails becomes a warning, and training goes on."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from pggan.training.monitor.display import Display
from pggan.utils.errors import OutOfMemoryError

# No space, quota exceeded, file too large (also by ulimit -f), input/output error, read-only file system.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


@contextmanager
def tolerate_write_errors(display: Display, subject: str) -> Iterator[None]:
    """Turns a disk error in the block into a warning about `subject` ("the checkpoint"), and swallows it.

    Memory that has no room for a single image is treated alike. Any other error passes.
    """
    try:
        yield
    except OutOfMemoryError as error:
        display.note(f"WARNING: {subject} could not be made: {error}. The run goes on")
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        place = f" ({error.filename})" if error.filename else ""
        display.note(
            f"WARNING: {subject} could not be written: {error.strerror}{place}. The run goes on, and what was saved "
            "before is kept; free some space"
        )
