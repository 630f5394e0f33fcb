"""Apple's and Intel's GPUs, as far as a machine without one can tell: names, refusals, dtypes, devices, kernels.

The CPU stands in under a mode that forbids float64, and torch's meta device for tensors that lie on two devices.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pggan.data.loading.cache_policy import CachePolicy
from pggan.generation.model import load
from pggan.training.engine import rng, state, step
from pggan.training.engine.environment import resolve
from pggan.training.engine.step_modes import StepMode
from pggan.training.monitor.display import QuietDisplay
from pggan.training.run.directory import RunDirectory
from pggan.training.run.log_reader import read_log
from pggan.training.start import begin, resume
from pggan.utils import devices, distributed
from pggan.utils.errors import UsageError
from tests.helpers.loss_settings import SETTINGS
from tests.helpers.train_steps import Player, tiny

KINDS = ["mps", "xpu"]


class Recorder(TorchDispatchMode):
    """Notes the operations in the block, and raises where one makes a tensor in float64."""

    def __init__(self):
        super().__init__()
        self.operations = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            assert not isinstance(tensor, torch.Tensor) or tensor.dtype is not torch.float64, function
        self.operations.add(function)
        return result


def plain(monkeypatch, kind):
    """Has the package treat a kind of device as one that computes plainly."""
    for module in (devices, state, distributed):
        monkeypatch.setattr(module, "PLAIN", frozenset({kind}))


@pytest.fixture
def gpus(monkeypatch):
    """One Apple and two Intel GPUs that nobody computes on."""
    monkeypatch.setattr(torch.mps, "device_count", lambda: 1)
    monkeypatch.setattr(torch.xpu, "device_count", lambda: 2)
    monkeypatch.setattr(torch.xpu, "get_device_name", lambda device: f"card {device.index}")


def test_names_of_devices(gpus):
    assert str(devices.pick_device("mps")) == "mps:0"
    assert [str(devices.pick_device(name)) for name in ("xpu", "xpu:1")] == ["xpu:0", "xpu:1"]
    assert devices.device_name(torch.device("xpu", 1)) == "card 1"
    with pytest.raises(UsageError, match=r"xpu:2 asked for, but there are 2 GPUs \(from xpu:0\)"):
        devices.pick_device("xpu:2")


@pytest.mark.parametrize(("kind", "what"), [("mps", "Apple GPU"), ("xpu", "Intel GPU")])
def test_a_device_that_is_not_there_is_named(monkeypatch, kind, what):
    monkeypatch.setattr(getattr(torch, kind), "device_count", lambda: 0)
    with pytest.raises(UsageError, match=f"device {kind} asked for, but torch finds no {what}.*use --device cpu"):
        devices.pick_device(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_runs_there_are_eager_and_in_float32(gpus, kind):
    environment = resolve(tiny(device=kind, mode="captured", channels=3))
    assert (environment.device, environment.precision) == (f"{kind}:0", "fp32")
    assert set(environment.modes.values()) == {StepMode.EAGER}
    assert environment.describe_steps() == [f"steps: eager (on {kind} all steps are)"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"budget": 1e9}, "--budget"), ({"cache": "device"}, "--cache device"), ({"precision": "fp16"}, "--precision"),
        ({"precision": "bf16"}, "--precision bf16"), ({"precision": "tf32"}, "--precision tf32"),
    ],
)  # fmt: skip
def test_what_these_devices_lack_is_refused_by_its_option(gpus, kind, options, flag):
    with pytest.raises(UsageError, match=flag):
        resolve(tiny(device=kind, **options))


@pytest.mark.parametrize("kind", KINDS)
def test_several_processes_are_refused(monkeypatch, kind):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")):
        monkeypatch.setenv(name, value)
    refused = pytest.raises(UsageError, match=f"several processes need CUDA GPUs, or --device cpu; on {kind} start one")
    with refused, distributed.process_group(torch.device(kind, 0)):
        pass


def test_free_memory_is_what_the_system_recommends(monkeypatch):
    emptied = []
    for kind in KINDS:
        monkeypatch.setattr(getattr(torch, kind), "empty_cache", lambda kind=kind: emptied.append(kind))
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 100)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 30)
    monkeypatch.setattr(torch.xpu, "mem_get_info", lambda device: (50, 200))
    assert [devices.free_memory(torch.device(kind, 0)) for kind in KINDS] == [70, 50]
    assert emptied == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_cached_in_main_memory(kind):
    policy = CachePolicy("auto", 1 << 20, f"{kind}:0")
    cache = policy.create_cache(lambda indices: np.zeros((len(indices), 1, 4, 4), np.uint8), (2, 1, 4, 4), kind)
    assert cache.kind == "ram"
    cache.close()


def test_metrics_compute_on_the_cpu_beside_them():
    for kind in ("mps", "xpu"):
        assert devices.metrics_device(torch.device(kind, 0)) == torch.device("cpu")
    for kind in ("cpu", "cuda"):
        assert devices.metrics_device(torch.device(kind)) == torch.device(kind)


def player_of(setting, **options):
    return Player(tiny(**{"max_res": 8, "start_res": 4, "channels": 3, **SETTINGS[setting]}), **options)


@pytest.mark.parametrize("setting", SETTINGS)
def test_training_makes_no_float64(monkeypatch, setting):
    """Two iterations at 4x4, two of the fade to 8x8; losses as with float64 scalars and fused optimizers."""
    expected = player_of(setting).play(4)
    plain(monkeypatch, "cpu")
    player = player_of(setting)
    modules = (player.state.generator, player.state.discriminator, player.state.objectives)
    assert torch.float64 not in {tensor.dtype for module in modules for tensor in module.buffers()}
    with Recorder() as recorder:
        found = player.play(4)
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert len(recorder.operations) > 20


def test_a_run_of_the_cpu_goes_on_there_and_back(monkeypatch, tmp_path):
    """Its counters in float64 become float32, and float64 again."""
    one = player_of("historical-averaging")
    one.play(2)
    one.state.save(tmp_path / "cpu.safetensors")
    with monkeypatch.context() as patched:
        plain(patched, "cpu")
        other = player_of("historical-averaging")
        other.state.load(tmp_path / "cpu.safetensors")
        other.play(1)
        other.state.save(tmp_path / "plain.safetensors")
    one.play(1)
    back = player_of("historical-averaging").state
    back.load(tmp_path / "plain.safetensors")
    for (name, tensor), expected in zip(
        back.objectives.state_dict().items(), one.state.objectives.state_dict().values()
    ):
        torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.long
def test_a_whole_run_there(config, monkeypatch, tmp_path):
    """Trained, evaluated, stopped and resumed to what an uninterrupted run ends with, pictures made."""
    plain(monkeypatch, "cpu")
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 4 << 30)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 0)
    config = dataclasses.replace(config, eval_every=1, eval_samples=8, total_kimg=0.16)
    whole = tmp_path / "whole"
    begin(config, whole, QuietDisplay())
    assert "swd" in str(read_log(RunDirectory(whole).log))
    begin(dataclasses.replace(config, total_kimg=0.08), tmp_path / "cut", QuietDisplay())
    resume(RunDirectory(tmp_path / "cut"), QuietDisplay(), changes={"total_kimg": 0.16}, override=True)
    pictures = [load(run, "cpu").generate([1, 2]) for run in (whole, tmp_path / "cut")]
    assert np.array_equal(*pictures)


def test_the_forbidden_dtype_is_noticed():
    player = player_of("wgan-gp")
    with pytest.raises(AssertionError, match="aten"), Recorder():
        player.play(1)


@pytest.mark.parametrize("setting", SETTINGS)
def test_all_tensors_of_a_step_lie_on_one_device(monkeypatch, setting):
    """Torch's meta device refuses tensors of another one; it has no random numbers and no values."""
    plain(monkeypatch, "meta")
    for name in ("normal", "uniform"):
        draw = getattr(rng, name)
        monkeypatch.setattr(
            rng, name, lambda *values, draw=draw: draw(*values[:-1], torch.device("cpu")).to(values[-1])
        )
    update = step.optimizer_step
    monkeypatch.setattr(step, "optimizer_step", lambda *values: update(*values[:-1], torch.ones(())))  # it is finite
    player = player_of(setting, device="meta")
    for _ in range(4):
        terms = player.iterate()
    assert {term.device.type for term in terms.values()} == {"meta"}


