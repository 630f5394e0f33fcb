"""Plans within a budget of memory, and activations computed again: the same gradients with less memory."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.profiler import profile

from pggan.config.train import PerResolution, TrainConfig
from pggan.training.engine import step
from pggan.training.engine.gradients import eager
from pggan.training.engine.memory_estimate import (
    KEPT,
    describe,
    fixed_bytes,
    image_bytes,
    pass_bytes,
    planned,
    resolve_memory,
)
from pggan.training.engine.state import TrainState
from pggan.training.monitor.display import QuietDisplay
from pggan.training.start import begin
from pggan.utils import devices
from pggan.utils.errors import UsageError
from pggan.utils.formatting import bytes_of
from tests.training.test_recovery import Notes
from tests.training.test_step_modes import SMALL, a_batch

CPU = torch.device("cpu")


def made(config, double):
    state = TrainState(config, CPU, "fp32")
    if double:
        state.generator.double()
        state.discriminator.double()
        state.setup = dataclasses.replace(state.setup, dtype=None)
    return state


@pytest.mark.parametrize("level", [2, 3, 4])
def test_activations_computed_again_change_nothing(level):
    state = made(dataclasses.replace(SMALL, max_res=16, fmap_base=64), True)
    exact = torch.float64
    inputs = a_batch(state, level).map(lambda t: t.to(exact)), level, torch.tensor(0.3, dtype=exact), torch.tensor(1.0)
    for player in "dg":
        state._recompute.on = False
        kept = eager(state.setup, player, *inputs)
        state._recompute.on = True
        again = eager(state.setup, player, *inputs)
        for name, g in kept.found.items():
            other = again.found[name]
            if g is None:
                assert other is None
            else:
                assert (g - other).abs().max() < 1e-12, name
        assert kept.losses.keys() == again.losses.keys()


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


def test_estimates_are_of_the_size_that_is_measured():
    config = dataclasses.replace(SMALL, max_res=32, fmap_base=512, fmap_max=32)
    state = made(config, False)
    inputs = a_batch(state, 5), 5, torch.tensor(0.3), torch.tensor(1.0)
    found = {}
    for again in (False, True):
        state._recompute.on = again
        eager(state.setup, "d", *inputs)
        found[again] = peak(lambda: eager(state.setup, "d", *inputs))
        estimate = 8 * image_bytes(config, 32, 4, again, "cuda")
        assert 0.75 < found[again] / estimate < 1.25, (again, found, estimate)
    assert found[True] < 0.75 * found[False]


def test_plans_keep_within_the_budget():
    config = TrainConfig(max_res=1024, batch=PerResolution.of({4: 128, 256: 16, 1024: 8}))
    sizes = {r: [int(config.batch.at(r)) // parts for parts in (1, 2, 4)] for r in config.resolutions()}
    before = None
    for gigabytes in (80, 24, 16, 12, 8):
        shares = planned(config, gigabytes * 2**30, "cuda", "bf16", sizes)
        assert all(share.bytes <= gigabytes * 2**30 * 0.9 for share in shares.values())
        assert all(share.micro_batch in sizes[r] for r, share in shares.items())
        if before:
            assert all(shares[r].micro_batch <= before[r].micro_batch or shares[r].recompute for r in shares)
        before = shares
    one_group = {1024: [4]}
    assert planned(config, 80 * 2**30, "cuda", "bf16", one_group)[1024].recompute is False
    assert planned(config, 8 * 2**30, "cuda", "bf16", one_group)[1024].recompute is True
    with pytest.raises(UsageError, match=r"too little for 4x4: 32 images at once take about .*--budget"):
        planned(config, 0.5 * 2**30, "cuda", "bf16", sizes)


def test_what_is_planned_before_the_run_measures(config):
    """A budget of two images more than nothing, by estimate; with --batch auto what is free."""
    config = dataclasses.replace(config, stddev_group=2, start_res=16, precision="fp32")
    budget = (
        fixed_bytes(config, "cpu") + pass_bytes(config, 16, False) + 2.5 * image_bytes(config, 16, 4, False, "cpu")
    ) / 0.9
    share = resolve_memory(dataclasses.replace(config, budget=budget), CPU, "fp32")["16"]
    assert (share["micro_batch"], share["recompute"], share["probed"]) == (2, False, False)
    auto = resolve_memory(dataclasses.replace(config, auto_batch=True), CPU, "fp32")
    assert auto["16"]["micro_batch"] == 8  # the whole minibatch: this machine has room
    assert describe(auto)[0].endswith("of memory, by estimate")
    assert resolve_memory(config, CPU, "fp32") == {}
    assert describe({}) == []


def test_estimates_refuse_only_what_is_far_too_much(config, monkeypatch):
    """They may err: what they find a little too large is left to the run to measure, where that is possible."""
    config = dataclasses.replace(config, stddev_group=2, start_res=16, precision="fp32")
    bytes_ = fixed_bytes(config, "cpu") + pass_bytes(config, 16, True) + 2 * image_bytes(config, 16, 4, True, "cpu")
    least = bytes_ / 0.9
    near, far = (dataclasses.replace(config, budget=least * part) for part in (0.8, 0.5))
    monkeypatch.setattr(devices, "can_measure", lambda device: True)
    share = resolve_memory(near, CPU, "fp32")["16"]
    assert (share["micro_batch"], share["recompute"]) == (2, True)
    with pytest.raises(UsageError, match="too little for 16x16: 2 images at once take about"):
        resolve_memory(far, CPU, "fp32")
    monkeypatch.setattr(devices, "can_measure", lambda device: False)
    with pytest.raises(UsageError, match="too little for 16x16: 2 images at once take about"):
        resolve_memory(near, CPU, "fp32")


def test_activations_are_computed_again_where_a_group_does_not_fit(config, tmp_path, monkeypatch):
    """Memory runs out until both are done: one group at once, and its activations not kept."""
    config = dataclasses.replace(config, start_res=16, total_kimg=0.04)
    plain = begin(config, tmp_path / "plain", QuietDisplay())
    original, states = step.compute_gradients, []
    d_loss = step.step.d_loss

    def watched(state, *rest):
        states.append(state)
        return original(state, *rest)

    def tight(setup, d, g, batch, *rest):
        if len(batch.reals) > 4 or 4 not in states[-1].recomputed:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return d_loss(setup, d, g, batch, *rest)

    monkeypatch.setattr(step, "compute_gradients", watched)
    monkeypatch.setattr(step.step, "d_loss", tight)
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
    assert set(KEPT) == {2, 4}
