"""Whole runs of seconds: what they leave, that they resume to the same numbers, and how they stop."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import pggan
from pggan.config.train import PerResolution
from pggan.data.loading import loader
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.store.store import Store
from pggan.training.monitor.display import QuietDisplay
from pggan.training.run.directory import RunDirectory
from pggan.training.run.log_reader import read_log
from pggan.training.start import begin, fit_to_data, resume
from pggan.utils.errors import DataError, ModelError, TrainingError, UsageError
from tests.helpers.runs import StopAfter, same, tensors


@pytest.mark.long
def test_a_run_leaves_everything(config, tmp_path):
    outcome = begin(config, tmp_path / "run", QuietDisplay())
    run = RunDirectory(tmp_path / "run")
    assert outcome.signal == 0
    assert outcome.nimg >= 200  # 40 + 2 * (40 + 40)
    assert run.read_options()[0] == config
    lines = read_log(run.log)
    assert [line["tick"] for line in lines] == list(range(1, len(lines) + 1))
    assert {line["resolution"] for line in lines} == {4, 8, 16}
    assert any(0 < line["alpha"] < 1 for line in lines)
    assert all(np.isfinite(line["d_loss"]) and np.isfinite(line["g_loss"]) for line in lines)
    # each phase ends with a snapshot of what it trained
    stages = [(line["resolution"], line["alpha"]) for line in lines]
    assert {(4, 1.0), (8, 1.0), (16, 1.0)} <= set(stages)
    names = sorted(p.name for p in run.samples.iterdir())
    assert {"reals-4x4.png", "reals-8x8.png", "reals-16x16.png"} <= set(names)
    assert sum("fade" not in n and n.endswith("-16x16.png") for n in names) >= 2
    with Image.open(run.samples / names[0]) as picture:
        assert picture.size == (10 * 64, 6 * 64)
    model = pggan.load(run.path, device="cpu")
    assert model.resolution == 16
    assert model.info["data"] == "drawn:40"
    assert model.generate([0]).std() > 0
    scalars = EventAccumulator(str(run.events)).Reload()
    steps = [event.step for event in scalars.Scalars("loss/d_loss")]
    assert steps == [line["nimg"] for line in lines]


@pytest.mark.long
@pytest.mark.parametrize("stop_at", [24, 56, 104, 160])
def test_resumed_equals_uninterrupted(config, tmp_path, stop_at):
    """Stopped in stable phases and mid-fade; exact on the CPU."""
    begin(config, tmp_path / "whole", QuietDisplay())
    stopped = begin(config, tmp_path / "cut", StopAfter(stop_at))
    assert stopped.signal == signal.SIGTERM
    assert stop_at <= stopped.nimg < stop_at + 16
    went_on = resume(RunDirectory(tmp_path / "cut"), QuietDisplay())
    assert went_on.signal == 0
    whole, cut = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "cut")
    assert whole.states()[-1].name == cut.states()[-1].name
    assert same(whole.states()[-1], cut.states()[-1])
    assert same(whole.models()[-1], cut.models()[-1])
    nimg = [line["nimg"] for line in read_log(cut.log)]
    assert nimg == sorted(set(nimg))


# Switches of the networks and of the loss that change much at once
RECIPE = {"resample": "bilinear", "mapping": 2, "gains": "he", "loss": "rpgan", "penalty_every": 2}
RECIPE |= {"loss_options": (("r1_gamma", "4:0.5,8:1"),)}


@pytest.mark.long
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_with_another_recipe_resumes_exactly(config, tmp_path, precision):
    config = dataclasses.replace(config, **RECIPE, precision=precision)
    begin(config, tmp_path / "whole", QuietDisplay())
    begin(config, tmp_path / "cut", StopAfter(56))
    resume(RunDirectory(tmp_path / "cut"), QuietDisplay())
    whole, cut = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "cut")
    assert same(whole.states()[-1], cut.states()[-1])
    assert same(whole.models()[-1], cut.models()[-1])
    model = pggan.load(cut.path, "cpu", truncation=0)
    assert np.array_equal(*model.generate([0, 1]))
    assert {"pairs", "r1", "r2", "g_pairs"} <= read_log(cut.log)[-1].keys()


@pytest.mark.long
def test_a_damaged_state_gives_way_to_the_one_before(config, tmp_path):
    begin(config, tmp_path / "run", QuietDisplay())
    run = RunDirectory(tmp_path / "run")
    last, before = run.states()[-1], run.states()[-2]
    last.write_bytes(last.read_bytes()[:-100])
    notes = []

    class Notes(QuietDisplay):
        def note(self, message):
            notes.append(message)

    resume(run, Notes())
    assert last.name in notes[0]
    assert before.name in notes[1]
    for path in run.states():
        path.write_bytes(b"nothing")
    with pytest.raises(ModelError, match="none of the training states"):
        resume(run, QuietDisplay())


@pytest.mark.long
def test_log_lines_beyond_the_state_are_cut(config, tmp_path):
    begin(config, tmp_path / "run", QuietDisplay())
    run = RunDirectory(tmp_path / "run")
    kept = run.states()[2]
    for path in run.states()[3:]:
        path.unlink()
    with run.log.open("a") as file:
        file.write('{"torn": ')
    resume(run, QuietDisplay())
    nimg = [line["nimg"] for line in read_log(run.log)]
    assert nimg == sorted(set(nimg))
    assert int(kept.stem.split("-")[1]) in nimg


@pytest.mark.long
def test_only_the_newest_states_remain(config, tmp_path):
    begin(dataclasses.replace(config, keep_checkpoints=2, keep_models=3), tmp_path / "run", QuietDisplay())
    run = RunDirectory(tmp_path / "run")
    assert len(run.states()) == 2
    assert len(run.models()) == 3


@pytest.mark.long
def test_conditional_run(config, data, tmp_path):
    with Store(data) as store:
        fitted = fit_to_data(dataclasses.replace(config, labels="beard"), store.manifest)
    assert fitted.label_size == 6
    begin(fitted, tmp_path / "run", QuietDisplay())
    model = pggan.load(tmp_path / "run", device="cpu")
    assert model.label_size == 6
    assert model.classes[0] == "none"
    assert not np.array_equal(model.generate([3], label="none"), model.generate([3], label="fullBeard"))
    out = model.discriminator(torch.zeros(4, 3, 16, 16))
    assert out.class_logits.shape == (4, 6)
    line = read_log(RunDirectory(tmp_path / "run").log)[-1]
    assert {"class_real", "class_fake", "g_class"} <= line.keys()


@pytest.mark.long
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_on_the_cpu(config, tmp_path, precision):
    first = PerResolution.of({4: 0.8, 8: 0.04})  # the loss scale takes some fifty steps to fit
    longer = dataclasses.replace(config, precision=precision, stable_kimg=first, tick_kimg=PerResolution(0.2))
    begin(longer, tmp_path / "run", QuietDisplay())
    state = tensors(RunDirectory(tmp_path / "run").states()[-1])
    kinds = {name: tensor.dtype for name, tensor in state.items()}
    assert set(kinds.values()) == {torch.float32}  # master weights and moments
    lines = read_log(RunDirectory(tmp_path / "run").log)
    if precision == "fp16":
        # the scale starts far too high and finds its way down by skipped steps
        assert lines[-1]["skipped_steps"] > 40
        assert 64 > state["scaler.d"] > 0
        with open(RunDirectory(tmp_path / "run").log, encoding="utf-8") as file:
            assert json.loads(file.readline())["d_loss"] is None  # not finite, and still JSON
    assert np.isfinite(lines[-1]["gradient_norm"])


@pytest.mark.long
def test_n_critic(config, tmp_path):
    begin(dataclasses.replace(config, n_critic=3), tmp_path / "run", QuietDisplay())
    line = read_log(RunDirectory(tmp_path / "run").log)[-1]
    assert line["nimg"] == line["iteration"] * 3 * 8


@pytest.mark.long
def test_refusals(config, tmp_path, data):
    begin(dataclasses.replace(config, total_kimg=0.008), tmp_path / "run", QuietDisplay())
    with pytest.raises(UsageError, match="holds a run already"):
        begin(config, tmp_path / "run", QuietDisplay())
    with pytest.raises(UsageError, match="is a data store; give the run a folder of its own"):
        begin(config, data, QuietDisplay())
    with pytest.raises(TrainingError, match="not a run"):
        resume(RunDirectory(tmp_path), QuietDisplay())
    options = tmp_path / "run" / "options.json"
    values = json.loads(options.read_text())
    values["config"]["new_thing"] = 1
    options.write_text(json.dumps(values))
    with pytest.raises(TrainingError, match="newer pggan"):
        resume(RunDirectory(tmp_path / "run"), QuietDisplay())
    with Store(data) as store:
        with pytest.raises(DataError, match="ends at 16x16"):
            fit_to_data(dataclasses.replace(config, max_res=32), store.manifest)
        with pytest.raises(DataError, match="no labels 'nose'"):
            fit_to_data(dataclasses.replace(config, labels="nose"), store.manifest)


@pytest.mark.long
def test_moved_and_other_data(config, data, tmp_path):
    begin(config, tmp_path / "run", StopAfter(56))
    run = RunDirectory(tmp_path / "run")
    moved, other = tmp_path / "moved", tmp_path / "other"
    shutil.copytree(data, moved)
    prepare("drawn:9", other, PrepareOptions(max_res=16))
    options = run.path / "options.json"
    values = json.loads(options.read_text())
    values["config"]["data"] = str(tmp_path / "gone")
    options.write_text(json.dumps(values))
    with pytest.raises(TrainingError, match="say where: pggan train DATA --resume"):
        resume(run, QuietDisplay())
    with pytest.raises(TrainingError, match="9 pictures"):
        resume(run, QuietDisplay(), data=str(other))
    assert resume(run, QuietDisplay(), data=str(moved)).signal == 0
    # data in the run itself moves with it
    begin(dataclasses.replace(config, total_kimg=0.016), tmp_path / "own", QuietDisplay())
    shutil.copytree(data, tmp_path / "own" / "data")
    values["resolved"] = json.loads((tmp_path / "own" / "options.json").read_text())["resolved"]
    (tmp_path / "own" / "options.json").write_text(json.dumps(values))
    assert resume(RunDirectory(tmp_path / "own"), QuietDisplay()).signal == 0


@pytest.mark.long
def test_parts_of_another_run_are_not_taken_over(config, tmp_path):
    begin(dataclasses.replace(config, total_kimg=0.016), tmp_path / "run", QuietDisplay())
    (tmp_path / "run" / "options.json").unlink()
    with pytest.raises(UsageError, match="parts of another run"):
        begin(config, tmp_path / "run", QuietDisplay())


@pytest.mark.parametrize("name", ["samples/mine.png", "options.json/x", "events", "models/a"])
def test_files_of_the_users_own_at_a_runs_names_are_kept(tmp_path, name):
    path = tmp_path / "folder" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(UsageError, match="is there already, and a run would write to it"):
        RunDirectory(tmp_path / "folder").check_free()
    assert path.read_text() == "mine"


@pytest.mark.long
def test_odd_run_files_raise_one_line(config, tmp_path):
    begin(dataclasses.replace(config, total_kimg=0.016), tmp_path / "run", QuietDisplay())
    run = RunDirectory(tmp_path / "run")
    run.log.write_text('[1]\n{"other": 1}\n' + run.log.read_text())
    resume(run, QuietDisplay())
    options = run.path / "options.json"
    values = json.loads(options.read_text())
    for change in ({"resolved": {}}, {"config": [1]}, {"config": {"seed": "x"}}):
        options.write_text(json.dumps({**values, **change}))
        with pytest.raises(TrainingError, match=r"options\.json"):
            resume(run, QuietDisplay())


@pytest.mark.long
def test_state_of_another_network_is_refused(config, tmp_path):
    begin(dataclasses.replace(config, total_kimg=0.016), tmp_path / "a", QuietDisplay())
    begin(dataclasses.replace(config, total_kimg=0.016, fmap_max=4), tmp_path / "b", QuietDisplay())
    a, b = RunDirectory(tmp_path / "a"), RunDirectory(tmp_path / "b")
    for path in a.states():
        path.write_bytes(b.states()[-1].read_bytes())
    with pytest.raises(ModelError, match="none of the training states"):
        resume(a, QuietDisplay())


@pytest.mark.long
def test_out_of_memory_says_what_helps(config, tmp_path, monkeypatch):
    def fails(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("pggan.training.loop.train_step", fails)
    with pytest.raises(TrainingError, match=r"at 4x4 with batch 8: start again with a smaller batch \(--batch 4:4\)"):
        begin(config, tmp_path / "run", QuietDisplay())


def test_moments_are_fresh_in_every_phase(config):
    from pggan.config.schedule import Schedule
    from pggan.training.engine.state import TrainState

    schedule = Schedule(dataclasses.replace(config, batch=PerResolution(8)))
    state = TrainState(config, torch.device("cpu"), "fp32")
    for parameter in state.generator.parameters():
        parameter.grad = torch.zeros_like(parameter)
    state.apply_schedule(schedule.at(0))
    state.g_optimizer.step()
    assert state.g_optimizer.state
    state.apply_schedule(schedule.at(40))
    assert state.g_optimizer.state
    state.apply_schedule(schedule.at(41))
    assert not state.g_optimizer.state


def test_a_gpu_is_fed_by_the_cores_of_its_process(monkeypatch):
    monkeypatch.setattr(loader, "available_cores", lambda: 24)
    for name in ("LOCAL_WORLD_SIZE", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert [loader.default_workers(name) for name in ("cpu", "cuda")] == [2, 16]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert loader.default_workers("cuda") == 6
