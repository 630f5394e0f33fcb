"""What training takes of memory, measured: which size is chosen, that nothing else changes, what a run keeps of it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import subprocess
import sys

import pytest
import torch

from pggan.config.schedule import Schedule
from pggan.config.train import PerResolution, to_json
from pggan.data.store.store import Store
from pggan.training.engine import memory_estimate, memory_probe
from pggan.training.engine.memory_estimate import MicroBatchPlan, describe, sizes_of, still_fits
from pggan.training.engine.memory_probe import Probe, Trial, fitted, measured_plan
from pggan.training.engine.state import TrainState
from pggan.training.engine.step import BatchBuilder, compute_gradients
from pggan.training.loop import Trainer
from pggan.training.monitor.display import QuietDisplay
from pggan.training.run.directory import RunDirectory
from pggan.training.run.log_reader import read_log
from pggan.training.start import begin, fit_to_data, resume
from pggan.utils import devices
from pggan.utils.errors import UsageError
from tests.training.test_distributed import ONE_THREAD
from tests.training.test_recovery import Notes
from tests.training.test_run import same

CPU = torch.device("cpu")
MIB = 1 << 20
measures = pytest.mark.skipif(not devices.can_measure(CPU), reason="this system does not tell a process's peak")


class Told(Notes):
    def measured(self, message):
        self.note(message)


class Fake:
    """Takes `held` bytes and `each` an image; beyond `ends`, memory runs out."""

    def __init__(self, held, each, ends=math.inf):
        self.held, self.each, self.ends, self.tried = held, each, ends, []

    def __call__(self, count, expected):
        self.tried.append(count)
        used = self.held + self.each * count
        if expected is not None:
            assert expected == pytest.approx(used)
        return used if used <= self.ends else math.inf


@pytest.mark.parametrize(
    "meter,limit,images,tried",
    [
        (Fake(100, 1), 1000, 16, [2, 4]),  # far from the limit: the line is enough
        (Fake(100, 10), 300, 16, [2, 4, 16]),  # near it: tried
        (Fake(100, 10), 250, 8, [2, 4, 8]),  # 16 would not fit, by the line
        (Fake(100, 10), 139, 2, [2, 4]),  # 4 does not
        (Fake(100, 10), 119, 0, [2]),  # nor 2
        (Fake(100, 10, ends=200), 300, 8, [2, 4, 16, 8]),  # runs out when tried: the next smaller one
        (Fake(100, 10, ends=130), 300, 2, [2, 4]),
        (Fake(100, 10, ends=110), 300, 0, [2]),
        (Fake(100, 0), 101, 16, [2, 4]),  # a minibatch that takes nothing
    ],
)
def test_which_size_is_chosen(meter, limit, images, tried):
    fit = fitted([2, 4, 8, 16], 100, limit, meter)
    assert (fit.images, meter.tried) == (images, tried)
    assert list(fit.measured) == tried
    if images:
        assert fit.bytes == meter.held + meter.each * images <= limit


def test_one_size_is_measured_alone():
    meter = Fake(100, 10)
    assert fitted([4], 100, 150, meter) == (4, 140, {4: 140})
    assert fitted([4], 100, 130, meter).images == 0


class Card:
    """Stands in for a device: `free` bytes beside 100 MiB that are held; an image takes 10 MiB, or 4 computed again."""

    def __init__(self, monkeypatch, free):
        self.tried, self.ends = [], math.inf
        monkeypatch.setattr(memory_probe, "held_memory", lambda device: 100 * MIB)
        monkeypatch.setattr(memory_probe, "free_memory", lambda device: free * MIB)
        monkeypatch.setattr(memory_probe, "PLENTY", 0.0)
        monkeypatch.setattr(Probe, "_extra", lambda self, resolution: 0.0)
        monkeypatch.setattr(Probe, "estimate", lambda self, resolution, images, recompute: 1.0)
        monkeypatch.setattr(Trial, "compute", lambda trial, count: self.compute(trial, count))
        monkeypatch.setattr(memory_probe, "peak_memory", self.peak)

    def compute(self, trial, count):
        self.tried.append((trial.phase.resolution, count, trial.recompute))
        self.used = 100 * MIB + count * (4 if trial.recompute else 10) * MIB
        if self.used > self.ends:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def peak(self, device, work):
        work()
        return self.used


def probed(config):
    state, said = TrainState(config, CPU, "fp32"), []
    return measured_plan(state, BatchBuilder(state, 0, None), 0, said.append), said


def one_level(config, **options):
    return dataclasses.replace(config, **{"start_res": 16, "stddev_group": 2, "auto_batch": True, **options})


@pytest.mark.parametrize(
    "free,ends,budget,share,says",
    [
        (1000, 0, None, (8, False), "at 16x16 by images at once: 2: 120.0 MiB, 4: 140.0 MiB$"),
        (60, 0, None, (4, False), "2: 120.0 MiB, 4: 140.0 MiB$"),
        (100, 0, None, (8, False), "4: 140.0 MiB, 8: 180.0 MiB$"),
        (100, 170, None, (4, False), "4: 140.0 MiB, 8: more than there is$"),
        (1000, 0, 150, (2, False), "2: 120.0 MiB, 4: 140.0 MiB$"),
        (20, 0, None, (4, True), "computed again: 2: 108.0 MiB, 4: 116.0 MiB$"),
        (1000, 110, None, (2, True), "computed again: 2: 108.0 MiB, 4: more than there is$"),
    ],
)
def test_the_plan_keeps_within_the_room(config, monkeypatch, free, ends, budget, share, says):
    card = Card(monkeypatch, free)
    card.ends = ends * MIB or math.inf
    config = one_level(config, budget=None if budget is None else budget * MIB, cache="none")
    shares, said = probed(config)
    assert shares[16][:2] == share
    assert shares[16].probed
    assert re.search(says, said[-1])
    known = shares[16].measured
    assert all(bytes_ == (100 + int(n) * (4 if share[1] else 10)) * MIB for n, bytes_ in known.items())


def test_budget_of_a_run(config, tmp_path, monkeypatch):
    """Room for two and a half images: parts, groups whole, and the same numbers but for rounding."""
    config = one_level(config, total_kimg=0.024, precision="fp32", auto_batch=False, snapshot_ticks=100)
    begin(config, tmp_path / "roomy", QuietDisplay())
    Card(monkeypatch, 1000)
    monkeypatch.setattr(memory_estimate, "DOUBT", 100.0)
    begin(dataclasses.replace(config, budget=125 * MIB / 0.9), tmp_path / "tight", QuietDisplay())
    _, resolved = RunDirectory(tmp_path / "tight").read_options()
    said = describe(resolved["memory"], 90.0)
    assert said == ["images computed at once: 16x16 2; up to 120.0 MiB of memory, measured (in 1:30)"]
    a, b = (read_log(RunDirectory(tmp_path / name).log) for name in ("roomy", "tight"))
    assert a[0]["d_loss"] == pytest.approx(b[0]["d_loss"], rel=1e-3)


def test_too_little_for_a_group(config, monkeypatch):
    Card(monkeypatch, 5)
    with pytest.raises(UsageError, match=r"too little for 16x16: 2 images at once take 120.0 MiB; give a --budget"):
        probed(one_level(config, cache="none"))
    card = Card(monkeypatch, 500)
    card.ends = 50 * MIB
    with pytest.raises(UsageError, match="2 images at once take more; "):
        probed(one_level(config, cache="none"))


def test_main_memory_is_never_tried_beyond_its_end(config, monkeypatch):
    """Where the system ends processes instead of refusing memory."""
    card = Card(monkeypatch, 1000)
    monkeypatch.setattr(Probe, "estimate", lambda self, resolution, images, recompute: 2000.0 * MIB)
    with pytest.raises(UsageError, match="too little"):
        probed(one_level(config, cache="none"))
    assert card.tried == []


def test_pictures_kept_in_memory_are_left_out(config, monkeypatch):
    Card(monkeypatch, 110)
    config = one_level(config, cache_mb=100)
    state = TrainState(config, CPU, "fp32")
    pictures = 60 * MIB // (3 * 16 * 16)
    plans = [
        measured_plan(state, BatchBuilder(state, 0, None), count, lambda said: None)[16] for count in (0, pictures)
    ]
    assert [plan.micro_batch for plan in plans] == [8, 4]


def test_resolutions_that_the_run_never_reaches_are_not_measured(config, monkeypatch):
    card = Card(monkeypatch, 1000)
    config = dataclasses.replace(config, total_kimg=0.04, auto_batch=True)
    shares, _ = probed(config)
    assert {side for side, _, _ in card.tried} == {4}
    assert {side: share.probed for side, share in shares.items()} == {4: True, 8: False, 16: False}


def test_sizes_keep_groups_whole_within_what_is_asked_for(config):
    config = dataclasses.replace(config, batch=PerResolution(16), stddev_group=4)
    assert sizes_of(config, 1)[8] == [4, 8, 16]
    assert sizes_of(config, 2)[8] == [4, 8]
    assert sizes_of(dataclasses.replace(config, micro_batch=PerResolution(8)), 1)[8] == [4, 8]
    assert sizes_of(dataclasses.replace(config, micro_batch=PerResolution(1)), 1)[8] == [4]


@measures
def test_the_peak_of_this_process():
    def work():
        return torch.ones(40 * MIB // 4).sum()

    taken = []
    for _ in range(3):  # the system may take pages of files back meanwhile
        held = devices.held_memory(CPU)
        taken.append(devices.peak_memory(CPU, work) - held)
    assert any(36 * MIB < each < 60 * MIB for each in taken), taken
    assert devices.held_memory(CPU) - held < 16 * MIB
    assert devices.peak_memory(CPU, lambda: None) - held < 16 * MIB  # a peak is forgotten


@measures
def test_measured_on_networks(config):
    """More images take more; what is planned within is what the networks then take, and the gradients are the same."""
    config = one_level(config, fmap_base=512, fmap_max=32, batch=PerResolution(64))
    state = TrainState(config, CPU, "fp32")
    feed, phase = BatchBuilder(state, 0, None), Schedule(config).phases[0]
    meter = Probe(state, feed, 0, lambda message: None)
    trial = Trial(meter, phase, False)
    peaks = {count: trial(count, 0.0) for count in (2, 16, 64)}
    assert meter.held < peaks[2] < peaks[64]
    each = meter.estimate(16, 2, False) - meter.estimate(16, 1, False)
    assert 0.5 < (peaks[64] - peaks[16]) / 48 / each < 2.5

    # a budget between what 16 images and the whole minibatch take
    budget = (peaks[16] + meter._extra(16) + 24 * each) / memory_estimate.USABLE
    share = measured_plan(state, feed, 0, lambda message: None)[16]
    assert share.micro_batch == 64  # no budget yet
    tight = TrainState(dataclasses.replace(config, budget=budget, auto_batch=False), CPU, "fp32")
    share = measured_plan(tight, feed, 0, lambda message: None)[16]
    assert share.probed
    assert 8 <= share.micro_batch < 64
    assert not share.recompute
    assert share.bytes <= budget * memory_estimate.USABLE
    batch = feed.discriminator(memory_probe._pictures(config, phase, state.world, 0), 0, torch.tensor(1.0))
    inputs = batch, 4, torch.tensor(1.0), torch.tensor(1.0)
    whole = compute_gradients(state, "d", *inputs)
    tight.parts[4] = 64 // share.micro_batch
    parts = compute_gradients(tight, "d", *inputs)
    for name, g in whole.found.items():
        assert g is None or (g - parts.found[name]).abs().max() <= 1e-5 * max(1.0, float(g.abs().max())), name


OPTIONS = [
    {},
    {"loss": "began"},
    {"d_norm": "layer", "g_norm": "virtual-batch"},
    {"loss_options": (("augment", "ada"), ("augment_p", 0.5)), "held_out": 0.25},
    {"loss": "gan", "loss_options": (("instance_noise", 0.1), ("historical_averaging", 0.1)), "labels": "hair"},
]


@measures
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(map(str, options.values())) or "plain")
def test_nothing_else_changes(config, options, data, monkeypatch):
    config = one_level(config, start_res=8, max_res=8, **options)
    with Store(str(data)) as store:
        config = fit_to_data(config, store.manifest)
    monkeypatch.setattr(memory_probe, "PLENTY", 0.0)
    state = TrainState(config, CPU, "fp32")
    known = torch.zeros(40, dtype=torch.int64).numpy() if config.labels else None
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    counters, random = dict(state.counters), torch.random.get_rng_state()
    shares = measured_plan(state, BatchBuilder(state, 0, known), 40, lambda message: None)
    assert shares[8].probed
    assert len(shares[8].measured) > 1
    assert counters == state.counters
    assert torch.equal(random, torch.random.get_rng_state())
    after = state.tensors()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not state.recomputed
    assert not state._recompute.on
    assert all(parameter.grad is None for parameter in state.generator.parameters())


@measures
def test_a_run_measures_records_and_goes_on_with_its_plan(config, tmp_path, monkeypatch):
    """The same weights as with that micro-batch and no probe; --resume does not measure again, and keeps the plan."""
    calls = []
    original = Probe._measured

    def watched(self, phase, limit, extra):
        calls.append(phase.resolution)
        share = original(self, phase, limit, extra)
        return share._replace(micro_batch=2)

    monkeypatch.setattr(Probe, "_measured", watched)
    monkeypatch.setattr(memory_probe, "PLENTY", 0.0)
    config = dataclasses.replace(config, stddev_group=2, total_kimg=0.064, precision="fp32", snapshot_ticks=100)
    notes = Told()
    begin(dataclasses.replace(config, auto_batch=True, total_kimg=0.048), tmp_path / "probed", notes)
    assert calls == [4, 8]
    says = [said for said in notes.said if said.startswith("images computed at once")]
    assert len(says) == 1
    assert re.fullmatch(
        r"images computed at once: 4x4 2, 8x8 2, 16x16 8; up to [\d.]+ [MG]iB of memory, measured at 4x4, 8x8, the "
        r"others by estimate \(in [\d.]+ s\)",
        says[0],
    )
    run = RunDirectory(tmp_path / "probed")
    kept, resolved = run.read_options()
    assert resolved["memory"]["4"] | {"bytes": 0, "measured": {}} == {
        "micro_batch": 2, "recompute": False, "bytes": 0, "probed": True, "measured": {},
    }  # fmt: skip
    assert set(resolved["memory"]["8"]["measured"]) >= {"2", "4"}
    assert resolved["memory"]["16"]["probed"] is False

    values = json.loads((run.path / "options.json").read_text())
    values["config"]["total_kimg"] = 0.064
    (run.path / "options.json").write_text(json.dumps(values))
    parts = []
    entered = TrainState.enter
    monkeypatch.setattr(TrainState, "enter", lambda self, m: (parts.append(dict(self.parts)), entered(self, m))[1])
    resume(run, QuietDisplay())
    assert calls == [4, 8]
    assert parts
    assert all(each == {2: 4, 3: 4, 4: 1} for each in parts)

    begin(dataclasses.replace(config, micro_batch=PerResolution.of({4: 2, 8: 2, 16: 8})), tmp_path / "plain", notes)
    assert same(run.states()[-1], RunDirectory(tmp_path / "plain").states()[-1])

    # less is free than the plan takes: planned anew
    monkeypatch.setattr(memory_estimate, "room", lambda config, device: 1.0)
    monkeypatch.setattr(devices, "held_memory", lambda device: 0)
    training = Trainer(kept, resolved, run, QuietDisplay())
    assert not still_fits(resolved["memory"], kept, CPU)
    assert training.state.parts == {2: 4, 3: 4, 4: 1}
    again = Notes()
    begun = resume(run, again)
    assert sum("planned again" in said for said in again.said) == 1
    assert calls == [4, 8, 4, 8]
    assert begun.nimg == 64


def test_only_a_plan_of_what_is_free_is_looked_at_again(config):
    shares = {"4": MicroBatchPlan(4, False, 1e18).recorded()}
    assert not still_fits(shares, dataclasses.replace(config, auto_batch=True), CPU)
    assert still_fits(shares, config, CPU)
    assert still_fits({}, dataclasses.replace(config, auto_batch=True), CPU)
    assert shares == {"4": {"micro_batch": 4, "recompute": False, "bytes": 1e18, "probed": False}}


def test_where_nobody_tells_of_memory_it_is_the_estimate(config, monkeypatch):
    monkeypatch.setattr(devices, "_forget_peak", lambda: False)
    shares, said = probed(one_level(config))
    assert shares[16].micro_batch == 8
    assert not shares[16].probed
    assert not said
    assert describe({"16": shares[16].recorded()})[0].endswith("of memory, by estimate")
    assert describe({"16": shares[16].recorded()}, 1.0)[0].endswith("by estimate, far below what there is")


TWO = """
import json, sys, torch
from pggan.config.train import from_json, TrainConfig
from pggan.utils.distributed import process_group
from pggan.utils.errors import UsageError
from pggan.training.engine import memory_probe as probe
from pggan.training.engine.step import BatchBuilder, compute_gradients
from pggan.training.engine.memory_estimate import MicroBatchPlan
from pggan.training.engine.state import TrainState
config = from_json(TrainConfig, json.loads(sys.argv[1]))
device = torch.device("cpu")
with process_group(device) as world:
    state = TrainState(config, device, "fp32", world)
    feed = BatchBuilder(state, 0, None)
    own = probe.measured_plan(state, feed, 0, lambda message: None)  # as it is
    shares = (MicroBatchPlan(8, False, 3e9), MicroBatchPlan(4, False, 2e9, True)), (MicroBatchPlan(2, True, 2.5e9), MicroBatchPlan(8, False, 1e9))
    probe.Probe.shares = lambda self: dict(zip((8, 16), shares[world.rank]))
    found = probe.measured_plan(state, feed, 0, lambda message: None)
    if world.rank == 1:
        def refuse(self):
            raise UsageError("too little here")
        probe.Probe.shares = refuse
    try:
        probe.measured_plan(state, feed, 0, lambda message: None)
    except UsageError as error:
        said = str(error)
