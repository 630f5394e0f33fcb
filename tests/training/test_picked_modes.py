"""Which step mode a run picks, what it records of it, and what holds after a resume."""

from __future__ import annotations

import dataclasses
import json
import math
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from pggan.config.presets import PRESETS, configure
from pggan.config.schedule import Schedule
from pggan.config.train import PerResolution, TrainConfig
from pggan.training.engine.environment import RunEnvironment, resolve
from pggan.training.engine.step_executor import StepExecutor
from pggan.training.engine.step_modes import (
    CPU_COMPILE_SECONDS,
    CPU_LEAST_SHARE,
    StepMode,
    against_compiling,
    compiling_pays,
    describe,
    pick_modes,
    saved_seconds,
    single_thread_levels,
)
from pggan.training.monitor.display import QuietDisplay
from pggan.training.run.directory import RunDirectory
from pggan.training.start import begin, resume
from pggan.utils.errors import UsageError
from tests.helpers.runs import Notes
from tests.helpers.step_modes import SMALL, recorder
from tests.helpers.train_steps import Player, tiny

EAGER, CAPTURED_EAGER, COMPILED, BOTH = StepMode


def test_which_mode_is_picked():
    """On a GPU recorded, on a CPU eager; compiled where the iterations to come pay for it."""
    wide = TrainConfig(max_res=256, device="cpu")
    modes, why = pick_modes(Schedule(wide), "cuda", None, [])
    assert modes[8] is BOTH
    assert describe(modes, why).endswith("(compiled where that pays)")
    modes, why = pick_modes(configure("faces", {}).schedule, "cpu", None, [])
    assert describe(modes, why) == "eager from 4x4, compiled from 64x64 (compiled where that pays)"
    modes, why = pick_modes(Schedule(wide), "cpu", "there is no compiler", [])
    assert describe(modes, why) == "eager (there is no compiler)"
    short = Schedule(dataclasses.replace(wide, stable_kimg=PerResolution(0.1), fade_kimg=PerResolution(0.1)))
    modes, why = pick_modes(short, "cuda:1", None, [])
    assert (set(modes.values()), why) == ({CAPTURED_EAGER}, "too few iterations to compile for")
    modes, why = pick_modes(short, "cpu", None, [])
    assert (set(modes.values()), why) == ({EAGER}, "compiling would save too little")
    modes, why = pick_modes(Schedule(wide), "cuda", "there is no triton", [])
    assert (set(modes.values()), why) == ({CAPTURED_EAGER}, "there is no triton")
    modes, why = pick_modes(Schedule(wide), "cuda", None, ["Odd"])
    assert (set(modes.values()), why) == ({EAGER}, "Odd cannot be compiled")
    assert describe({2: EAGER, 3: COMPILED}, "x") == "eager from 4x4, compiled from 8x8 (x)"


def test_compiling_pays_from_a_number_of_iterations():
    """At 4x4 8,000 of them, at 8x8 11,000."""
    for iterations, level, pays in ((7_999, 2, False), (8_000, 2, True), (10_999, 3, False), (11_000, 3, True)):
        lengths = {"stable_kimg": PerResolution(iterations * 8 / 1000), "fade_kimg": PerResolution(0)}
        schedule = Schedule(dataclasses.replace(SMALL, **lengths))
        assert compiling_pays(schedule, "cuda", level) is pays
        assert not compiling_pays(schedule, "mps", level)


def test_compiling_pays_on_a_cpu_where_it_saves_twice_its_time():
    """The iterations of all phases at a level count; a larger batch and a penalty save more in each."""
    first, more = CPU_COMPILE_SECONDS
    saved, share = saved_seconds(configure("faces", {}).schedule, 6)
    assert share > CPU_LEAST_SHARE
    least = math.ceil(2 * (first + 4 * more) / saved)
    for iterations, pays in ((least - 1, False), (least, True)):
        lengths = {"stable_kimg": PerResolution(16 * (iterations - 100) / 1000), "fade_kimg": PerResolution(1.6)}
        assert compiling_pays(configure("faces", lengths).schedule, "cpu", 6) is pays
    assert saved_seconds(configure("faces", {"batch": PerResolution(32)}).schedule, 6)[0] > saved
    assert saved_seconds(configure("faces", {"loss": "lsgan"}).schedule, 6)[0] < saved


