"""Eager, compiled and captured steps agree; which of them a run takes, and what it does where one fails."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pggan.config.schedule import Schedule
from pggan.config.train import PerResolution, TrainConfig
from pggan.data.loading.loader import LoadedBatch
from pggan.losses.base import Batch
from pggan.training.engine import gradients, step
from pggan.training.engine.cuda_graphs import Recorded
from pggan.training.engine.gradients import eager
from pggan.training.engine.state import TrainState
from pggan.training.engine.step_executor import StepExecutor
from pggan.training.engine.step_modes import by_level, describe, pick_modes
from pggan.training.monitor.display import QuietDisplay
from pggan.training.run.directory import RunDirectory
from pggan.training.start import begin, resume
from pggan.utils.errors import UsageError
from pggan.utils.paths import keep_compiled
from tests.training.test_recovery import Notes

SMALL = TrainConfig(
    max_res=8,
    latent_size=8,
    fmap_base=32,
    fmap_max=8,
    batch=PerResolution(8),
    stable_kimg=PerResolution.of({4: 0.056, 8: 0.04}),
    fade_kimg=PerResolution(0.064),
    device="cpu",
)


def recorder(function):
    """Stands in for a CUDA graph: results at one place, computed anew from what lies where the inputs lay."""
    found, losses, stats = function()
    for value in (*found.values(), *losses.values(), *stats.values()):
        if value is not None:
            value.fill_(float("nan"))  # nobody may read a recording before it is replayed

    def replay():
        for old, new in zip((found, losses, stats), function()):
            for name, value in new.items():
                if value is not None:
                    old[name].copy_(value)

    return (found, losses, stats), replay


def trained(config, computing, precision="fp32", double=True, iterations=20, device="cpu"):
    """Losses and weights after iterations that cross from 4x4 through a fade into stable 8x8."""
    torch.manual_seed(0)
    state = TrainState(config, torch.device(device), precision)
    if double:
        for module in (state.generator, state.discriminator, state.average):
            module.double()
        state.setup = dataclasses.replace(state.setup, dtype=None)
    state.computing = computing
    schedule, feed, losses = Schedule(config), step.BatchBuilder(state, 0, None), []
    exact = torch.float64 if double else torch.float32
    original = step.BatchBuilder.discriminator

    def discriminator(self, loaded, nimg, alpha):
        batch = original(self, loaded, nimg, alpha)
        return batch.map(lambda t: t.to(exact) if t.is_floating_point() else t)

    for _ in range(iterations):
        moment = schedule.at(state.nimg)
        shape = (moment.batch, 3, moment.resolution, moment.resolution)
        images = np.random.default_rng(state.nimg).integers(0, 256, shape, np.uint8)
        batches = iter([LoadedBatch(images, np.zeros((moment.batch, 0), np.int32), None)])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(step.BatchBuilder, "discriminator", discriminator)
            patch.setattr(
                step.BatchBuilder,
                "generator",
                lambda self, like, nimg, of=step.BatchBuilder.generator: of(self, like, nimg).map(
                    lambda t: t.to(exact)
                ),
            )
            terms = step.train_step(state, feed, batches, moment, 1)
        losses.append((float(terms["d_loss"]), float(terms["g_loss"])))
    assert schedule.at(state.nimg).alpha == 1
    assert schedule.at(state.nimg).level == 3
    return np.array(losses), {name: tensor.cpu() for name, tensor in state.tensors().items()}


def agree(a, b, within):
    assert np.abs(a[0] - b[0]).max() < within
    assert a[1].keys() == b[1].keys()
    weights = [name for name in a[1] if name.startswith(("generator.", "discriminator.", "average."))]
    near = torch.cat([((a[1][n] - b[1][n]).abs() <= within).flatten() for n in weights])
    assert near.float().mean() >= 0.999


@pytest.fixture(scope="module")
def reference():
    return trained(SMALL, StepExecutor())


LEVELS = (2, 3)


@pytest.mark.parametrize(
    "modes,backend,parts",
    [
        ("compiled", None, None),
        ("compiled", "aot_eager", None),
        ("captured", None, None),
        ("captured", None, 4),
        ("captured-eager", "unused", 4),
    ],
)
def test_modes_agree(reference, modes, backend, parts):
    """Traced as the compiler does it, and recorded, in whole minibatches and in parts."""
    said = []
    config = SMALL if parts is None else dataclasses.replace(SMALL, micro_batch=PerResolution(parts))
    computing = StepExecutor(dict.fromkeys(LEVELS, modes), said.append, backend, recorder)
    agree(reference, trained(config, computing), 1e-9)
    assert computing.modes == dict.fromkeys(LEVELS, modes)  # nothing fell back
    assert [line.split(",")[0] for line in said] == [f"the step at {s}x{s}: {modes}" for s in (4, 8)]


def test_bf16_differs_by_little(reference):
    """Half precision rounds where the modes order sums differently: losses of 20 iterations within 0.1."""
    plain = trained(SMALL, StepExecutor(), "bf16", double=False)
    pure = trained(SMALL, StepExecutor(dict.fromkeys(LEVELS, "compiled"), backend=None), "bf16", double=False)
    assert np.abs(plain[0] - pure[0]).max() < 0.1
    assert np.abs(plain[0] - reference[0]).max() < 1.0


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="compiles with g++")
def test_really_compiled(reference, tmp_path, monkeypatch):
    """The machine code of 4x4 against eager; what cannot be compiled above is not asked to be."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    computing = StepExecutor({2: "compiled"})
    agree(reference, trained(SMALL, computing), 1e-9)
    assert computing.modes == {2: "compiled"}
    assert list(tmp_path.rglob("*.so"))