def kernels():
    """Returns torch's declarations of operations by name."""
    torchgen = pytest.importorskip("torchgen")
    text = (Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml").read_text()
    return {entry.partition("(")[0].strip(): entry for entry in re.split(r"^- func: ", text, flags=re.M)[1:]}


def has_metal_kernel(name, declared):
    """Whether an operation has a kernel for Apple's GPUs, or is made of others."""
    entry = declared[name]
    if delegate := re.search(r"structured_delegate: (\S+)", entry):
        entry = declared[delegate[1]]
    table = re.search(r"^  dispatch:\n((?:    .+\n?)+)", entry, flags=re.M)
    return table is None or bool(re.search(r"\bMPS\b|Composite", table[1]))


def without_metal_kernel(operations):
    """Returns the names of operations that have no kernel for Apple's GPUs."""
    declared = kernels()
    names = {operation.name().removeprefix("aten::") for operation in operations}
    known = {name for name in names if name in declared}
    assert len(known) > 0.8 * len(names) > 10
    return {name for name in known if not has_metal_kernel(name, declared)}


def test_pictures_make_no_float64_and_have_kernels(monkeypatch):
    """At a fading level, and as 8-bit images."""
    plain(monkeypatch, "cpu")
    model = load("faces")
    model.file.alpha = 0.5
    with Recorder() as recorder:
        images = model.synthesize(model.seed_latents([0, 1]), level=4, alpha=0.5)
        model.images(model.seed_latents([1]))
    assert images.dtype is torch.float32
    assert without_metal_kernel(recorder.operations) == set()


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_operation_of_a_step_has_a_kernel_for_apples_gpus(monkeypatch, setting):
    plain(monkeypatch, "cpu")
    player = player_of(setting)
    with Recorder() as recorder:
        player.play(4)
    assert without_metal_kernel(recorder.operations) == set()
    assert not has_metal_kernel("_fft_r2c", {"_fft_r2c": "_fft_r2c(\n  dispatch:\n    CPU: a\n    CUDA: b\n"})
