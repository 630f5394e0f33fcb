"""Eager, captured and compiled steps agree; what a run does where one fails."""

from __future__ import annotations

import copy
import dataclasses
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from pggan.config.schedule import Schedule
from pggan.config.train import PerResolution
from pggan.generation.model import load
from pggan.networks.model_file import save_model
from pggan.training.engine import gradients, loss_functions, step
from pggan.training.engine.batch_builder import example_inputs
from pggan.training.engine.cuda_graphs import Captured
from pggan.training.engine.gradients import distance, eager
from pggan.training.engine.loss_functions import StepInputs
from pggan.training.engine.state import TrainState
from pggan.training.engine.step_executor import StepExecutor
from pggan.training.engine.step_modes import (
    StepMode,
)
from pggan.training.run.directory import RunDirectory
from pggan.training.run.snapshots import Snapshots
from pggan.utils.paths import keep_compiled
from tests.helpers.step_modes import LEVELS, SMALL, a_batch, agree, executed, recorder, trained


@pytest.fixture(scope="module")
def reference():
    return trained(SMALL)


EAGER, CAPTURED_EAGER, COMPILED, BOTH = StepMode


@pytest.mark.long
@pytest.mark.parametrize(
    "mode,backend,parts",
    [
        (COMPILED, None, None),
        (COMPILED, "aot_eager", None),
        (BOTH, None, None),
        (BOTH, None, 4),
        (CAPTURED_EAGER, "unused", None),
        (CAPTURED_EAGER, "unused", 4),
    ],
)
def test_modes_agree(reference, mode, backend, parts):
    """Traced as the compiler does it, and captured, in whole minibatches and in parts."""
    said = []
    config = SMALL if parts is None else dataclasses.replace(SMALL, micro_batch=PerResolution(parts))
    modes = dict.fromkeys(LEVELS, mode)
    found = trained(config, modes, note=said.append, backend=backend, capturer=recorder)
    agree(reference, found, 1e-9)
    assert found[2].modes == modes  # nothing fell back
    assert [line.split(",")[0] for line in said] == [f"the step at {s}x{s}: {mode.value}" for s in (4, 8)]