print(json.dumps([[list(plan.values()) for plan in (own, found)], said]))
"""


@measures
def test_processes_agree(config):
    """One plan, with what the poorer one has; where it fails in one, it fails in all."""
    config = dataclasses.replace(config, start_res=8, max_res=16, auto_batch=True, stddev_group=2)
    environment = {**ONE_THREAD, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(29600 + os.getpid() % 20000)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, json.dumps(to_json(config))],
            env={**environment, "RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    (plans, said), (others, also) = (json.loads(process.communicate(timeout=120)[0]) for process in processes)
    assert plans == others
    assert [share[:2] for share in plans[0]] == [[4, False], [4, False]]  # a minibatch's half
    assert [share[:4] for share in plans[1]] == [[2, True, 3e9, False], [4, False, 2e9, True]]
    assert (said, also) == ("memory does not suffice in another process of the run", "too little here")


def test_part_of_a_machine(monkeypatch, config):
    """Processes on one machine share its memory, on a GPU each has its own."""
    monkeypatch.setattr(devices, "free_memory", lambda device: 1000)
    auto = dataclasses.replace(config, auto_batch=True, budget=float(1 << 30))
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    assert memory_estimate.room(auto, CPU) == 250
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert memory_estimate.room(auto, CPU) == 500
    assert memory_estimate.room(auto, torch.device("cuda", 0)) == 1000
    assert memory_estimate.room(dataclasses.replace(auto, auto_batch=False), CPU) == 1 << 30


def test_dry_run_says_that_it_estimates(data):
    from click.testing import CliRunner

    from pggan.cli import cli

    small = ["train", str(data), "--dry-run", "--device", "cpu", "--fmap-base", "64", "--fmap-max", "8"]
    said = CliRunner().invoke(cli, [*small, "--budget", "2GB"]).output
    assert re.search(r"^images computed at once: 4x4 \d+, .* of memory, by estimate; the run measures it$", said, re.M)
    assert "as many as fit into what is free" in CliRunner().invoke(cli, [*small, "--batch", "auto"]).output
    told = json.loads(CliRunner().invoke(cli, [*small, "--budget", "2GB", "--json"]).output)
    assert set(told["memory"]) == {"4", "8", "16"}
    assert told["memory"]["4"]["probed"] is False
    assert "memory" not in json.loads(CliRunner().invoke(cli, [*small, "--json"]).output)