def a_batch(state, level, count=8):
    side = 2**level
    made = torch.Generator().manual_seed(0)
    labels = torch.zeros(count, 0)
    reals = torch.rand(count, 3, side, side, generator=made) * 2 - 1
    latents = torch.randn(count, state.config.latent_size, generator=made)
    return Batch(reals, labels, latents, labels, torch.rand(count, generator=made), {})


def test_what_cannot_be_compiled_goes_on_eagerly():
    def failing(function, **_):
        raise RuntimeError("no such\ninstruction")

    said = []
    state = TrainState(SMALL, torch.device("cpu"), "fp32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradients.torch, "compile", failing)
        computing = StepExecutor({2: "compiled", 3: "compiled"}, said.append)
        inputs = a_batch(state, 2), 2, torch.tensor(1.0), torch.tensor(1.0)
        found = computing(state.setup, "d", *inputs)
    assert said == ["the step at 4x4 could not be compiled (no such instruction); going on with eager"]
    assert computing.modes == {2: "eager", 3: "eager"}
    plain = eager(state.setup, "d", *inputs)
    assert all(g is None or torch.equal(g, plain.found[name]) for name, g in found.found.items())


def test_memory_that_runs_out_is_no_fault_of_the_compiler():
    state = TrainState(SMALL, torch.device("cpu"), "fp32")
    computing = StepExecutor({2: "captured"}, backend=None, recorder=recorder)
    inputs = a_batch(state, 2), 2, torch.tensor(1.0), torch.tensor(1.0)
    computing(state.setup, "d", *inputs)

    def none_left(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradients.step, "g_loss", none_left)
        with pytest.raises(torch.OutOfMemoryError):
            computing(state.setup, "g", *inputs)
    assert computing.modes == {2: "captured"}
    assert not computing._functions  # recordings hold memory


def clock(seconds):
    """Stands in for measuring: runs the function, and says what the next of these forms takes."""
    left = iter(seconds)

    def measure(function, device):
        function()
        return next(left)

    return measure


ALL = "eager|captured-eager|compiled|captured"


@pytest.mark.parametrize(
    "seconds,form", [((4, 3, 2, 1), "captured"), ((1, 1, 1, 1), "eager"), ((2, 1.99, 1, 2), "compiled")]
)
def test_the_fastest_is_found_by_measuring(seconds, form):
    said, state = [], TrainState(SMALL, torch.device("cpu"), "fp32")
    computing = StepExecutor({3: ALL}, said.append, None, recorder, measure=clock([*seconds, *seconds]))
    inputs = a_batch(state, 3), 3, torch.tensor(0.5), torch.tensor(1.0)
    for player in "dg":
        plain = eager(state.setup, player, *inputs)
        for _ in range(2):
            found = computing(state.setup, player, *inputs)
            assert gradients.distance(found.found, plain.found) < 1e-5
    told = ", ".join(
        f"{name} {s * 1e3:.3g} ms" for name, s in zip(("eager", "captured-eager", "compiled", "captured"), seconds)
    )
    assert len(said) == 2  # chosen once
    for line, player in zip(said, "DG"):
        assert line.startswith(f"the step of {player} at 8x8: {form}, ")
        assert line.endswith(f" s before it went on ({told})")


def test_what_fails_is_left_out_of_the_choice():
    def broken(function):
        raise RuntimeError("operation not permitted when stream is capturing")

    said, state = [], TrainState(SMALL, torch.device("cpu"), "fp32")
    computing = StepExecutor({2: ALL, 3: ALL}, said.append, None, broken, measure=clock([3, 2, 3, 2]))
    inputs = a_batch(state, 3), 3, torch.tensor(0.5), torch.tensor(1.0)
    for player in "dgdg":
        computing(state.setup, player, *inputs)
    reason = "(operation not permitted when stream is capturing)"
    assert (
        said[0] == f"the step at 8x8 could not be captured-eager {reason}; going on with eager or compiled or captured"
    )
    assert said[1] == f"the step at 8x8 could not be captured {reason}; going on with eager or compiled"
    assert computing.modes == dict.fromkeys((2, 3), "eager|compiled")
    assert len(said) == 4
    assert all("compiled," in line for line in said[2:])


def test_wrong_gradients_are_noticed():
    """A recording that does not follow its inputs, a compiler whose code is wrong: the run goes on eagerly."""

    def stale(function):
        outputs = function()
        return outputs, lambda: None

    def wrong(graph, inputs):
        return lambda *values: [each * 1.5 if torch.is_tensor(each) else each for each in graph(*values)]

    for mode, backend, made in (("captured-eager", None, stale), ("compiled", wrong, recorder)):
        said, state = [], TrainState(SMALL, torch.device("cpu"), "fp32")
        computing = StepExecutor({3: mode}, said.append, backend, made)
        inputs = a_batch(state, 3), 3, torch.tensor(0.5), torch.tensor(1.0)
        plain, found = eager(state.setup, "d", *inputs), computing(state.setup, "d", *inputs)
        assert f"could not be {mode} (its gradients differ from eager ones by" in said[0]
        assert said[0].endswith("going on with eager")
        assert all(g is None or torch.equal(g, found.found[name]) for name, g in plain.found.items())


def test_distance():
    one, two = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.0])
    assert gradients.distance({"a": two, "b": None}, {"a": one, "b": None}) == pytest.approx(1 / 5)
    assert gradients.distance({"a": one}, {"a": torch.full((2,), float("nan"))}) == 0
    assert gradients.distance({"a": one * float("nan")}, {"a": one}) == float("inf")
    assert gradients.distance({"a": None}, {"a": one}) == float("inf")


