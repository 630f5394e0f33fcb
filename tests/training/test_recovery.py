"""Runs that go wrong: faults injected, disks that fill up, memory that runs out, two runs in one directory."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from pggan.cli import run as run_command
from pggan.config.schedule import ScheduleState
from pggan.config.train import PerResolution, TrainConfig
from pggan.training import loop
from pggan.training.engine import loss_functions, step
from pggan.training.engine.batch_builder import BatchBuilder, example_inputs
from pggan.training.engine.loss_functions import StepInputs
from pggan.training.engine.loss_scaler import START
from pggan.training.engine.state import TrainState
from pggan.training.engine.step_executor import StepExecutor
from pggan.training.monitor import health
from pggan.training.monitor.display import QuietDisplay
from pggan.training.run.directory import RunDirectory
from pggan.training.run.log_reader import read_lines, read_log
from pggan.training.start import begin, resume
from pggan.utils.errors import TrainingError, UsageError
from tests.helpers.runs import Notes, poisoned, same


def events_of(run):
    """The lines of a log with an entry "event": what happened between the ticks."""
    return [line for line, _ in read_lines(run.log) if "event" in line]


@pytest.mark.long
@pytest.mark.parametrize("fused", [False, True])
def test_a_faulty_step_is_left_out_and_counted(config, tmp_path, monkeypatch, fused):
    monkeypatch.setattr(loop, "TrainState", lambda *a: TrainState(*a, fused=fused))
    poisoned(monkeypatch, lambda call: call in (3, 8))
    begin(config, tmp_path / "run", QuietDisplay())
    lines = read_log(RunDirectory(tmp_path / "run").log)
    assert (lines[-1]["skipped_steps"], lines[-1]["faulty_steps"], lines[-1]["rollbacks"]) == (2, 2, 0)
    assert all(np.isfinite(line["d_loss"]) for line in lines)


def test_fused_and_plain_optimisers_skip_the_same_step(config, monkeypatch):
    """Weights after a faulty step between two good ones, either way."""
    weights = []
    for fused in (False, True):
        state = TrainState(config, torch.device("cpu"), "fp32", fused=fused)
        state.apply_schedule(ScheduleState(0, 0, 2, 1.0, 8, 0.001, 0.001))
        parameters = loss_functions.parameters_of(state.generator)
        for value in (1.0, float("nan"), 2.0):
            values = {name: torch.full_like(p, value) for name, p in parameters.items()}
            finite = state.g_scaler.check_finite_and_update(values.values())
            step.optimizer_step(state.generator, state.g_optimizer, values, finite)
        assert state.g_scaler.read_counts() == (1, 1)
        weights.append([p.detach().clone() for p in parameters.values()])
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*weights))


@pytest.mark.parametrize("faulty", [0, 1, 2])
def test_a_faulty_step_without_a_fused_optimiser_is_undone_on_the_device(config, faulty):
    """RMSprop has no fused form, and a host that asked whether a step is finite would wait for the GPU."""
    weights = []
    for on_device in (False, True):
        state = TrainState(dataclasses.replace(config, loss="wgan"), torch.device("cpu"), "fp32")
        state.apply_schedule(ScheduleState(0, 0, 2, 1.0, 8, 0.001, 0.001))
        parameters = loss_functions.parameters_of(state.generator)
        fresh = [p.detach().clone() for p in parameters.values()]
        for number in range(3):
            value = float("nan") if number == faulty else 1.0 + number
            finite = torch.tensor(float(number != faulty))
            gradients = {name: torch.full_like(p, value) for name, p in parameters.items()}
            if on_device:
                for name, parameter in parameters.items():
                    parameter.grad = gradients[name]
                step.step_or_undo(state.generator, state.g_optimizer, finite)
            else:
                step.optimizer_step(state.generator, state.g_optimizer, gradients, finite)
        weights.append([p.detach().clone() for p in parameters.values()])
    assert all(torch.equal(a, b) for a, b in zip(*weights))
    assert not torch.equal(weights[0][0], fresh[0])


@pytest.mark.long
def test_persistent_faults_roll_back_with_lower_rates(config, tmp_path, monkeypatch):
    many = dataclasses.replace(config, tick_kimg=PerResolution(0.04), rollback_lr=0.25, max_rollbacks=9)
    calls = poisoned(monkeypatch, lambda call: 24 < call <= 60)
    notes = Notes()
    outcome = begin(many, tmp_path / "run", notes)
    assert outcome.nimg >= 200  # it got through in the end
    assert calls[0] > 60
    run = RunDirectory(tmp_path / "run")
    events = events_of(run)
    assert {event["event"] for event in events} == {"rollback"}
    assert [event["times"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["lr_factor"] == 0.25
    assert events[0]["to"] < events[0]["at_nimg"]
    lines = read_log(run.log)
    assert lines[-1]["g_lr"] == pytest.approx(0.001 * 0.25 ** len(events))
    nimg = [line["nimg"] for line in lines]
    assert nimg == sorted(set(nimg))
    assert any("went wrong" in said and "not finite" in said for said in notes.said)


@pytest.mark.long
@pytest.mark.parametrize("first", [4, 24])  # before the first checkpoint, and after it
def test_a_stop_right_after_a_rollback_keeps_the_lower_rates(config, tmp_path, monkeypatch, first):
    class StopThere(Notes):
        def note(self, message):
            super().note(message)
            if "went wrong" in message:
                os.kill(os.getpid(), signal.SIGTERM)

    poisoned(monkeypatch, lambda call: call > first)
    few = dataclasses.replace(config, tick_kimg=PerResolution(0.04))
    run = begin(few, tmp_path / "run", StopThere()).run
    monkeypatch.undo()
    assert resume(run, QuietDisplay()).signal == 0
    last = read_log(run.log)[-1]
    assert (last["rollbacks"], last["g_lr"]) == (1, pytest.approx(0.001 * config.rollback_lr))


@pytest.mark.parametrize(
    ("precision", "stored", "expected"), [("fp16", 0, START), ("fp16", 13.5, 13.5), ("fp32", 13.5, 0)]
)
def test_a_loss_scale_is_that_of_half_precision_alone(config, tmp_path, precision, stored, expected):
    other = TrainState(config, torch.device("cpu"), "fp16")
    other.d_scaler.log2.fill_(stored)
    other.save(tmp_path / "state.safetensors")
    state = TrainState(config, torch.device("cpu"), precision)
    state.load(tmp_path / "state.safetensors")
    assert float(state.d_scaler.log2) == expected


@pytest.mark.long
def test_after_too_many_rollbacks_it_stops_with_a_diagnosis(config, tmp_path, monkeypatch):
    few = dataclasses.replace(config, tick_kimg=PerResolution(0.04), max_rollbacks=2)
    poisoned(monkeypatch, lambda call: call > 12)
    with pytest.raises(TrainingError, match=r"not finite; it had gone back 2 times already. Try lower rates"):
        begin(few, tmp_path / "run", QuietDisplay())
    events = events_of(RunDirectory(tmp_path / "run"))
    assert [event["event"] for event in events] == ["rollback", "rollback", "stopped"]
    monkeypatch.undo()
    outcome = resume(RunDirectory(tmp_path / "run"), QuietDisplay())  # what was saved is good
    assert outcome.signal == 0


@pytest.mark.long
def test_a_run_that_diverges_before_its_first_checkpoint_begins_again(config, tmp_path, monkeypatch):
    poisoned(monkeypatch, lambda call: call <= 10)
    notes = Notes()
    begin(dataclasses.replace(config, tick_kimg=PerResolution(0.04)), tmp_path / "run", notes)
    assert any("back to 0 kimg" in said for said in notes.said)


@pytest.mark.parametrize(
    "values,says",
    [
        ({"score_real": 2e4}, "drifted to 2e\\+04"),
        ({"score_fake": -3e5}, "drifted"),
        ({"diversity": 0.01}, "collapsed"),
        ({"diversity": 0.05, "score_real": 300.0}, None),
        ({"score_real": float("nan")}, None),  # counted as faults
    ],
)
def test_drift_and_collapse_are_diagnosed(config, values, says):
    state = TrainState(config, torch.device("cpu"), "fp32")
    assert health.diagnosis(state, {"diversity": 0.02}, 10, 0) is None  # never was varied: untrained
    assert health.diagnosis(state, {"diversity": 0.9}, 10, 2) is None
    reason = health.diagnosis(state, values, 10, 0)
    assert (reason is None) == (says is None)
    if says:
        assert re.search(says, reason)
    assert health.diagnosis(state, {}, 10, 9)


def test_a_collapsed_generator_has_no_diversity(config):
    """By its own measure: pictures that no longer depend on the latent."""
    state = TrainState(config, torch.device("cpu"), "fp32")
    reals = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (16, 3, 16, 16), np.uint8))
    scheduled = ScheduleState(0, 0, 4, 1.0, 8, 0.001, 0.001)
    labels = torch.zeros(16, 0)
    varied = health.relative_diversity(state, scheduled, reals, labels, 8)
    for name, parameter in state.generator.named_parameters():
        if name.startswith("to_rgb.16x16.weight"):
            parameter.data.zero_()
    assert health.relative_diversity(state, scheduled, reals, labels, 8) < 1e-6 < varied


def test_micro_batches_give_the_same_gradients(config):
    """Eight images at once, in two and in four parts; groups of the minibatch statistic of two."""
    base = dataclasses.replace(config, stddev_group=2)
    results = []
    for micro in (None, PerResolution(4), PerResolution(2)):
        state = TrainState(dataclasses.replace(base, micro_batch=micro), torch.device("cpu"), "fp32")
        state.generator.double()
        state.discriminator.double()
        state.context = dataclasses.replace(state.context, dtype=None)
        executor = StepExecutor(state)
        batch = BatchBuilder(state, 0, None).d_batch(Loaded(), 0, torch.tensor(0.5))
        batch = batch._replace(reals=batch.reals.double(), latents=batch.latents.double(), mixing=batch.mixing.double())
        alpha, scale = torch.tensor(0.5, dtype=torch.float64), torch.ones((), dtype=torch.float64)
        by_name, losses, _ = step.compute_gradients(executor, StepInputs("d", 4, batch, alpha, scale))
        results.append((executor.num_micro_batches(4, 8), by_name, losses))
    assert [parts for parts, _, _ in results] == [1, 2, 4]
    for _, by_name, losses in results[1:]:
        for name, g in results[0][1].items():
            assert (g is None) == (by_name[name] is None)
            assert g is None or (g - by_name[name]).abs().max() < 1e-10, name
        for name, value in results[0][2].items():
            assert torch.allclose(value, losses[name], rtol=1e-10)


class Loaded:
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 16, 16), np.uint8)
    labels = np.zeros((8, 0), np.int32)
    held_out = None


def test_a_loss_in_which_other_processes_wait_is_not_computed_again(config, monkeypatch):
    """One process alone would wait for them for ever."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    matching = dataclasses.replace(config, loss="gan", loss_options=(("feature_matching", 1.0),))
    executor, calls = StepExecutor(TrainState(matching, torch.device("cpu"), "fp32")), []

    def runs_out(self, inputs):
        calls.append(inputs)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(StepExecutor, "__call__", runs_out)
    inputs = example_inputs(executor.state, 3, 4)["g"]
    with pytest.raises(torch.OutOfMemoryError):
        step.compute_gradients(executor, inputs)
    assert len(calls) == 1