@pytest.mark.parametrize("options", [{"precision": "bf16"}, {"arch_d": "dcgan", "start_res": 64}])
def test_what_was_not_measured_stays_eager_on_a_cpu(options):
    longest = {"stable_kimg": PerResolution(1e5), "max_res": 64}
    assert compiling_pays(configure("faces", longest).schedule, "cpu", 6)
    assert not compiling_pays(configure("faces", {**longest, **options}).schedule, "cpu", 6)


def test_wide_networks_stay_eager_on_a_cpu_where_convolutions_take_nearly_all_of_a_step():
    """However long they train."""
    schedule = configure("celebahq-v2-1gpu", {}).schedule
    assert not any(compiling_pays(schedule, "cpu", level) for level in range(2, 9))
    assert compiling_pays(schedule, "cpu", 10)


def test_the_demo_stays_eager_on_a_cpu():
    """It is over before compiling would have paid."""
    modes, _ = pick_modes(configure("demo", {}).schedule, "cpu", None, [])
    assert set(modes.values()) == {EAGER}


def test_a_mode_that_is_asked_for():
    asked = Schedule(TrainConfig(max_res=8, mode="captured", device="cpu"))
    for device, against, unfit, mode, why in (
        ("cuda:1", None, [], BOTH, "as asked for"),
        ("cuda", "there is no triton", [], CAPTURED_EAGER, "there is no triton"),
        ("cpu", "there is no AVX512", [], COMPILED, "CUDA graphs need a GPU"),
        ("cpu", None, [], COMPILED, "CUDA graphs need a GPU"),
        ("cpu", None, ["Odd"], EAGER, "Odd cannot be captured"),
    ):
        assert pick_modes(asked, device, against, unfit) == ({2: mode, 3: mode}, why)


def test_what_speaks_against_compiling(monkeypatch):
    """No compiler, and on a CPU no AVX-512; asked for, it is compiled all the same."""
    monkeypatch.setenv("CXX", "g++")
    for capability, device, says in (
        ("AVX512", "cpu", None), ("AVX512_VNNI", "cpu", None), ("AVX2", "cuda", None),
        ("AVX2", "cpu", "compiling saves too little on a CPU without AVX512"),
        ("DEFAULT", "cpu", "compiling saves too little on a CPU without AVX512"),
    ):  # fmt: skip
        monkeypatch.setattr("pggan.training.engine.step_modes.cpu_capability", lambda value=capability: value)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
        assert against_compiling(device) == says
    monkeypatch.delenv("CXX")
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert against_compiling("cuda:1") == "there is no C++ compiler (g++) to compile with"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert against_compiling("cuda") == "there is no triton to compile with"


def test_recorded_environments():
    """What options.json holds; runs of before have no modes, or several to be measured, which are decided anew."""
    modes = {2: EAGER, 3: BOTH}
    environment = RunEnvironment("cuda:0", "bf16", modes, "x", data={"count": 3}, processes=2)
    values = json.loads(json.dumps(environment.to_json()))
    assert values["modes"] == {"4": "eager", "8": "captured"}
    assert RunEnvironment.from_json(json.loads(json.dumps(values))) == environment
    old = {"device": "cpu", "precision": "fp32"}
    assert RunEnvironment.from_json(old) == RunEnvironment("cpu", "fp32", {})
    assert RunEnvironment.from_json({**old, "modes": {"4": "eager|captured-eager"}}).modes is None


@pytest.mark.long
def test_a_run_keeps_its_mode(config, tmp_path, monkeypatch):
    """Recorded with the run, taken up with it, changed when asked."""
    monkeypatch.setattr("pggan.training.loop.StepExecutor", partial(StepExecutor, backend=None, capturer=recorder))
    monkeypatch.setattr("pggan.training.loop.start_compile_worker", lambda executor: None)
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


def test_what_a_run_recorded_holds_until_the_mode_changes(config, tmp_path, monkeypatch):
    """A run of before, which was eager, stays so on a CPU where `auto` would compile today."""
    run = RunDirectory(tmp_path / "run")
    begin(dataclasses.replace(config, total_kimg=0.016), run.path, QuietDisplay())
    monkeypatch.setattr("pggan.training.engine.step_modes.compiling_pays", lambda *_: True)
    monkeypatch.setattr("pggan.training.engine.step_modes.against_compiling", lambda device: None)
    monkeypatch.setattr("pggan.training.loop.StepExecutor", partial(StepExecutor, backend=None))
    monkeypatch.setattr("pggan.training.loop.start_compile_worker", lambda executor: None)
    eager_modes = {"4": "eager", "8": "eager", "16": "eager"}
    for nimg, options in ((0.024, {}), (0.032, {"device": "cpu"}), (0.04, {"changes": {"budget": 8e9}})):
        changes = {**options.pop("changes", {}), "total_kimg": nimg}
        resume(run, QuietDisplay(), changes=changes, override=True, **options)
        assert run.read_options()[1]["modes"] == eager_modes
    resume(run, QuietDisplay(), changes={"total_kimg": 0.05, "mode": "compiled"}, override=True)
    assert set(run.read_options()[1]["modes"].values()) == {"compiled"}