@pytest.mark.long
def test_bf16_differs_by_little(reference):
    """Half precision rounds where the modes order sums differently: losses of 20 iterations within 0.1."""
    plain = trained(SMALL, precision="bf16", double=False)
    pure = trained(SMALL, dict.fromkeys(LEVELS, COMPILED), "bf16", double=False, backend=None)
    assert np.abs(plain[0] - pure[0]).max() < 0.1
    assert np.abs(plain[0] - reference[0]).max() < 1.0


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="compiles with g++")
def test_really_compiled(reference, tmp_path, monkeypatch):
    """The machine code of 4x4 against eager; what cannot be compiled above is not asked to be."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    found = trained(SMALL, {2: COMPILED})
    agree(reference, found, 1e-9)
    assert found[2].modes == {2: COMPILED}
    assert list(tmp_path.rglob("*.so"))


def same(one, other):
    assert one.by_name.keys() == other.by_name.keys()
    assert all(g is None or torch.equal(g, other.by_name[name]) for name, g in one.by_name.items())


def test_what_cannot_be_compiled_goes_on_eagerly(monkeypatch):
    def failing(function, **_):
        raise RuntimeError("no such\ninstruction")

    monkeypatch.setattr(torch, "compile", failing)
    executor, said, inputs = executed({2: COMPILED, 3: COMPILED}, 2, backend="inductor")
    found = executor(inputs)
    assert said == ["the step at 4x4 could not be compiled (no such instruction); going on with eager"]
    assert executor.modes == {2: EAGER, 3: EAGER}
    same(eager(executor.state.context, inputs), found)


def test_memory_that_runs_out_is_no_fault_of_the_compiler(monkeypatch):
    executor, said, inputs = executed({2: BOTH}, 2)
    executor(inputs)

    def none_left(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loss_functions, "g_loss", none_left)
    with pytest.raises(torch.OutOfMemoryError):
        executor(dataclasses.replace(inputs, player="g"))
    assert executor.modes == {2: BOTH}
    assert not executor._functions  # recordings hold memory
    assert said == ["memory ran out while capturing 4x4: going on with compiled steps, which take less"]


def test_a_step_that_lacks_memory_to_be_captured_keeps_its_micro_batch(monkeypatch):
    """One player's check and warm-up stand beside the other's graph, more than the steps themselves take."""
    graphs = []

    def small(function):
        if graphs:
            raise torch.OutOfMemoryError("CUDA out of memory")
        graphs.append(function)
        return recorder(function)

    executor, said, inputs = executed({3: CAPTURED_EAGER}, capturer=small)
    executor(inputs)
    gradients = executor(dataclasses.replace(inputs, player="g"))
    assert said == ["memory ran out while capturing 8x8: going on with eager steps, which take less"]
    same(eager(executor.state.context, dataclasses.replace(inputs, player="g")), gradients)
    assert executor.num_micro_batches(3, 8) == 1
    assert not executor.checkpointed
    assert not executor._functions
    graphs.clear()  # smaller micro-batches are captured
    executor(dataclasses.replace(inputs.part(0, 2), player="g"))
    assert len(executor._functions) == 1


def test_what_lacks_memory_to_be_captured_and_then_fails_goes_on_eagerly(monkeypatch):
    """The compiled step that took over from the captured one fails, too: the run does not try it for ever."""
    executor, said, inputs = executed({2: BOTH, 3: BOTH}, 2)
    executor._uncaptured.add((2, inputs.images))

    def failing(*_, **__):
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(StepExecutor, "_build", failing)
    same(eager(executor.state.context, inputs), executor(inputs))
    assert said == ["the step at 4x4 could not be compiled (no such instruction); going on with eager"]
    assert executor.modes == {2: EAGER, 3: BOTH}


def test_a_check_that_lacks_memory_computes_activations_again(monkeypatch):
    """Compiled steps take less than the eager ones that they are compared with."""
    executor, _, inputs = executed({3: COMPILED})
    expected = eager(executor.state.context, inputs)
    eager_step, checkpointed = gradients.eager, []

    def tight(context, step_inputs):
        checkpointed.append(executor._checkpointing.on)
        if not checkpointed[-1]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return eager_step(context, step_inputs)

    monkeypatch.setattr("pggan.training.engine.step_executor.eager", tight)
    same(expected, executor(inputs))
    assert checkpointed == [False, True]
    assert executor.modes == {3: COMPILED}
    assert executor.num_micro_batches(3, 8) == 1
    assert not executor.checkpointed


def broken(function):
    raise RuntimeError("operation not permitted when stream is capturing")


def test_recording_that_fails_leaves_the_compiler(monkeypatch):
    """Captured compiled, then captured eager, then eager; and where only capturing was tried, eager at once."""
    reason = "(operation not permitted when stream is capturing)"
    executor, said, inputs = executed({2: CAPTURED_EAGER, 3: BOTH}, capturer=broken)
    found = executor(inputs)
    assert said == [
        f"the step at 8x8 could not be captured {reason}; going on with captured-eager",
        f"the step at 8x8 could not be captured-eager {reason}; going on with eager",
    ]
    assert executor.modes == {2: EAGER, 3: EAGER}
    same(eager(executor.state.context, inputs), found)


@pytest.mark.long
def test_wrong_gradients_are_noticed():
    """A recording that does not follow its inputs, a compiler whose code is wrong: the run goes on eagerly."""

    def stale(function):
        outputs = function()
        return outputs, lambda: None

    def wrong(graph, inputs):
        return lambda *values: [each * 1.5 if torch.is_tensor(each) else each for each in graph(*values)]

    for mode, backend, capturer in ((CAPTURED_EAGER, None, stale), (COMPILED, wrong, recorder)):
        executor, said, inputs = executed({3: mode}, backend=backend, capturer=capturer)
        plain, found = eager(executor.state.context, inputs), executor(inputs)
        assert f"could not be {mode.value} (its gradients differ from eager ones by" in said[0]
        assert said[0].endswith("going on with eager")
        same(plain, found)


@pytest.mark.parametrize("player", ["d", "g"])
def test_an_uncompiled_recording_differentiates_by_autograd(player, monkeypatch):
    """torch.func.grad by the weights would keep what autograd frees on the way."""
    executor, _, inputs = executed({3: CAPTURED_EAGER})
    state, inputs = executor.state, dataclasses.replace(inputs, player=player)
    monkeypatch.setattr(gradients, "gradient_function", broken)
    expected = eager(state.context, inputs)
    assert distance(executor(inputs).by_name, expected.by_name) < 1e-6
    assert executor.modes == {3: CAPTURED_EAGER}
    assert all(p.requires_grad and p.grad is None for p in state.generator.parameters())


def test_distance():
    one, two = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.0])
    assert distance({"a": two, "b": None}, {"a": one, "b": None}) == pytest.approx(1 / 5)
    assert distance({"a": one}, {"a": torch.full((2,), float("nan"))}) == 0
    assert distance({"a": one * float("nan")}, {"a": one}) == float("inf")
    assert distance({"a": None}, {"a": one}) == float("inf")
    assert distance({"a": one}, {"a": None}) == float("inf")


def half(**changes):
    """A context in bf16 and D's inputs at 8x8."""
    state = TrainState(dataclasses.replace(SMALL, **changes), torch.device("cpu"), "bf16")
    return state.context, example_inputs(state, 3, 8)["d"]


