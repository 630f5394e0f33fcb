"""TensorBoard's events beside the log: a full disk costs values, and never the run."""

import errno

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import record_writer

from pggan.training.run.directory import RunDirectory
from pggan.training.run.log import RunLog


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
