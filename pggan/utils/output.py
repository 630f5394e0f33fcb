"""The one way in which pggan prints, and the heartbeat: a line where nothing was printed for a while.

What is printed is escaped: a file's contents cannot move the cursor, set a title or fake a line. Output that nobody can
read any more never ends the work: a closed pipe, a terminal that is gone, a console that lacks a letter. Results on
stdout that could not be stored, as on a full disk, are an error.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from pggan.utils.formatting import duration, printable

# Seconds without a line after which the heartbeat prints one.
SILENCE = 15.0


class _Heartbeat:
    """What the program is at, for the line that says so; all of it is of this process."""

    def __init__(self) -> None:
        self.started = self.spoke = time.monotonic()
        self.activities: list[Callable[[], str]] = []
        self.muted = False

    def beat(self, now: float) -> None:
        """Prints what the program is at, where it printed nothing for `SILENCE` seconds."""
        if self.muted or now - self.spoke < SILENCE:
            return
        describe = self.activities[-1] if self.activities else lambda: "at work"
        say(f"{describe()} ({duration(now - self.started)} since the start)", err=True)
        self.spoke = now


_heartbeat = _Heartbeat()

# Errors of a stream whose reader is gone: a closed pipe or terminal, a closed descriptor.
_GONE = (errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO, errno.ESHUTDOWN, errno.ECONNRESET)


def say(message: object, err: bool = False) -> None:
    """Prints a line on stdout, or on stderr; control characters in it, line breaks among them, are escaped.

    Raises `OSError` where stdout is a file that cannot be written.
    """
    _heartbeat.spoke = time.monotonic()
    stream = SafeStream(sys.stderr if err else sys.stdout, must_work=not err)
    stream.write(printable(str(message)) + "\n")
    stream.flush()


@contextmanager
def activity(describe: Callable[[], str]) -> Iterator[None]:
    """Has the heartbeat print what `describe` returns while the block runs; another thread calls it."""
    _heartbeat.activities.append(describe)
    try:
        yield
    finally:
        _heartbeat.activities.remove(describe)


def mute_heartbeat(muted: bool) -> None:
    """Stops the heartbeat: the user wants no progress, or sees it move."""
    _heartbeat.muted = muted


def start_heartbeat() -> None:
    """Starts the thread that prints a line on stderr where nothing else was printed for a while."""

    def beat() -> None:
        while True:
            time.sleep(1.0)
            _heartbeat.beat(time.monotonic())

    threading.Thread(target=beat, name="heartbeat", daemon=True).start()


class SafeStream:
    """A text stream that falls silent where its reader is gone, and escapes letters that it cannot show.

    Args:
        stream: The stream; None, as in programs without a console: nothing is written.
        must_work: Other failures, such as a full disk, are raised; False: they fall silent, too.
    """

    def __init__(self, stream: Any, must_work: bool) -> None:
        self._stream, self._must_work = stream, must_work

    def write(self, text: str) -> int:
        if not isinstance(text, str):  # by this, libraries find out that the stream takes text
            raise TypeError("a text stream takes str")
        try:
            try:
                self._call("write", text)
            except UnicodeEncodeError:
                encoding = getattr(self._stream, "encoding", None) or "ascii"
                self._call("write", text.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, ValueError) as error:
            self._fail(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._call("flush")
        except (OSError, ValueError) as error:
            self._fail(error)

    def isatty(self) -> bool:
        try:
            return bool(self._stream is not None and self._stream.isatty())
        except (OSError, ValueError):
            return False

    def _call(self, name: str, *arguments: str) -> None:
        if self._stream is not None:
            getattr(self._stream, name)(*arguments)

    def _fail(self, error: OSError | ValueError) -> None:
        """Lets the stream fall silent: what is written to it from here on, by whatever library, goes nowhere."""
        with suppress(OSError, ValueError, AttributeError):
            number, nowhere = self._stream.fileno(), os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)
        is_gone = not isinstance(error, OSError) or error.errno in _GONE or (os.name == "nt" and error.errno == 22)
        if self._must_work and not is_gone:
            raise error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Makes stdout and stderr `SafeStream`s for the block, so that no library's output ends the work either."""
    own = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = SafeStream(own[0], must_work=True), SafeStream(own[1], must_work=False)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = own


def open_missing_descriptors() -> None:
    """Opens the standard descriptors that are closed, as under cron, on nothing.

    Otherwise the next file that is opened, such as a data store, would take their numbers, and messages with them.
    """
    with suppress(OSError):
        while True:
            number = os.open(os.devnull, os.O_RDWR)
            if number > 2:
                os.close(number)
                break
            os.set_inheritable(number, True)