def test_the_tolerance_of_half_precision_follows_its_rounding():
    context, inputs = half()
    allowed = gradients.tolerance(context, inputs)
    assert 0.05 <= allowed < 0.3
    expected = eager(context, inputs).by_name
    without = dataclasses.replace(context, objectives=context.objectives[:1])
    with pytest.raises(gradients.GradientMismatch, match="differ from eager ones"):
        gradients.check(eager(without, inputs).by_name, expected, allowed)


@pytest.mark.long
def test_a_check_that_lacks_memory_takes_a_fixed_tolerance(monkeypatch):
    """It compares with float32, which takes twice a step's memory: the step itself must not become smaller for it."""
    context, inputs = half()
    original = loss_functions.d_loss

    def no_float32(context, *rest):
        if context.dtype is torch.float32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(context, *rest)

    monkeypatch.setattr(loss_functions, "d_loss", no_float32)
    assert gradients.tolerance(context, inputs) == gradients.UNMEASURED
    assert gradients.build_and_verify(CAPTURED_EAGER, context, inputs, None, recorder)(inputs).losses


def test_a_recording_is_of_one_shape():
    state = TrainState(SMALL, torch.device("cpu"), "fp32")

    def function(inputs):
        return eager(state.context, inputs)

    inputs = StepInputs("g", 2, a_batch(state, 2), torch.tensor(1.0), torch.tensor(1.0))
    captured = Captured(function, inputs, recorder)
    with pytest.raises(ValueError, match="captured for"):
        captured(dataclasses.replace(inputs, batch=a_batch(state, 2, 4)))
    first = copy.deepcopy(captured(inputs))
    moved = inputs.batch._replace(latents=inputs.batch.latents + 1)
    again = captured(dataclasses.replace(inputs, batch=moved))
    assert any(g is not None and not torch.equal(g, again[0][name]) for name, g in first[0].items())
    assert first[1] == captured(inputs)[1]


def both_steps(state):
    executor = StepExecutor(state)
    for player in "dg":
        step.player_step(state, executor, player, a_batch(state, 3), 3, torch.tensor(0.5))


