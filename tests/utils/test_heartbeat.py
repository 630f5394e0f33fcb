"""The heartbeat: a line where nothing was printed for a while."""

from __future__ import annotations

import time

import pytest

from pggan.utils import output
from pggan.utils.output import SILENCE, activity, say


@pytest.fixture
def heartbeat(monkeypatch):
    fresh = output._Heartbeat()
    monkeypatch.setattr(output, "_heartbeat", fresh)
    return fresh


def test_silence_is_broken_once_in_a_while(heartbeat, capsys):
    now = time.monotonic()
    heartbeat.beat(now + SILENCE - 1)
    assert capsys.readouterr().err == ""
    with activity(lambda: "evaluating: 3 of 8"):
        heartbeat.beat(now + SILENCE + 1)
        assert capsys.readouterr().err == "evaluating: 3 of 8 (0:16 since the start)\n"
        heartbeat.beat(now + SILENCE + 2)  # it has just spoken
        assert capsys.readouterr().err == ""
    heartbeat.beat(now + 3 * SILENCE)
    assert capsys.readouterr().err.startswith("at work")


def test_any_line_counts_and_quiet_commands_stay_silent(heartbeat, capsys):
    heartbeat.spoke -= 2 * SILENCE
    say("a line")
    heartbeat.beat(time.monotonic() + SILENCE - 1)
    assert capsys.readouterr().out == "a line\n"
    output.mute_heartbeat(True)
    heartbeat.beat(time.monotonic() + 100 * SILENCE)
    assert capsys.readouterr().err == ""