def test_a_mode_that_failed_on_a_cpu_is_not_tried_again(config, tmp_path, monkeypatch):
    """The compiler may lack memory once: the run resumes in the mode in which it went on."""
    monkeypatch.setattr("pggan.training.engine.step_modes.compiling_pays", lambda *_: True)
    monkeypatch.setattr("pggan.training.engine.step_modes.against_compiling", lambda device: None)
    monkeypatch.setattr("pggan.training.engine.compile_worker._PROGRAM", "import os; os.kill(os.getpid(), 9)")
    run, notes = RunDirectory(tmp_path / "run"), Notes()
    begin(dataclasses.replace(config, total_kimg=0.016), run.path, notes)
    reason = "its process ended with -9"
    assert f"the step at 4x4 could not be compiled ({reason}); going on with eager" in notes.said
    assert run.read_options()[1]["modes"] == {"4": "eager", "8": "eager", "16": "eager"}
    notes = Notes()
    resume(run, notes, changes={"total_kimg": 0.032}, override=True)
    assert not any("compil" in line for line in notes.said)


def test_an_unknown_mode_is_refused_and_a_budget_is_recorded():
    with pytest.raises(UsageError, match="--mode fast is none of auto, eager, compiled, captured"):
        TrainConfig(mode="fast")
    assert json.loads(json.dumps(TrainConfig(budget=float(8 << 30)).budget)) == 8 << 30


@pytest.mark.parametrize("preset", [name for name in PRESETS.names() if name.startswith("celebahq")])
def test_published_recipes_are_compiled_on_gpus_where_most_of_their_time_goes(preset):
    modes, _ = pick_modes(configure(preset, {}).schedule, "cuda", None, [])
    assert {modes[level] for level in (8, 9, 10)} == {BOTH}


def test_small_steps_take_one_thread_of_a_cpu():
    """Where a second thread was slower in tools/README.md's table; never on a GPU."""
    names = ("demo", "faces", "celebahq-v2-1gpu")
    levels = [single_thread_levels(configure(name, {}), "cpu", 1) for name in names]
    assert levels == [(2, 3, 4), (2,), ()]
    assert single_thread_levels(configure("demo", {}), "cuda:0", 1) == ()
    larger = configure("demo", {"batch": PerResolution(16)})
    assert single_thread_levels(larger, "cpu", 1) == (2, 3)
    # what counts is what one process computes at once
    assert single_thread_levels(larger, "cpu", 4) == (2, 3, 4)
    assert single_thread_levels(dataclasses.replace(larger, micro_batch=PerResolution(4)), "cpu", 1) == (2, 3, 4)


def test_a_run_records_which_steps_take_one_thread(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    environment = resolve(configure("demo", {"device": "cpu", "mode": "eager"}))
    values = environment.to_json()
    assert values["single_thread"] == [4, 8, 16]
    assert RunEnvironment.from_json(json.loads(json.dumps(values))) == environment
    assert environment.describe_steps() == ["steps: eager (as asked for), by one thread at 4x4, 8x8, 16x16"]
    older = {name: value for name, value in values.items() if name not in ("single_thread", "torch")}
    assert RunEnvironment.from_json(older).single_thread == ()  # it goes on as it began


def test_one_thread_computes_a_small_step_and_all_of_them_what_lies_between():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        player = Player(tiny(), single_thread=(2,))
        seen = {}
        compute = player.executor.context

        def context(level):
            seen[level] = torch.get_num_threads()
            return compute(level)

        player.executor.context = context
        while player.state.nimg < player.schedule.total:
            player.iterate()
            assert torch.get_num_threads() == 2
        assert seen == {2: 1, 3: 2, 4: 2}
        with pytest.raises(ZeroDivisionError), player.executor.step_at(2):
            1 / 0  # noqa: B018
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