def test_a_recording_is_of_one_shape():
    state = TrainState(SMALL, torch.device("cpu"), "fp32")
    compute = gradients.gradient_function(state.setup, "g", 2)
    weights = {
        name: p for name, p in gradients.step.detached_parameters_of(state.generator).items() if "8x8" not in name
    }

    def function(part, alpha, scale):
        return compute(weights, gradients.step.detached_parameters_of(state.discriminator), part, alpha, scale)

    one, batch = torch.tensor(1.0), a_batch(state, 2)
    recorded = Recorded(function, batch, one, one, recorder)
    with pytest.raises(ValueError, match="recorded for"):
        recorded(a_batch(state, 2, 4), one, one)
    first = copy.deepcopy(recorded(batch, one, one))
    again = recorded(batch._replace(latents=batch.latents + 1), one, one)
    assert any(not torch.equal(first[0][name], again[0][name]) for name in first[0])
    assert first[1] == recorded(batch, one, one)[1]


def test_which_mode_is_picked():
    wide = TrainConfig(max_res=256, device="cpu")
    pick = {"device": "cuda", "flops": 5e13, "missing": None, "unfit": []}
    modes, why = pick_modes(wide, **pick)
    assert modes["256"] == "eager|captured-eager|compiled|captured"
    assert "the fastest of eager, captured-eager, compiled and captured" in describe(modes, why)
    modes, why = pick_modes(wide, **{**pick, "device": "cpu"})
    assert set(modes.values()) == {"eager"}
    assert "--mode compiled" in why
    short = dataclasses.replace(wide, stable_kimg=PerResolution(0.1), fade_kimg=PerResolution(0.1))
    modes, why = pick_modes(short, **pick)
    assert set(modes.values()) == {"eager|captured-eager"}
    assert "not win that back" in why
    modes, why = pick_modes(wide, **{**pick, "missing": "triton"})
    assert set(modes.values()) == {"eager|captured-eager"}
    assert "no triton" in why
    modes, why = pick_modes(wide, **{**pick, "unfit": ["Odd"]})
    assert (set(modes.values()), why) == ({"eager"}, "Odd cannot be compiled")
    assert by_level({"modes": {"4": "eager", "16": "compiled"}}) == {2: "eager", 4: "compiled"}
    assert by_level({}) == {}
    assert describe({"4": "eager", "8": "compiled"}, "x") == "eager from 4x4, compiled from 8x8 (x)"


