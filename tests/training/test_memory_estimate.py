"""Plans within a budget of memory, and activations computed again: the same gradients with less memory."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch.profiler import profile

from pggan.cli import cli
from pggan.config.presets import configure
from pggan.config.train import PerResolution, TrainConfig
from pggan.training.engine import loss_functions, memory_estimate
from pggan.training.engine.batch_builder import example_inputs
from pggan.training.engine.gradients import eager
from pggan.training.engine.memory_estimate import (
    GPU_AGAIN,
    GPU_KEPT,
    GPU_USABLE,
    KEPT,
    RESIDENT,
    MicroBatchPlan,
    describe,
    fixed_bytes,
    image_bytes,
    memory_limit,
    micro_batch_sizes,
    pass_bytes,
    plan_from_json,
    plan_memory,
    plan_to_json,
    resolve_memory,
)
from pggan.training.engine.state import TrainState
from pggan.training.engine.step_executor import StepExecutor
from pggan.training.monitor.display import QuietDisplay
from pggan.training.start import begin
from pggan.utils import devices
from pggan.utils.errors import UsageError
from pggan.utils.formatting import bytes_of
from tests.helpers.runs import Notes
from tests.helpers.step_modes import SMALL

CPU = torch.device("cpu")


@pytest.mark.parametrize("level", [2, 3, 4])
def test_activations_computed_again_change_nothing(level):
    state = TrainState(dataclasses.replace(SMALL, max_res=16, fmap_base=64), CPU, "fp32")
    state.generator.double()
    state.discriminator.double()
    state.context = dataclasses.replace(state.context, dtype=None)
    executor = StepExecutor(state)
    for inputs in example_inputs(state, level, 8).values():
        inputs = inputs.map(lambda t: t.double() if t.is_floating_point() else t)
        first = eager(state.context, inputs)
        with executor.checkpointing(True):
            again = eager(state.context, inputs)
        for name, g in first.by_name.items():
            assert (g is None) == (again.by_name[name] is None)
            assert g is None or (g - again.by_name[name]).abs().max() < 1e-12, name
        assert first.losses.keys() == again.losses.keys()


def peak(function):
    """Most bytes that torch held at a time, beside what it held before."""
    with profile(profile_memory=True) as seen:
        function()
    held = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


@pytest.mark.long
def test_estimates_are_of_the_size_that_is_measured():
    config = dataclasses.replace(SMALL, max_res=32, fmap_base=512, fmap_max=32)
    state = TrainState(config, CPU, "fp32")
    inputs, executor, measured = example_inputs(state, 5, 8)["d"], StepExecutor(state), {}
    for again in (False, True):
        with executor.checkpointing(again):
            eager(state.context, inputs)
            measured[again] = peak(lambda: eager(state.context, inputs))
        estimate = 8 * image_bytes(config, 32, 4, again, "cpu") / RESIDENT[again]
        assert 0.75 < measured[again] / estimate < 1.25, (again, measured, estimate)
    assert measured[True] < 0.75 * measured[False]


def test_plans_keep_within_the_budget():
    config = TrainConfig(max_res=1024, batch=PerResolution.of({4: 128, 256: 16, 1024: 8}), stddev_group=4)
    before = None
    for gigabytes in (80, 24, 16, 12, 8, 6):
        plan = plan_memory(config, gigabytes * 2**30, "cuda", "bf16")
        assert all(share.bytes <= gigabytes * 2**30 * GPU_USABLE for share in plan.values())
        assert all(share.micro_batch in micro_batch_sizes(config, 1)[2**level] for level, share in plan.items())
        if before:
            assert all(plan[at].micro_batch <= before[at].micro_batch or plan[at].recompute for at in plan)
        before = plan
    assert plan_memory(config, 80 * 2**30, "cuda", "bf16")[10].recompute is False
    assert plan_memory(config, 6 * 2**30, "cuda", "bf16")[10].recompute is True
    with pytest.raises(UsageError, match=r"too little for 4x4: 4 images at once take about .*--budget"):
        plan_memory(config, 0.5 * 2**30, "cuda", "bf16")


def test_sizes_keep_groups_whole_within_what_is_asked_for(config):
    config = dataclasses.replace(config, batch=PerResolution(16), stddev_group=4)
    assert micro_batch_sizes(config, 1)[8] == [4, 8, 16]
    assert micro_batch_sizes(config, 2)[8] == [4, 8]
    assert micro_batch_sizes(dataclasses.replace(config, micro_batch=PerResolution(8)), 1)[8] == [4, 8]
    assert micro_batch_sizes(dataclasses.replace(config, micro_batch=PerResolution(1)), 1)[8] == [4]


def bytes_for(config, images, recompute=False):
    """What a limit has to be for so many images at once at 16x16."""
    beside = fixed_bytes(config, "cpu") + pass_bytes(config, 16, recompute)
    return (beside + images * image_bytes(config, 16, 4, recompute, "cpu")) / 0.9


@pytest.mark.long
def test_what_a_run_plans_on_a_cpu(config, monkeypatch):
    """Within a budget of two images and a half, by estimate; unasked only where memory has no room for the batch."""
    config = dataclasses.replace(config, stddev_group=2, start_res=16, precision="fp32")
    share = resolve_memory(dataclasses.replace(config, budget=bytes_for(config, 2.5)), CPU, "fp32")[4]
    assert (share.micro_batch, share.recompute) == (2, False)
    auto = resolve_memory(dataclasses.replace(config, auto_batch=True), CPU, "fp32")
    assert auto[4].micro_batch == 8  # the whole minibatch: this machine has room
    assert describe(auto)[0].endswith("of memory, by estimate")
    assert resolve_memory(config, CPU, "fp32") == {}
    assert describe({}) == []
    monkeypatch.setattr(memory_estimate, "memory_limit", lambda config, device: bytes_for(config, 4.5))
    assert resolve_memory(config, CPU, "fp32")[4].micro_batch == 4


def test_a_recorded_plan_holds_while_it_fits(config, monkeypatch):
    """On a CPU; on a GPU always, because there memory that runs out is raised."""
    config = dataclasses.replace(config, stddev_group=2, start_res=16)
    monkeypatch.setattr(memory_estimate, "memory_limit", lambda config, device: bytes_for(config, 4.5))
    small = {4: MicroBatchPlan(2, True, 1e8)}
    assert resolve_memory(config, CPU, "fp32", small) == small
    large = {4: MicroBatchPlan(8, False, 1e18)}
    assert resolve_memory(config, CPU, "fp32", large)[4][:2] == (4, False)
    assert resolve_memory(config, torch.device("cuda", 0), "fp32", large) == large
    assert resolve_memory(config, torch.device("cuda", 0), "fp32") == {}


def test_plans_of_older_runs_are_read():
    share = {"micro_batch": 4, "recompute": False, "bytes": 7e8}
    assert plan_from_json({"8": {**share, "probed": True, "measured": {"4": 7e8}}}) == {3: MicroBatchPlan(**share)}
    assert plan_to_json({3: MicroBatchPlan(**share)}) == {"8": share}


def test_estimates_refuse_on_gpus_only_what_is_far_too_much(config):
    """They may err there, and the run finds what fits; on a CPU it would be killed."""
    config = dataclasses.replace(config, stddev_group=2, start_res=16, precision="fp32")

    def least(device):
        fixed = fixed_bytes(config, device) + pass_bytes(config, 16, True)
        return fixed + 2 * image_bytes(config, 16, 4, True, device)

    assert plan_memory(config, 0.9 * least("cuda"), "cuda", "fp32")[4][:2] == (2, True)
    for device, part in (("cuda", 0.5), ("cpu", 0.9)):
        with pytest.raises(UsageError, match="too little for 16x16: 2 images at once take about"):
            plan_memory(config, part * least(device), device, "fp32")


def test_a_limit_is_what_is_free_and_held_and_at_most_the_budget(monkeypatch, config):
    """Processes on one machine share its memory, on a GPU each has its own."""
    monkeypatch.setattr(devices, "free_memory", lambda device: 1000 << 20)
    monkeypatch.setattr(devices, "held_memory", lambda device: 10 << 20)
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    assert memory_limit(config, CPU) == 260 << 20
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert memory_limit(config, CPU) == 510 << 20
    assert memory_limit(config, torch.device("cuda", 0)) == 1010 << 20
    assert memory_limit(dataclasses.replace(config, budget=float(300 << 20)), CPU) == 300 << 20


def test_dry_run_says_that_it_estimates(data):
    small = ["train", str(data), "--dry-run", "--device", "cpu", "--fmap-base", "64", "--fmap-max", "8"]
    said = CliRunner().invoke(cli, [*small, "--budget", "2GB"]).output
    assert re.search(r"^images computed at once: 4x4 \d+, .* of memory, by estimate$", said, re.M)
    assert "as many as fit into what is free" in CliRunner().invoke(cli, [*small, "--batch", "auto"]).output
    plan = json.loads(CliRunner().invoke(cli, [*small, "--budget", "2GB", "--json"]).output)
    assert set(plan["memory"]) == {"4", "8", "16"}
    assert set(plan["memory"]["4"]) == {"micro_batch", "recompute", "bytes"}
    assert "memory" not in json.loads(CliRunner().invoke(cli, [*small, "--json"]).output)


def test_the_table_of_cards_in_the_documents_is_the_estimate():
    config = dataclasses.replace(configure("celebahq-v2-8gpu", {}), batch=PerResolution(64))
    text = (Path(__file__).parents[2] / "pggan" / "training" / "README.md").read_text()
    table = text.partition("**By estimate** (measured once")[2].partition("In float32")[0]
    rows = re.findall(r"^\| ([\d, ]+) GB \| (\d+) \| (\d+) \| (\d+) \| (.+) \|$", table, flags=re.M)
    assert len(rows) == 5
    for cards, *images, activations in rows:
        for card in cards.split(", "):
            plan = plan_memory(config, float(card) * 1e9, "cuda", "bf16")
            assert [str(plan[level].micro_batch) for level in (10, 9, 8)] == images, card
            again = [2**level for level, share in plan.items() if share.recompute]
            assert activations == ("computed again at 1024" if again == [1024] else "kept"), card
    again = [plan_memory(config, card * 1e9, "cuda", "fp32")[10].recompute for card in (8, 12)]
    assert again == [True, False]
    assert "In float32, 8 GB need activation checkpointing at 1024x1024, and 12 GB do not." in text


@pytest.mark.long
def test_activations_are_computed_again_where_a_group_does_not_fit(config, tmp_path, monkeypatch):
    """Memory runs out until both are done: one group at once, and its activations not kept."""
    config = dataclasses.replace(config, start_res=16, total_kimg=0.04)
    plain = begin(config, tmp_path / "plain", QuietDisplay())
    d_loss, executors = loss_functions.d_loss, []
    called = StepExecutor.__call__

    def tight(context, d, g, inputs):
        if inputs.images > 4 or not executors or 4 not in executors[-1].checkpointed:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return d_loss(context, d, g, inputs)

    monkeypatch.setattr(StepExecutor, "__call__", lambda self, inputs: executors.append(self) or called(self, inputs))
    monkeypatch.setattr(loss_functions, "d_loss", tight)
    notes = Notes()
    assert begin(config, tmp_path / "tight", notes).nimg == plain.nimg
    assert sum("2 micro-batches" in said for said in notes.said) == 1
    assert sum("computed again" in said for said in notes.said) == 1


@pytest.mark.parametrize(
    "text,found", [("24GB", 24 * 2**30), ("8g", 2**33), ("1.5 GiB", 1.5 * 2**30), ("512MB", 2**29)]
)
def test_amounts_of_memory(text, found):
    assert bytes_of(text) == found


@pytest.mark.parametrize("text", ["24", "GB", "-3GB", "x"])
def test_no_amounts_of_memory(text):
    with pytest.raises(ValueError, match="is no amount of memory"):
        bytes_of(text)


def test_factors_cover_both_precisions():
    assert set(KEPT) == set(GPU_KEPT) == set(GPU_AGAIN) == {2, 4}


def test_too_little_memory_advises_only_what_is_not_given():
    config = TrainConfig(max_res=256)
    for precision in ("fp32", "bf16"):
        with pytest.raises(UsageError, match="are too little") as refused:
            plan_memory(config, float(1 << 30), "cpu", precision)
        assert ("--precision bf16" in str(refused.value)) == (precision == "fp32")


def test_a_plan_beyond_the_budget_says_so():
    plan = {4: MicroBatchPlan(4, False, 2e9), 5: MicroBatchPlan(4, True, 8e9)}
    assert len(describe(plan)) == len(describe(plan, 9e9)) == 1
    assert "WARNING: that is more than --budget 5.6 GiB at 32x32" in describe(plan, 6e9)[1]