@pytest.mark.parametrize("fused", [False, True])
def test_channels_last_changes_nothing(monkeypatch, fused):
    """What GPUs do in half precision, here in float32: layouts of weights and gradients, the optimizer, the average."""
    found = []
    for last in (False, True):
        monkeypatch.setattr("pggan.training.engine.state.channels_last", lambda *_, last=last: last)
        state = TrainState(SMALL, torch.device("cpu"), "fp32", fused=fused)
        state.apply_schedule(Schedule(SMALL).at(0))
        for _ in range(2):
            both_steps(state)
            step.ema.update(state.average, state.generator, lambda level: 0.9)
        found.append(state.tensors())
        laid_out = state.generator.blocks["8x8"].conv1.weight.is_contiguous(memory_format=torch.channels_last)
        assert laid_out == last
    for name, value in found[0].items():
        if name.startswith(("generator.", "discriminator.", "average.")):
            assert (value - found[1][name]).abs().max() < 1e-4, name


def test_pictures_of_a_run_are_made_in_the_layout_of_model_files(monkeypatch, tmp_path):
    """Training in half precision has channels-last weights; `pggan generate` loads rows of values."""
    monkeypatch.setattr("pggan.training.engine.state.channels_last", lambda *_: True)
    state = TrainState(SMALL, torch.device("cpu"), "fp32")
    snapshots = Snapshots(RunDirectory(tmp_path), state, None, {})
    scheduled = Schedule(SMALL).at(0)
    model = snapshots.picture_model(scheduled)
    weights = dict(model.file.generator.named_parameters())
    assert not state.average.blocks["8x8"].conv1.weight.is_contiguous()
    for name, weight in state.average.named_parameters():
        assert weights[name].is_contiguous()
        assert torch.equal(weights[name], weight)
    save_model(tmp_path / "model", snapshots.model(scheduled))
    assert (load(tmp_path / "model", "cpu").generate([1, 2]) == model.generate([1, 2])).all()


def test_compiled_code_is_stored_outside_the_temporary_folder(monkeypatch, tmp_path):
    """Not in the temporary folder, which torch chooses when it is imported; wherever a person says."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for before, after in (
        (None, str(tmp_path / "pggan" / "compiled")),
        (str(Path(tempfile.gettempdir()) / "torchinductor_somebody"), str(tmp_path / "pggan" / "compiled")),
        ("/elsewhere", "/elsewhere"),
    ):
        if before is None:
            monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
        else:
            monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", before)
        keep_compiled()
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == after


def test_moments_of_weights_that_are_updated_together_keep_their_weights(tmp_path):
    """RMSprop has groups of weights of one scale, not in the networks' order; files name the weights."""
    config = dataclasses.replace(SMALL, loss="wgan")
    state, resumed = (TrainState(config, torch.device("cpu"), "fp32") for _ in range(2))
    state.apply_schedule(Schedule(config).at(0))
    both_steps(state)
    state.save(tmp_path / "state")
    resumed.load(tmp_path / "state")
    assert len({group["lr"] for group in state.d_optimizer.param_groups}) > 2
    both_steps(state)
    both_steps(resumed)
    for name, value in state.tensors().items():
        assert torch.equal(value, resumed.tensors()[name]), name


@pytest.mark.parametrize("fused", [False, True])
def test_moments_lie_as_weights_do_after_a_resume(monkeypatch, tmp_path, fused):
    """Files hold rows of values; a fused update takes moments in the order of the memory."""
    monkeypatch.setattr("pggan.training.engine.state.channels_last", lambda *_: True)

    def fresh():
        state = TrainState(SMALL, torch.device("cpu"), "fp32", fused=fused)
        state.apply_schedule(Schedule(SMALL).at(0))
        return state

    whole = fresh()
    both_steps(whole)
    whole.save(tmp_path / "state")
    resumed = fresh()
    resumed.load(tmp_path / "state")
    for optimizer in (resumed.g_optimizer, resumed.d_optimizer):
        for weight, moments in optimizer.state.items():
            assert moments["exp_avg_sq"].stride() == weight.stride()
    both_steps(whole)
    both_steps(resumed)
    for name, value in whole.tensors().items():
        assert torch.equal(value, resumed.tensors()[name]), name
