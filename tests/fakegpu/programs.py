"""What the tests run on the stand-in GPU, each in a process of its own; results are JSON values."""

from __future__ import annotations

import gc
import os
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from pggan.cli import doctor
from pggan.config.presets import configure
from pggan.config.train import PerResolution, TrainConfig
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.generation.model import load
from pggan.training.engine import loss_functions
from pggan.training.engine.memory_estimate import image_bytes, pass_bytes, value_bytes_of
from pggan.training.engine.memory_trial import measure_micro_batch
from pggan.training.engine.state import TrainState
from pggan.training.engine.step_executor import StepExecutor
from pggan.training.engine.step_modes import StepMode
from pggan.training.monitor.plan_table import card_plan
from pggan.training.run.directory import RunDirectory
from pggan.training.run.log_reader import read_log
from pggan.training.start import begin, resume
from pggan.utils.devices import describe_precision, pick_device, pick_precision, set_precision
from pggan.utils.errors import UsageError
from tests.helpers.fake_gpu import counts, reset
from tests.helpers.loss_settings import SETTINGS
from tests.helpers.runs import Notes
from tests.helpers.train_steps import Player, tiny

# Norms and networks beside the losses and techniques.
NETWORKS = {
    "virtual batch norm": {"g_norm": "virtual-batch"},
    "layer norm": {"d_norm": "layer"},
    "instance norm": {"d_norm": "instance"},
    "weight norm": {"d_norm": "weight"},
    "minibatch discrimination": {"diversity": "discrimination"},
    "fused scaling": {"fused_scale": True},
    "separate scaling": {"fused_scale": False},
    "labels": {"labels": "kind", "label_size": 3},
    "codes": {"loss": "gan", "categorical": (3,), "continuous": 1},
    "growing data": {"growth": "data", "start_res": 4},
    "fully connected": {"arch_g": "fc", "arch_d": "fc", "growth": "none", "start_res": 8},
    "dcgan": {"arch_g": "dcgan", "arch_d": "dcgan", "growth": "none", "start_res": 8},
}
# What a GPU refuses, or what makes the host wait for it.
BAD = ("wait", "pageable", "REFUSED", "BAD LAUNCH")
MIB = 2**20


def bad_counts() -> dict[str, int]:
    return {what: number for what, number in counts().items() if any(word in what for word in BAD)}


@contextmanager
def waits_refused():
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def convolution():
    x = torch.randn(4, 16, 32, 32, device="cuda")
    weight = torch.randn(16, 16, 3, 3, device="cuda", requires_grad=True)
    reset()
    torch.nn.functional.conv2d(x, weight, padding=1).square().sum().backward()
    return {"gpu": torch.cuda.get_device_name(), "counts": counts()}


def mistakes():
    """What the stand-in refuses: a host that waits, and one that waits while it captures."""
    x, said = torch.ones(4, device="cuda"), []
    with waits_refused():
        try:
            float(x.sum())
        except RuntimeError as error:
            said.append(str(error))
    try:
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            float(x.sum())
    except RuntimeError as error:
        said.append(str(error))
    return {"said": said, "bad": bad_counts()}


def precision_of_a_card():
    """What `auto` picks, and the warnings where other precisions were asked for."""
    device = torch.device("cuda", 0)
    asked = {name: describe_precision(name, device) for name in ("bf16", "tf32", "fp16", "fp32")}
    return {"auto": pick_precision("auto", device), "warnings": {name: said for name, said in asked.items() if said}}


def device_of_a_card():
    """What `auto` and `cuda` are on a card, and what the doctor says of it."""
    try:
        named = str(pick_device("cuda"))
    except UsageError as error:
        named = str(error)
    return {"auto": str(pick_device("auto")), "cuda": named, "doctor": doctor._devices()}


def plan_of_the_default():
    """What the plan of the default recipe says of this GPU."""
    return card_plan(configure(None, {"device": "cuda"}), None)[1]


def log_of_memory_that_runs_out(file: str) -> str:
    """What torch writes on stderr where memory runs out and the error is caught."""
    with open(file, "wb") as log:
        os.dup2(log.fileno(), 2)
    try:
        torch.empty(1 << 40, dtype=torch.uint8, device="cuda")
    except torch.OutOfMemoryError:
        return Path(file).read_text()
    raise AssertionError("a terabyte was there")


