"""--on-snapshot: a command for every new model. No file and no run can ask for it, or for a tracker or an address."""

import dataclasses
import json
import os
import signal
import sys
import threading
from types import SimpleNamespace

import pytest

from pggan.cli import run as pggan
from pggan.config.train import PerResolution
from pggan.training.run.call_options import CallOptions
from pggan.training.run.directory import OPTIONS, RunDirectory
from pggan.training.run.signals import Signals
from pggan.training.run.snapshot_command import SnapshotCommand, split_command
from pggan.training.start import begin, resume
from pggan.utils.errors import UsageError
from pggan.utils.formatting import paste
from tests.helpers.runs import Notes

PYTHON = paste(sys.executable)
ENDED, STOPPED = (SimpleNamespace(stop_received=value) for value in (False, True))


@pytest.fixture
def short(config):
    few = PerResolution(0.016)
    return dataclasses.replace(config, start_res=8, max_res=8, stable_kimg=few, tick_kimg=few)


@pytest.fixture
def seen(tmp_path):
    """A command that writes its last argument, and what it finds in its environment, to a file."""
    script, file = tmp_path / "seen.py", tmp_path / "seen.txt"
    script.write_text(
        "import os, sys\n"
        f"open({str(file)!r}, 'a').write(' '.join([sys.argv[-1], os.environ['PGGAN_NIMG'], os.environ['PGGAN_RUN']]) + "
        "'\\n')\n"
    )
    return f"{PYTHON} {paste(script)}", file


def test_each_model_is_given_to_the_command(short, seen, tmp_path):
    command, file = seen
    begin(short, tmp_path / "run", Notes(), call=CallOptions(on_snapshot=command))
    run = RunDirectory(tmp_path / "run")
    assert len(run.models()) == 1
    assert file.read_text().splitlines() == [f"{path} {int(path.stem[6:])} {run.path}" for path in run.models()]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (f"{PYTHON} -c 'print(7); raise SystemExit(3)'", "ended with status 3"),
        ("/nowhere/at-all", "No such file"),
        (f"{PYTHON} -c 'import os; os.kill(os.getpid(), 9)'", "signal 9 ended"),
    ],
)
def test_a_failure_is_told_and_never_fatal(short, tmp_path, command, reason):
    notes = Notes()
    result = begin(short, tmp_path / "run", notes, call=CallOptions(on_snapshot=command))
    assert result.nimg == 16
    (warning,) = [note for note in notes.said if "--on-snapshot" in note]
    assert warning.startswith("WARNING: --on-snapshot failed for model-000000016.safetensors: ")
    assert reason in warning
    assert "\n" not in warning
    if "status 3" in reason:
        assert (tmp_path / "run" / "on_snapshot.log").read_text().split() == ["7"]


def test_commands_run_one_after_the_other_and_an_interrupted_run_leaves_those_that_wait(tmp_path, seen):
    command, file = seen
    notes, run = [], RunDirectory(tmp_path)
    slow = SnapshotCommand(f"{PYTHON} -c 'import time; time.sleep(1)'", run, notes.append)
    for nimg in range(3):
        slow.start(tmp_path / f"model-{nimg}", nimg)
    while slow._models.qsize() > 2:  # the first one runs
        os.sched_yield()
    slow.close(STOPPED)
    assert not slow._thread.is_alive()
    quick = SnapshotCommand(command, run, notes.append)
    for nimg in range(3):
        quick.start(tmp_path / f"model-{nimg}", nimg)
    quick.close(ENDED)
    assert [line.split()[1] for line in file.read_text().splitlines()] == ["0", "1", "2"]
    assert notes == []


def test_a_signal_is_heard_while_the_end_of_a_run_waits(tmp_path, monkeypatch):
    monkeypatch.setattr("pggan.training.run.snapshot_command.GRACE_SECONDS", 0.2)
    notes = []
    command = SnapshotCommand(f"{PYTHON} -c 'import time; time.sleep(3)'", RunDirectory(tmp_path), notes.append)
    command.start(tmp_path / "model-1", 1)
    with Signals() as signals:
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        command.close(signals)
        timer.join()
    assert len(notes) == 1
    assert "is not done; it goes on by itself" in notes[0]


@pytest.mark.skipif(not hasattr(os, "getsid"), reason="no sessions")
def test_ctrl_c_in_the_terminal_of_a_run_leaves_the_command_alone(tmp_path):
    """It goes to all processes of the terminal's group."""
    command = SnapshotCommand(f"{PYTHON} -c 'import os; print(os.getpgrp())'", RunDirectory(tmp_path), print)
    command.start(tmp_path / "model-1", 1)
    command.close(ENDED)
    assert int((tmp_path / "on_snapshot.log").read_text()) != os.getpgrp()


