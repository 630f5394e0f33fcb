import json

import pytest

from pggan.cli import run


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """Thumbnails of a test's models stay in its folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def printed(capsys):
    """Runs a command with --json and returns what it prints: `printed(["info", ...])`."""

    def call(arguments):
        capsys.readouterr()
        status = run([*arguments, "--json"])
        captured = capsys.readouterr()
        assert status == 0, captured.err
        return json.loads(captured.out)

    return call
