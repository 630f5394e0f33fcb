"""The log, and TensorBoard's events beside it: a full disk costs values, and never the run."""

import errno
import os
import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import record_writer

from pggan.training.run.directory import RunDirectory
from pggan.training.run.log import RunLog
from pggan.training.run.log_reader import read_log


def line(nimg):
    return {"nimg": nimg, "kimg": nimg / 1000, "d_loss": float(nimg)}


def test_events_go_on_after_a_full_disk(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    run, notes = RunDirectory(tmp_path / "run"), []
    original = record_writer.RecordWriter.write
    full = []

    def write(self, data):
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(self, data)

    monkeypatch.setattr(record_writer.RecordWriter, "write", write)
    with RunLog(run, 0, notes.append) as log:
        log.tick(line(1000))
        full.append(True)
        log.tick(line(2000))
        log.tick(line(3000))
        assert len(notes) == 1
        assert "TensorBoard's events could not be written" in notes[0]
        full.clear()
        log.tick(line(4000))
        log.tick(line(5000))
    events = EventAccumulator(str(run.events)).Reload()
    assert [scalar.step for scalar in events.Scalars("loss/d_loss")] in ([1000, 4000, 5000], [1000, 5000])
    assert len(run.log.read_text().splitlines()) == 5
    assert len(notes) == 1


FULL = """
import resource, sys
from pathlib import Path
from pggan.training.run.log import LogFile

def line(nimg):
    return {"nimg": nimg, "resolution": 4, "alpha": 1.0}

path = Path(sys.argv[1])
log = LogFile(path)
log.open(0)
log.tick(line(8))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, hard))
failed = 0
for write in (lambda: log.tick(line(16)), lambda: log.add_metrics(8, {"swd": 1.0}), lambda: log.tick(line(24))):
    try:
        write()
    except OSError:
        failed += 1
if sys.argv[2] == "more":
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    log.add_metrics(8, {"swd": 2.0})
    log.tick(line(32))
log.close()
print(failed)
"""


@pytest.mark.skipif(os.name == "nt", reason="limits of files")
@pytest.mark.parametrize("later,seen", [("", [8]), ("more", [8, 32])])
def test_the_log_goes_on_after_a_full_disk(tmp_path, later, seen):
    """A line, metrics and another line find no room; then there is some again, or the run ends."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "log.jsonl"), later], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout == "3\n"
    lines = read_log(tmp_path / "log.jsonl")
    assert set(seen) <= {line["nimg"] for line in lines}
    assert lines[0].get("swd") == (2.0 if later else None)