@pytest.mark.parametrize("command", ["", "  ", "'unfinished"])
def test_what_is_no_command_is_refused(command):
    with pytest.raises(UsageError, match="--on-snapshot"):
        split_command(command)


def test_the_words_are_given_to_no_shell(tmp_path):
    notes = []
    command = SnapshotCommand(f"{PYTHON} -c 'import sys; print(sys.argv[1:])' $HOME ; touch x", RunDirectory(tmp_path),
                              notes.append)  # fmt: skip
    command.start(tmp_path / "model with spaces; touch y", 1)
    command.close(ENDED)
    shown = (tmp_path / "on_snapshot.log").read_text()
    assert shown.strip() == str(["$HOME", ";", "touch", "x", str(tmp_path / "model with spaces; touch y")])


@pytest.mark.parametrize("name", ["on-snapshot", "on_snapshot", "track"])
def test_a_configuration_file_cannot_ask_for_a_command_or_a_tracker(name, tmp_path, capsys):
    file = tmp_path / "run.toml"
    file.write_text(f"{name} = 'wandb'\n")
    assert pggan(["train", "--config", str(file), "--dry-run"]) == 2
    assert f"{name} belongs on the command line, not into a file" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["on_snapshot", "track"])
@pytest.mark.parametrize("place", ["config", "resolved", "changes", "top"])
def test_a_run_of_another_person_cannot_ask_for_them_either(short, seen, tmp_path, name, place, capsys, monkeypatch):
    """Whether such a run is refused or goes on: nothing is started, nothing sent, nothing copied."""
    command, file = seen
    imported = []
    monkeypatch.setattr("pggan.training.run.trackers.find_tracker", imported.append)
    begin(dataclasses.replace(short, total_kimg=0.016), tmp_path / "run", Notes())
    run = RunDirectory(tmp_path / "run")
    values = json.loads((run.path / OPTIONS).read_text())
    asked = {name: command if name == "on_snapshot" else "wandb"}
    if place == "top":
        values |= asked
    elif place == "changes":
        values["changes"] = [{"at_nimg": 0, **asked}]
    else:
        values[place] |= asked
    (run.path / OPTIONS).write_text(json.dumps(values))
    (run.path / "tracker.json").write_text(json.dumps({"wandb": {"id": "0" * 16, "sent": {}}, **asked}))
    for arguments in (
        ["--resume", str(run.path), "--override", "--total-kimg", "0.032"],
        ["--like", str(run.path), str(short.data), "--out", str(tmp_path / "second")],
        ["--config", str(run.path / OPTIONS), str(short.data), "--out", str(tmp_path / "third")],
        ["--like", str(run.path), "--write-config"],
    ):
        pggan(["train", "--quiet", "--eval-every", "0", *arguments])
        assert "seen.py" not in capsys.readouterr().out
    assert not file.exists()
    assert imported == []
    for other in ("second", "third"):
        recorded = tmp_path / other / OPTIONS
        assert recorded.exists() == (place != "config")
        assert not recorded.exists() or name not in recorded.read_text()
    # the run itself did go on where its file could be read at all
    assert place == "config" or run.model(32).exists()


def test_what_a_call_asks_for_is_not_recorded(short, seen, tmp_path):
    command, file = seen
    begin(short, tmp_path / "run", Notes(), call=CallOptions(on_snapshot=command))
    assert len(file.read_text().splitlines()) == 1
    for path in tmp_path.glob("run/**/*"):
        assert path.is_dir() or b"seen.py" not in path.read_bytes(), path
    resume(RunDirectory(tmp_path / "run"), Notes(), changes={"total_kimg": 0.032}, override=True)
    assert RunDirectory(tmp_path / "run").model(32).exists()
    assert len(file.read_text().splitlines()) == 1


def test_models_stay_until_the_command_has_seen_them(short, tmp_path):
    """Also with --keep-models 1, and no longer."""
    script, file = tmp_path / "slow.py", tmp_path / "there.txt"
    script.write_text(
        f"import os, sys, time\ntime.sleep(0.5)\nopen({str(file)!r}, 'a').write(f'{{os.path.exists(sys.argv[-1])}} ')\n"
    )
    often = dataclasses.replace(short, stable_kimg=PerResolution(0.08), snapshot_ticks=1, keep_models=1)
    begin(often, tmp_path / "run", Notes(), call=CallOptions(on_snapshot=f"{PYTHON} {paste(script)}"))
    assert file.read_text().split() == ["True"] * 5
    assert len(RunDirectory(tmp_path / "run").models()) == 1
