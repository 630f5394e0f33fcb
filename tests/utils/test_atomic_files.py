"""A name holds the whole new content, or what it held before."""

from __future__ import annotations

import errno
import json

import pytest

from pggan.utils.atomic_files import replace_atomically, write_json


class LibraryError(OSError):
    """As PyAV's: the file name cannot be changed."""

    filename = property(lambda self: None)


@pytest.mark.parametrize("kind", [OSError, LibraryError])
def test_a_failure_tells_the_name_that_was_asked_for(tmp_path, kind):
    path = tmp_path / "a"
    path.write_text("before")

    def fail(temporary):
        temporary.write_text("half")
        raise kind(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="No space left") as caught:
        replace_atomically(path, fail)
    assert caught.value.filename == str(path)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_an_interrupt_leaves_nothing(tmp_path):
    def interrupted(temporary):
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_atomically(tmp_path / "a", interrupted)
    assert not list(tmp_path.iterdir())


def test_json_is_written_whole_or_not_at_all(tmp_path):
    write_json(tmp_path / "a.json", {"name": "größe", "n": [1, 2]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": "größe", "n": [1, 2]}
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_json(tmp_path / "a.json", {"bad": object()})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["n"] == [1, 2]
