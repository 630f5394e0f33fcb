"""What a plan says of a card: the hours that its peak rates allow at least, and the recipe that fills a large one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pggan.cli import cli, run
from pggan.config.presets import configure
from pggan.config.train import PerResolution, TrainConfig
from pggan.networks.flops import floor_seconds
from pggan.training.monitor.plan_table import bound, card_plan, describe_bound, large_card, plan
from pggan.training.start import advice_on_cpu

ROOT = Path(__file__).parents[2]
H200 = 989.0, 4800.0
GIB = 2**30


def test_the_bound_is_the_floor_of_every_image():
    config = configure("celebahq-v2-1gpu", {"precision": "bf16"})
    found = bound(config, *H200)
    of_1024 = floor_seconds(*config.networks(), 10, 989e12, 4.8e12, 2)
    assert found["by_resolution"]["1024"] == pytest.approx(3_000_000 * of_1024 / 3600)
    assert found["hours_at_least"] == pytest.approx(sum(found["by_resolution"].values()))
    assert found["measured"] is False
    assert describe_bound(found).startswith("at least 2.14 hours on a card of 989 TFLOP/s and 4,800 GB/s")
    twice = bound(config, 2 * H200[0], 2 * H200[1])
    assert twice["hours_at_least"] == pytest.approx(found["hours_at_least"] / 2)
    full = bound(configure("celebahq-v2-1gpu", {"precision": "fp32"}), 1e9, H200[1])
    half = bound(config, 1e9, H200[1])
    assert full["hours_at_least"] == pytest.approx(2 * half["hours_at_least"])  # bound by bytes


def test_losses_without_a_penalty_and_with_more_steps_of_d_take_less_an_image():
    hours = [bound(configure(None, {"loss": loss}), *H200)["hours_at_least"] for loss in ("wgan-gp", "gan", "wgan")]
    assert hours[0] > 1.5 * hours[1]
    assert hours[1] > hours[2]  # five steps of D share one of G
    rows = [plan(configure(None, {"loss": loss}))["phases"][-1] for loss in ("wgan-gp", "wgan")]
    assert rows[1]["gflop_per_image"] < rows[0]["gflop_per_image"]
    assert rows[1]["iterations"] == rows[0]["iterations"] / 5


def test_the_recipe_for_eight_gpus_takes_fewer_iterations_on_a_large_one():
    config = configure("celebahq-v2-1gpu", {"precision": "bf16"})
    found = large_card(config, 80 * GIB)
    eight = configure("celebahq-v2-8gpu", {}).schedule
    assert found["iterations"] == sum(phase.d_steps for phase in eight.phases)
    assert found["instead_of"] == sum(phase.d_steps for phase in config.schedule.phases)
    assert found["batches"] == [4, 32]
    assert found["rates"] == [0.0015, eight.phases[-1].g_lr]
    assert 30 * GIB < found["bytes"] < 45 * GIB
    assert [large_card(config, memory)["fits"] for memory in (80 * GIB, 24 * GIB, None)] == [True, False, None]


@pytest.mark.parametrize(
    ("preset", "options"),
    [
        ("celebahq-v2-8gpu", {}), ("demo", {}), ("celebahq-v2-1gpu", {"batch": PerResolution(8)}),
        ("celebahq-v2-1gpu", {"max_res": 32}), ("celebahq-v2-1gpu", {"loss": "wgan"}),
    ],
)  # fmt: skip
def test_other_recipes_have_no_larger_one(preset, options):
    assert large_card(configure(preset, options), None) is None


def test_a_loss_without_a_penalty_takes_less_arithmetic():
    default, plain = (plan(TrainConfig(loss=loss))["phases"][-1]["gflop_per_image"] for loss in ("wgan-gp", "hinge"))
    assert plain == pytest.approx(default * 12 / 18, rel=0.01)


def test_a_plan_for_several_gpus_refuses_what_the_run_would(capsys):
    options = ["train", "--max-res", "8", "--batch", "4", "--device", "cpu", "--gpus", "3"]
    assert run([*options, "--dry-run"]) == 2
    assert "3 processes cannot share a batch of 4" in capsys.readouterr().err
    assert run([*options, "--write-config"]) == 0


def test_a_cpu_is_told_that_a_recipe_for_gpus_takes_long():
    (line,) = advice_on_cpu(configure(None, {}), 2)
    assert "--preset demo" in line
    days = float(re.search(r"some ([\d,]+) days", line)[1].replace(",", ""))
    (faster,) = advice_on_cpu(configure(None, {}), 64)
    assert float(re.search(r"some ([\d,]+) days", faster)[1].replace(",", "")) == pytest.approx(days / 32, rel=0.05)
    assert not advice_on_cpu(configure("demo", {}), 2)
    assert not advice_on_cpu(configure("faces", {}), 2)


def test_plans_without_a_card_say_nothing_of_one():
    config = configure("celebahq-v2-1gpu", {"device": "cpu"})
    assert card_plan(config, None) == ({}, [])
    values, lines = card_plan(config, H200)
    assert set(values) == {"bound", "large_card"}
    assert "not a measurement" in lines[0]
    assert "--preset celebahq-v2-8gpu" in lines[1]
    assert "which" not in lines[1].partition("by estimate")[2]  # its memory is not known


def test_the_command_prints_the_bound(tmp_path):
    card = ["--peak-tflops", "989", "--peak-bandwidth", "4800"]
    said = CliRunner().invoke(cli, ["train", "--dry-run", "--max-res", "256", "--device", "cpu", *card])
    assert "hours on a card of 989 TFLOP/s and 4,800 GB/s" in said.output
    asked = CliRunner().invoke(cli, ["train", "--dry-run", "--max-res", "8", "--device", "cpu", *card, "--json"])
    assert json.loads(asked.output)["bound"]["hours_at_least"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dry-run", "--peak-tflops", "1"], "give both"),
        (["--peak-tflops", "1", "--peak-bandwidth", "1"], "add --dry-run"),
    ],
)
def test_half_a_card_is_refused(options, message):
    code = [sys.executable, "-m", "pggan", "train", *options]
    done = subprocess.run(code, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, message in done.stderr) == (2, True)