@pytest.mark.long
def test_memory_that_runs_out_halves_the_micro_batch(config, tmp_path, monkeypatch):
    """Above four images at once there is none; the numbers stay the same but for rounding."""
    roomy = dataclasses.replace(config, stddev_group=2, start_res=8, max_res=8)
    begin(roomy, tmp_path / "roomy", QuietDisplay())
    original = loss_functions.d_loss

    def d_loss(context, d, g, inputs):
        if inputs.images > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(context, d, g, inputs)

    monkeypatch.setattr(loss_functions, "d_loss", d_loss)
    notes = Notes()
    begin(roomy, tmp_path / "tight", notes)
    assert sum("2 micro-batches" in said for said in notes.said) == 1
    a, b = (read_log(RunDirectory(tmp_path / name).log) for name in ("roomy", "tight"))
    assert a[0]["d_loss"] == pytest.approx(b[0]["d_loss"], rel=1e-3)


@pytest.mark.long
def test_memory_too_small_for_one_group_ends_the_run_with_advice(config, tmp_path, monkeypatch):
    def d_loss(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loss_functions, "d_loss", d_loss)
    with pytest.raises(TrainingError, match="out of memory at 4x4 with batch 8"):
        begin(config, tmp_path / "run", QuietDisplay())


@pytest.mark.long
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_keeps_the_run_going(config, tmp_path, monkeypatch, number):
    whole = begin(config, tmp_path / "whole", QuietDisplay())
    original, calls = TrainState.save, [0]

    def save(self, path):
        calls[0] += 1
        if calls[0] in (2, 3):
            raise OSError(number, os.strerror(number), str(path))
        original(self, path)

    monkeypatch.setattr(TrainState, "save", save)
    notes = Notes()
    outcome = begin(config, tmp_path / "run", notes)
    assert outcome.nimg == whole.nimg
    warnings = [said for said in notes.said if said.startswith("WARNING: the checkpoint could not be written")]
    assert len(warnings) == 2
    assert os.strerror(number) in warnings[0]
    a, b = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "run")
    assert len(b.states()) == len(a.states()) - 2
    assert same(a.states()[-1], b.states()[-1])