def every_setting(precision: str, mode: str):
    """An iteration of every loss, technique and norm; returns what went wrong by setting, and how many there were."""
    set_precision(precision)
    faults, captured = {}, 0
    settings: dict[str, dict[str, Any]] = {**SETTINGS, **NETWORKS}
    for name, options in settings.items():
        said: list[str] = []
        config = tiny(**{"max_res": 8, "start_res": 8, "channels": 3, **options})
        player = Player(config, precision, {3: StepMode(mode)}, said.append, device="cuda")
        player.iterate()  # builds the graphs
        reset()
        try:
            with waits_refused():
                player.iterate()
        except RuntimeError as error:
            faults[name] = str(error)[:300]
        captured += counts().get("graph launches", 0) > 0
        if bad_counts() or any("could not" in line for line in said):
            faults[name] = f"{faults.get(name, '')} {bad_counts()} {said}"
    return {"faults": faults, "settings": len(settings), "captured": captured}


def full_width(side: int, batch: int, **options: Any) -> TrainConfig:
    """The CelebA-HQ networks at one resolution."""
    config = configure("celebahq-v2-8gpu", {"start_res": side, "max_res": side, **options})
    return replace(config, batch=PerResolution(batch), total_kimg=None)


def player_of(side: int, batch: int, mode: str, said: list[str], precision: str = "bf16", **options: Any) -> Player:
    config, level = full_width(side, batch, **options), side.bit_length() - 1
    set_precision(precision)
    return Player(config, precision, {level: StepMode(mode)}, said.append, device="cuda")


def iterations_memory(side: int, batch: int, mode: str, precision: str = "bf16") -> dict[str, Any]:
    """MiB that torch set aside above the idle networks: while the first iteration is prepared, and from then on."""
    said: list[str] = []
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    player = player_of(side, batch, mode, said, precision)
    idle = torch.cuda.memory_reserved()
    player.iterate()
    first = torch.cuda.max_memory_reserved()
    player.iterate()
    torch.cuda.synchronize()
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    player.iterate()
    torch.cuda.synchronize()
    level = player.schedule.at(0).level
    return {
        "first": (first - idle) / MIB, "later": (torch.cuda.max_memory_reserved() - idle) / MIB, "said": said,
        "parts": player.executor.num_micro_batches(level, batch), "checkpointed": level in player.executor.checkpointed,
    }  # fmt: skip


