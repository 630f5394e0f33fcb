"""The search for faces around its detector: where the report goes, duplicates that stay together, interruptions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pggan.data.prepare.prepare import PrepareOptions, plan, prepare
from pggan.utils.errors import UsageError


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (".", "is a directory; give a file name"),
        ("missing/faces.csv", "there is no directory .*missing; make it"),
        ("a.txt/faces.csv", "there is no directory .*a.txt; make it"),
        ("data", "is where the store will be"),
        ("data/faces.csv", "is where the store will be"),
        ("data.partial/faces.csv", "is where the store will be"),
        ("pipe", "is no file but a device or a pipe"),
        ("closed/faces.csv", "closed is not writable"),
    ],
)
def test_a_report_that_cannot_be_written_is_refused_before_the_search(tmp_path, monkeypatch, report, reason):
    (tmp_path / "a.txt").touch()
    (tmp_path / "closed").mkdir()
    os.mkfifo(tmp_path / "pipe")
    access = os.access  # root may write everywhere
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed" and access(path, mode))
    monkeypatch.setattr("pggan.data.prepare.prepare.find_faces", lambda *arguments: pytest.fail("it searched"))
    options = PrepareOptions(align="auto", report=str(tmp_path / report))
    for make in (prepare, plan):
        with pytest.raises(UsageError, match=reason) as raised:
            make("drawn:3", tmp_path / "data", options)
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "data").exists()
