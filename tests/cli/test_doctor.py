"""`pggan doctor` and `pggan completion`: what a machine has, its faults in one line each, caches, completion."""

import importlib
import json
from importlib import metadata
from pathlib import Path

import pytest

from pggan.cli import doctor, run
from pggan.config.presets import PRESETS
from pggan.utils.caching.cache_folders import cache_root
from pggan.utils.errors import PgganError
from pggan.utils.paths import shipped


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_root()


def report(capsys, *options):
    status = run(["doctor", "--json", *options])
    return status, json.loads(capsys.readouterr().out)


def test_it_says_what_is_there(capsys, cache):
    status, values = report(capsys)
    assert (status, values["faults"]) == (0, [])
    assert values["versions"]["torch"] == metadata.version("torch")
    assert set(values["models"]) == set(shipped())
    assert values["devices"]["chosen"] in {"cpu", "cuda:0"}
    assert set(values["extras"]) == set(metadata.metadata("pggan").get_all("Provides-Extra"))
    assert str(Path.home()) not in json.dumps({**values, "caches": None})


def test_faults_are_one_line_each_and_the_rest_is_said(capsys, cache, monkeypatch):
    def broken(name):
        if name == "PIL":
            raise ImportError("libjpeg.so.9:\ncannot open shared object file")
        return importlib_import(name)

    importlib_import = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", broken)
    monkeypatch.setitem(doctor.SECTIONS, "memory", lambda: 1 / 0)
    version = metadata.version("pillow")
    assert run(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        f"fault: pillow: {version} cannot be imported (libjpeg.so.9: cannot open shared object file); install it again",
        "fault: memory: ZeroDivisionError: division by zero",
    ]
    assert any(line.startswith("extras") for line in lines)


def test_caches_are_named_and_cleared_but_no_file_behind_a_link(capsys, cache, tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (cache / "compiled").mkdir(parents=True)
    (cache / "compiled" / "code.so").write_bytes(b"x" * 5000)
    (cache / "link").symlink_to(mine)
    (cache / "folder").symlink_to(tmp_path)
    assert report(capsys)[1]["caches"]["compiled"].startswith("4.9 KiB of at most 4.0 GiB: ")
    report(capsys, "--clear-caches")
    assert list(cache.iterdir()) == []
    assert mine.read_text() == "mine"
    assert report(capsys)[1]["caches"] == {"folder": str(cache)}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_lines(shell, capsys):
    assert run(["completion", shell]) == 0
    assert "_PGGAN_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("pggan doc", {"doctor"}),
        ("pggan train --preset celebahq-v2", {name for name in PRESETS.names() if name.startswith("celebahq-v2")}),
        ("pggan generate fa", {"faces", "fa"}),
        ("pggan export fa", {"faces", "fa"}),
        ("pggan train --no-mir", {"--no-mirror"}),
    ],
)
def test_a_shell_completes(words, expected, monkeypatch, capsys):
    monkeypatch.setenv("_PGGAN_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    with pytest.raises((SystemExit, PgganError)):
        run([])
    assert {line.split(",")[1] for line in capsys.readouterr().out.splitlines()} == expected