def test_what_a_full_disk_did_not_save_is_not_said_to_be_saved(config, tmp_path, monkeypatch, capsys):
    run = begin(dataclasses.replace(config, total_kimg=0.024), tmp_path / "run", QuietDisplay()).run

    def save(self, path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(TrainState, "save", save)
    for saved, text in ((True, "stopped at 0.032 kimg, but saved up to 0.024 kimg; go on with: "),
                        (False, "stopped at 0.008 kimg, but nothing is saved; go on with: ")):  # fmt: skip
        if not saved:
            run.state(24).unlink()
        original = StepExecutor.step_at

        def step_at(self, level, original=original):
            os.kill(os.getpid(), signal.SIGTERM)
            return original(self, level)

        with monkeypatch.context() as patch:
            patch.setattr(StepExecutor, "step_at", step_at)
            command = ["train", "--resume", str(run.path), "--total-kimg", "1", "--override", "--quiet"]
            assert run_command(command) == 128 + signal.SIGTERM
        error = capsys.readouterr().err
        assert text in error
        assert "stopped and saved" not in error


@pytest.mark.long
def test_two_runs_in_one_directory_are_refused(config, tmp_path):
    run = RunDirectory(tmp_path / "run")
    with run.locked(), pytest.raises(TrainingError, match="another process trains in"):
        begin(config, run.path, QuietDisplay())
    # the lock dies with its process, however that ends
    code = f"from pggan.training.run.directory import RunDirectory; from pathlib import Path; import os\n" \
        f"with RunDirectory(Path({str(run.path)!r})).locked(): os._exit(9)"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert begin(dataclasses.replace(config, total_kimg=0.016), run.path, QuietDisplay()).signal == 0


def test_options_out_of_range_are_refused():
    for name, value in (("max_rollbacks", -1), ("rollback_lr", 0.0), ("micro_batch", PerResolution(0))):
        with pytest.raises(UsageError, match=name.replace("_", "-")):
            TrainConfig(**{name: value})


@pytest.mark.long
def test_changes_on_resume_are_refused_or_recorded(config, tmp_path):
    begin(dataclasses.replace(config, total_kimg=0.08), tmp_path / "run", QuietDisplay())
    run = RunDirectory(tmp_path / "run")
    for changes, says in (
        ({"batch": PerResolution(4)}, "--batch would change its result.*--override"),
        ({"mirror": False, "seed": 3}, "--mirror, --seed would"),
        ({"fmap_max": 16}, "keeps its networks"),
        ({"start_from": "x"}, "--from: a run that has begun"),
    ):
        with pytest.raises(UsageError, match=says):
            resume(run, QuietDisplay(), changes=changes)
    with pytest.raises(UsageError, match="keeps its networks"):
        resume(run, QuietDisplay(), changes={"max_res": 32}, override=True)
    # harmless ones, and what is the run's own anyway, need no insisting
    harmless = {"workers": 0, "keep_models": 2, "micro_batch": PerResolution(4)}
    resume(run, QuietDisplay(), changes={**harmless, "seed": config.seed, "batch": None})
    now, _ = run.read_options()
    assert (now.workers, now.keep_models, now.micro_batch) == (0, 2, PerResolution(4))
    assert "changes" not in json.loads((run.path / "options.json").read_text())
    notes = Notes()
    longer = {"total_kimg": 0.16, "batch": PerResolution(None, ((16, 4),))}
    outcome = resume(run, notes, changes=longer, override=True)
    assert outcome.nimg >= 160
    assert any(said.startswith("changed from 0.08") and "total_kimg 0.16" in said for said in notes.said)
    now, _ = run.read_options()
    assert (now.total_kimg, now.batch.at(8), now.batch.at(16)) == (0.16, 8, 4)
    recorded = json.loads((run.path / "options.json").read_text())["changes"]
    assert recorded[0]["at_nimg"] == 80
    assert recorded[0]["total_kimg"] == 0.16


@pytest.mark.long
def test_leftovers_of_a_killed_process_are_removed(config, tmp_path):
    begin(dataclasses.replace(config, total_kimg=0.016), tmp_path / "run", QuietDisplay())
    folder = tmp_path / "run" / "checkpoints"
    left = [folder / f".state-000000008.safetensors{end}" for end in (".77.tmp", ".pggan.tmp")]
    for path in left:
        path.write_bytes(b"half")
    resume(RunDirectory(tmp_path / "run"), QuietDisplay())
    assert not any(path.exists() for path in left)


@pytest.mark.long
def test_folders_that_a_person_removed_are_made_again(config, tmp_path):
    begin(dataclasses.replace(config, total_kimg=0.08), tmp_path / "run", QuietDisplay())
    run = RunDirectory(tmp_path / "run")
    for number, name in enumerate(("samples", "models", "events", "checkpoints"), start=1):
        shutil.rmtree(run.path / name)
        resume(run, QuietDisplay(), changes={"total_kimg": 0.08 + 0.024 * number}, override=True)
        assert any((run.path / name).iterdir())
    assert {path.name for path in run.samples.glob("reals-*.png")} >= {"reals-4x4.png", "reals-8x8.png"}
