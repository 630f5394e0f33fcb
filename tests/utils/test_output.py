"""Output whose reader is gone, that is not there, or that cannot show a letter: the work goes on."""

import errno
import io
import os
import pty
import sys

import pytest

from pggan.utils.output import SafeStream, safe_streams, say


def text_stream(descriptor, encoding="utf-8"):
    return io.TextIOWrapper(os.fdopen(descriptor, "wb"), encoding=encoding)


class Failing(io.StringIO):
    def __init__(self, number):
        super().__init__()
        self.number = number

    def write(self, text):
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("err", [False, True])
def test_a_closed_pipe_and_a_terminal_that_is_gone_fall_silent(monkeypatch, err):
    for reader, writer in (os.pipe(), pty.openpty()):
        os.close(reader)
        stream = text_stream(writer)
        monkeypatch.setattr(sys, "stderr" if err else "stdout", stream)
        for _ in range(2):
            say("nobody reads this", err)
        stream.close()  # as at the end of a program: what is left in the buffer goes nowhere, too


@pytest.mark.parametrize("err", [False, True])
def test_streams_that_are_none_or_closed_are_passed_over(monkeypatch, err):
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stderr" if err else "stdout", stream)
        say("nobody reads this", err)
        assert not SafeStream(stream, must_work=not err).isatty()


@pytest.mark.parametrize("encoding", ["cp932", "cp437", "cp1252", "ascii"])
def test_letters_that_a_console_lacks_are_escaped(monkeypatch, encoding):
    bytes_out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_out, encoding=encoding))
    say("Stra\u00dfe \u201eToonHead\u201c \u4e2d done")
    written = bytes_out.getvalue().decode(encoding)
    assert written.startswith("Stra")
    assert written.rstrip("\r\n").endswith(" done")


def test_results_that_cannot_be_stored_are_an_error_and_messages_are_not(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Failing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        say("a result")
    monkeypatch.setattr(sys, "stderr", Failing(errno.ENOSPC))
    say("a message", err=True)


def test_other_libraries_print_through_safe_streams(monkeypatch):
    out, err = Failing(errno.EPIPE), Failing(errno.EIO)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with safe_streams():
        print("a library")
        print("another", file=sys.stderr)
        from rich.console import Console

        Console(stderr=True).print("a bar")
    assert (sys.stdout, sys.stderr) == (out, err)