def test_a_mode_that_is_asked_for():
    asked = TrainConfig(max_res=8, mode="captured", device="cpu")
    for device, missing, unfit, mode, why in (
        ("cuda:1", None, [], "captured", "as asked for"),
        ("cuda", "triton", [], "captured-eager", "there is no triton to compile with"),
        ("cpu", None, [], "compiled", "CUDA graphs need a GPU"),
        ("cpu", None, ["Odd"], "eager", "Odd cannot be captured"),
    ):
        assert pick_modes(asked, device, 1.0, missing, unfit) == ({"4": mode, "8": mode}, why)


def test_a_run_keeps_its_mode(config, tmp_path, monkeypatch):
    """Recorded with the run, taken up with it, changed when asked."""
    monkeypatch.setattr(
        "pggan.training.loop.StepExecutor", lambda modes, note, **_: StepExecutor(modes, note, None, recorder)
    )
    cut = dataclasses.replace(config, mode="compiled", total_kimg=0.064)
    run, notes = RunDirectory(tmp_path / "run"), Notes()
    begin(cut, run.path, notes)
    assert sum("compiled," in line for line in notes.said) == 2
    _, resolved = run.read_options()
    assert resolved["modes"] == {"4": "compiled", "8": "compiled", "16": "compiled"}
    notes = Notes()
    resume(run, notes, changes={"total_kimg": 0.1}, override=True)
    assert any(line.startswith("the step at 8x8: compiled,") for line in notes.said)
    notes = Notes()
    resume(run, notes, changes={"total_kimg": 0.14, "mode": "eager"}, override=True)
    assert any(line == "steps: eager (as asked for)" for line in notes.said)
    assert not any("compiled" in line for line in notes.said)
    plain = tmp_path / "plain"
    begin(dataclasses.replace(config, mode="eager", total_kimg=0.14), plain, QuietDisplay())
    a, b = (load_file(str(RunDirectory(each).models()[-1])) for each in (run.path, plain))
    near = torch.cat([((a[name] - b[name]).abs() < 1e-4).flatten() for name in a])
    assert near.float().mean() > 0.99


@pytest.mark.parametrize("fused", [False, True])
def test_channels_last_changes_nothing(monkeypatch, fused):
    """What GPUs do in half precision, here in float32: layouts of weights and gradients, the optimiser, the average."""
    found = []
    for last in (False, True):
        monkeypatch.setattr("pggan.training.engine.state.channels_last", lambda *_, last=last: last)
        state = TrainState(SMALL, torch.device("cpu"), "fp32", fused=fused)
        state.enter(Schedule(SMALL).at(0))
        for _ in range(2):
            step.discriminator_step(state, a_batch(state, 3), 3, torch.tensor(0.5))
            step.generator_step(state, a_batch(state, 3), 3, torch.tensor(0.5))
            step.ema.update(state.average, state.generator, 0.9)
        found.append(state.tensors())
        laid_out = state.generator.blocks["8x8"].conv1.weight.is_contiguous(memory_format=torch.channels_last)
        assert laid_out == last
    for name, value in found[0].items():
        if name.startswith(("generator.", "discriminator.", "average.")):
            assert (value - found[1][name]).abs().max() < 1e-4, name


def test_where_compiled_code_is_kept(monkeypatch, tmp_path):
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


def test_options_say_what_they_take():
    with pytest.raises(UsageError, match="--mode fast is none of auto, eager, compiled, captured"):
        TrainConfig(mode="fast")
    assert json.loads(json.dumps(TrainConfig(budget=float(8 << 30)).budget)) == 8 << 30


@pytest.mark.parametrize("fused", [False, True])
def test_moments_lie_as_weights_do_after_a_resume(monkeypatch, tmp_path, fused):
    """Files hold rows of values; a fused update takes moments in the order of the memory."""
    monkeypatch.setattr("pggan.training.engine.state.channels_last", lambda *_: True)

    def fresh():
        state = TrainState(SMALL, torch.device("cpu"), "fp32", fused=fused)
        state.enter(Schedule(SMALL).at(0))
        return state

    def trained(state):
        step.discriminator_step(state, a_batch(state, 3), 3, torch.tensor(0.5))
        step.generator_step(state, a_batch(state, 3), 3, torch.tensor(0.5))
        return state

    whole = trained(fresh())
    whole.save(tmp_path / "state")
    resumed = fresh()
    resumed.load(tmp_path / "state")
    for optimizer in (resumed.g_optimizer, resumed.d_optimizer):
        for weight, kept in optimizer.state.items():
            assert kept["exp_avg_sq"].stride() == weight.stride()
    trained(whole), trained(resumed)
    for name, value in whole.tensors().items():
        assert torch.equal(value, resumed.tensors()[name]), name