def memory_by_mode(cases: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """`iterations_memory` of eager and of captured steps, by side and batch."""
    return [{mode: iterations_memory(*case, mode) for mode in ("eager", "captured-eager")} for case in cases]


def micro_batch_memory(cases: list[tuple[int, int, str]]) -> list[dict[str, float]]:
    """MiB that gradients of one micro-batch set aside, and the estimate, by side, images and precision."""
    measured = []
    for side, images, precision in cases:
        config, level = full_width(side, images), side.bit_length() - 1
        executor = StepExecutor(TrainState(config, torch.device("cuda", 0), precision))
        for again in (False, True):
            if again:
                executor.checkpoint(level)
            each = image_bytes(config, side, value_bytes_of(precision), again, "cuda")
            estimate = images * each + pass_bytes(config, side, again)
            measured.append({"measured": measure_micro_batch(executor, level, images), "estimate": estimate})
        del executor
        gc.collect()
        torch.cuda.empty_cache()
    return measured


def launches(sides: list[int]) -> dict[int, dict[str, Any]]:
    """Kernels of an iteration with 4 images: launched one by one, and in replayed graphs."""
    prepared = loss_functions.prepared_weights
    counted: dict[int, dict[str, Any]] = {}
    for side in sides:
        counted[side] = {}
        for name, mode in (("eager", "eager"), ("captured", "captured-eager"), ("unprepared", "captured-eager")):
            loss_functions.prepared_weights = (lambda *_: {}) if name == "unprepared" else prepared
            player = player_of(side, 4, mode, [])
            player.iterate()
            player.iterate()
            reset()
            player.iterate()
            counted[side][name] = {"launched": counts()["launches"], "replayed": counts().get("nodes replayed", 0)}
    return counted


def launches_beside_graphs(losses: list[str], side: int) -> dict[str, int]:
    """Kernels of an update launched one by one beside the graphs, by loss."""
    counted = {}
    for loss in losses:
        player = player_of(side, 4, "captured-eager", [], loss=loss)
        player.iterate()
        player.iterate()
        reset()
        player.iterate()
        counted[loss] = counts()["launches"] // (player.schedule.n_critic + 1)
    return counted


def run_within(folder: str, budget: float):
    """A run at 64x64 within a budget; returns what it said, and the bytes that torch set aside at most."""
    store, notes = Path(folder) / "data", Notes()
    prepare("drawn:8", store, PrepareOptions(max_res=64))
    config = replace(
        full_width(64, 64, auto_batch=True), data=str(store), device="cuda", budget=budget, total_kimg=0.064,
        tick_kimg=PerResolution(0.064), eval_every=0, grid=(2, 2),
    )  # fmt: skip
    begin(config, Path(folder) / "run", notes)
    return {"notes": notes.said, "peak": torch.cuda.max_memory_reserved(), "mode": "captured-eager" in str(notes.said)}


def whole_run(folder: str):
    """A run at 1024x1024: planned, trained, evaluated, resumed, sampled."""
    store, run, notes = Path(folder) / "data", RunDirectory(Path(folder) / "run"), Notes()
    prepare("drawn:8", store, PrepareOptions(max_res=1024, codec="jpeg"))
    config = replace(
        full_width(1024, 8, auto_batch=True), data=str(store), device="cuda", total_kimg=0.016,
        tick_kimg=PerResolution(0.008), eval_samples=8, eval_metrics=("swd",), grid=(2, 2),
    )  # fmt: skip
    begin(config, run.path, notes)
    peak = torch.cuda.max_memory_reserved()
    resume(run, notes, changes={"total_kimg": 0.024}, override=True)
    pictures = load(run.path, "cuda").generate(range(3))
    lines = read_log(run.log)
    return {
        "notes": notes.said, "nimg": [line["nimg"] for line in lines], "peak": peak, "pictures": pictures.shape,
        "samples": len(list(run.samples.glob("*"))), "evaluated": sum("swd" in str(line) for line in lines),
        "bad": bad_counts(),
    }  # fmt: skip


def generate_after_a_switch(name: str):
    """Pictures of a program that has set torch's new precision switches; returns them as they are afterwards."""
    switch: Any = {"matmul": torch.backends.cuda.matmul, "all": torch.backends}[name]
    switch.fp32_precision = "tf32"
    pictures = load("faces", "cuda").generate(range(2))
    return {"pictures": pictures.shape, "after": switch.fp32_precision}


def one_of_two_ranks(folder: str):
    """A run of two processes, of which each sees one GPU; returns its collectives in order."""
    order: list[list[Any]] = []
    group, all_reduce = dist.init_process_group, dist.all_reduce

    def by_gloo(backend: str, **options: Any):
        return group(backend.replace("nccl", "gloo"), **options)

    def noted(tensor: torch.Tensor, operation: Any, **options: Any):
        order.append([str(tensor.dtype), tensor.device.type, tensor.numel(), str(operation)])
        return all_reduce(tensor, operation, **options)

    dist.init_process_group, dist.all_reduce = by_gloo, noted
    config = tiny(
        data=f"{folder}/data", max_res=8, channels=3, device="cuda", tick_kimg=PerResolution(0.008),
        micro_batch=PerResolution(1), loss="began", stddev_group=1, eval_samples=8,
    )  # fmt: skip
    begin(config, Path(folder) / "run", Notes())
    return order


def generated_code(player: str):
    """Makes a player's compiled gradients at 8x8; returns its kernels, without Triton's own compiler."""
    import torch._inductor.async_compile as compiler
    import torch._inductor.config as settings
    from torch._inductor import metrics

    from pggan.training.engine.batch_builder import example_inputs
    from pggan.training.engine.gradients import build_gradient_fn, eager, without_unused_reals

    launched: list[str] = []

    class Kernel:
        def __init__(self, name: str, source: str) -> None:
            compile(source, name, "exec")
            self.name = name

        def run(self, *_: Any, **__: Any) -> None:
            launched.append(self.name)

    settings.compile_threads, settings.force_disable_caches = 1, True

    def triton(self: Any, name: str, source: str, device_str: str = "cuda") -> Any:
        return Kernel(name, source)

    compiler.AsyncCompile.triton = triton  # type: ignore[method-assign]
    state = Player(tiny(max_res=8, start_res=8, channels=3), "bf16", device="cuda").state
    inputs = without_unused_reals(state.context, example_inputs(state, 3, 4)[player])
    absent = [name for name, gradient in eager(state.context, inputs).by_name.items() if gradient is None]
    function = build_gradient_fn(StepMode.COMPILED, state.context, inputs, absent, "inductor", lambda f: (f(), f))
    function(inputs)
    launched.clear()
    reset()
    gradients = function(inputs).by_name
    weights = dict(getattr(state, "discriminator" if player == "d" else "generator").named_parameters())
    return {
        "triton": len(launched), "generated": metrics.generated_kernel_count, "bad": bad_counts(),
        "convolutions": counts().get("kernel: cudnn convolution", 0), "gradients": len(gradients),
        "shapes": all(g is None or g.shape == weights[name].shape for name, g in gradients.items()),
    }  # fmt: skip
