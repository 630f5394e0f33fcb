"""The lab's comparisons run on little, and what the theory is firm about shows even there."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.waiting import PATIENCE

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

pytest.importorskip("matplotlib")

from experiments import (  # noqa: E402
    architectures,
    frame,
    gradients,
    modes,
    recipes,
    semi_supervised,
    shapes,
    supports,
    trial,
)
from experiments.frame import Experiment, Settings  # noqa: E402
from experiments.pictures import UNKNOWN, load  # noqa: E402
from experiments.points import LATENT, PointDiscriminator, PointGenerator  # noqa: E402

from pggan.config.losses import OBJECTIVES  # noqa: E402
from pggan.data.prepare.prepare import PrepareOptions, prepare  # noqa: E402
from pggan.data.sources import open_source  # noqa: E402
from pggan.utils.errors import UsageError  # noqa: E402

QUICK = Settings(seeds=(0,), quick=True)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def conducted(name, tmp_path, **settings):
    """What is written of an experiment's quick form."""
    lines = []
    Experiment(name, "a title").conduct(Settings(**{"seeds": (0,), "quick": True, **settings}), tmp_path, lines.append)
    found = json.loads((tmp_path / f"{name}.json").read_text())
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert found["experiment"] == name
    assert found["claims"]
    assert all(set(claim) == {"expected", "seen", "agrees"} for claim in found["claims"])
    assert len([line for line in lines if "as expected" in line]) == len(found["claims"])
    return found


@pytest.mark.long
def test_gradients(tmp_path):
    rows = {row["curve"]: row for row in conducted("gradients", tmp_path)["rows"]}
    assert set(rows) == set(gradients.CURVES)
    vanishing, growing = rows["saturating"], rows["non-saturating"]
    assert vanishing["d"] == growing["d"]  # the two share D's loss
    assert vanishing["norm"][-1] < vanishing["norm"][0] / 3
    assert growing["norm"][-1] > growing["norm"][0]
    assert rows["saturating, noise"]["d"][-1] > vanishing["d"][-1]
    assert 0.2 < rows["wgan-gp"]["norm"][-1] / rows["wgan-gp"]["norm"][0] < 5


@pytest.mark.long
def test_supports(tmp_path, monkeypatch):
    monkeypatch.setattr(supports, "DISTANCES", (1.0, 0.5, 0.0))
    far, near, together = conducted("supports", tmp_path)["rows"]
    for row in (far, near):
        assert row["jensen_shannon"] == pytest.approx(math.log(2), rel=0.05)
        assert row["critic"] == pytest.approx(row["distance"], abs=0.15)
    assert together["jensen_shannon"] == pytest.approx(0, abs=0.05)
    assert together["critic"] == pytest.approx(0, abs=0.1)


@pytest.mark.long
def test_weights(tmp_path):
    clipped, penalised = conducted("weights", tmp_path)["rows"]
    assert clipped["began"] < 0.02 < 0.25 < clipped["at_bound"]
    assert penalised["at_bound"] < 0.02
    for row in (clipped, penalised):
        assert sum(row["histogram"]) == pytest.approx(1, abs=1e-4)


@pytest.mark.long
def test_modes(tmp_path, monkeypatch):
    every = modes.combinations()
    assert {loss for loss, _ in every} == set(OBJECTIVES.names())
    assert {(loss, each) for loss in modes.TRIED for each in modes.TECHNIQUES} <= set(every)
    monkeypatch.setattr(modes, "QUICK", modes.Sizes(width=8, batch=16, iterations=4, measures=2))
    rows = conducted("modes", tmp_path, seeds=(0, 1))["rows"]
    assert [(row["loss"], row["diversity"]) for row in rows[::2]] == every
    assert all(row["history"]["iterations"] == [2, 4] and len(row["points"]) == 300 for row in rows)
    assert all(np.isfinite(row["points"]).all() for row in rows)


def test_modes_are_counted():
    centres = modes.centres()
    assert centres.norm(dim=1).tolist() == pytest.approx([1.0] * 8)
    assert modes.judge(centres.repeat(10, 1)) == (8, 1.0)
    three = centres[torch.tensor([0, 0, 3, 5])].repeat(10, 1)
    assert modes.judge(three) == (3, 1.0)
    # one sample in 40 is less than a quarter of an eighth: that mode is not found
    scarce = torch.cat([centres[:1].repeat(39, 1), centres[1:2]])
    assert modes.judge(scarce) == (1, 1.0)
    assert modes.judge(torch.zeros(10, 2)) == (0, 0.0)
    drawn = modes.ring(4000, torch.Generator().manual_seed(0))[0].flatten(1)
    assert modes.judge(drawn).modes == 8
    assert modes.judge(drawn).quality == pytest.approx(1 - math.exp(-4.5), abs=0.01)


@pytest.mark.long
def test_semi_supervised(tmp_path, monkeypatch):
    monkeypatch.setattr(semi_supervised, "QUICK", semi_supervised.Sizes(60, 40, 2, 16, 16, 6, 3))
    rows = conducted("semi-supervised", tmp_path)["rows"]
    assert [row["technique"] for row in rows] == list(semi_supervised.TECHNIQUES)
    assert all(row["history"]["iterations"] == [2, 4, 6] for row in rows)
    assert all(0 <= row["accuracy"] <= 1 for row in rows)


@pytest.mark.long
def test_labels_are_learnt():
    """From all labels, D's classes get far better than chance."""
    sizes = semi_supervised.Sizes(pictures=300, judged=100, labels=30, width=32, batch=32, iterations=250, measures=2)
    pictures = load(None, semi_supervised.SIDE, 400)
    assert semi_supervised.train("labels alone", pictures, 0, sizes)["history"]["accuracy"][-1] > 0.25


@pytest.mark.long
def test_architectures(tmp_path, monkeypatch):
    monkeypatch.setattr(architectures, "QUICK", architectures.Sizes(40, 8, 8, 1e-3, 4, 2, 16))
    folder = tmp_path / "idx"
    folder.mkdir()
    shapes.make(folder, 60, 5)
    found = conducted("architectures", tmp_path, data=str(folder))
    assert found["about"]["of"] == "idx"
    assert [row["preset"] for row in found["rows"]] == list(architectures.PRESETS)
    for row in found["rows"]:
        assert len(row["swd"]) == 2
        assert row["swd"][-1] > found["about"]["floor"] > 0
        assert np.array(row["samples"]).shape == (128, 128)


def test_drawn_shapes_are_idx_files(tmp_path):
    shapes.make(tmp_path, 40, 3)
    source = open_source(str(tmp_path))
    assert len(source) == 40
    assert source.channels == 1
    pictures = load(str(tmp_path), 16, 40)
    assert pictures.images.shape == (40, 1, 16, 16)
    assert pictures.images.min() == 0
    assert np.bincount(pictures.labels).tolist() == [4] * 10
    again, other = shapes.draw(40, 3), shapes.draw(40, 4)
    assert (again[0] == shapes.draw(40, 3)[0]).all()
    assert (again[0] != other[0]).any()
    # shapes of one class look alike more than those of others do
    images, labels = shapes.draw(100, 0)
    flat = images.reshape(100, -1) / 255
    apart = ((flat[:, None] - flat[None]) ** 2).sum(-1)
    same = labels[:, None] == labels[None]
    assert apart[same & (apart > 0)].mean() < apart[~same].mean()


def test_pictures_without_labels_are_refused(tmp_path):
    images, _ = shapes.draw(8, 0)
    shapes.write_idx(tmp_path / "train-images-idx3-ubyte", images)
    with pytest.raises(UsageError, match="labels"):
        load(str(tmp_path), 16, 8)


def test_labels_that_are_not_told(tmp_path):
    pictures = load(None, 16, 20)
    _, labels = pictures.data(np.full(20, UNKNOWN))(6, torch.Generator().manual_seed(0))
    assert labels.tolist() == [[0.0] * 10] * 6


@pytest.mark.parametrize("loss", OBJECTIVES.names())
def test_a_trial_takes_every_loss(loss):
    torch.manual_seed(0)
    d = PointDiscriminator(8, decodes="reconstruction" in OBJECTIVES[loss].needs)
    one = trial.Trial(PointGenerator(8), d, loss, modes.ring, latent_size=LATENT, batch=8)
    before = [p.clone() for p in [*one.generator.parameters(), *d.parameters()]]
    found = one.iterate()
    assert all(torch.isfinite(value) for value in found.values())
    after = [*one.generator.parameters(), *d.parameters()]
    assert sum(bool((a != b).any()) for a, b in zip(before, after)) >= len(after) - 2
    assert one.nimg == 8 * one.n_critic


def run_of(recipe, seed, *points):
    """What the comparison of recipes knows of a run: (kimg, processor seconds, SWD) of its snapshots."""
    curve = [{"kimg": k, "processor_seconds": s, "swd": swd, "msssim": 0.3} for k, s, swd in points]
    return {"recipe": recipe, "seed": seed, "curve": curve, "gap": None, "fd": 50.0 + seed}


def test_recipes_are_compared_at_the_shortest_run_s_time():
    runs = [
        run_of("published", 0, (1, 10, 40), (2, 20, 30)), run_of("published", 1, (1, 10, 44), (2, 20, 32)),
        run_of("bilinear", 0, (1, 15, 36), (2, 30, 24)), run_of("bilinear+mapping", 0, (1, 10, 40), (2, 20, 25)),
    ]  # fmt: skip
    lines = recipes.table(runs).splitlines()
    assert "at 20 s" in lines[0]
    assert lines[2].startswith("| published | 2 | 20 (20 to 20) | 31 (30 to 32) | 31 (30 to 32) | 50.5 (50 to 51) |")
    assert lines[3].startswith("| bilinear | 1 | 30 | 24 | 32 | 50 |")  # 36 - 12 * 5 / 15
    assert lines[4].startswith("| bilinear+mapping | 1 | 20 | 25 | 25 | 50 |")
    assert recipes.options_of("bilinear+mapping") == ("--resample", "bilinear", "--mapping", "4")
    assert recipes.at_equal_time(runs[2]["curve"], 5) == 36  # before the first snapshot: as that


@pytest.mark.long
def test_recipes_train_measure_and_go_on(tmp_path):
    store, out = str(tmp_path / "data"), tmp_path / "lab"
    prepare("drawn:100", store, PrepareOptions(max_res=16))
    plan = recipes.Plan(store, store, out, max_res=16, scale=0.01, pictures=32, embedding=None)
    first = recipes.conduct(plan, ["he-gains"], [0], lambda line: None)
    models = sorted((out / "he-gains-0" / "models").iterdir())
    assert json.loads((out / "he-gains-0" / "options.json").read_text())["config"]["gains"] == "he"
    assert [point["kimg"] for point in first[0]["curve"]] == sorted(point["kimg"] for point in first[0]["curve"])
    assert 0 < first[0]["curve"][-1]["processor_seconds"] < 300
    both = recipes.conduct(plan, ["published"], [0], lambda line: None)  # another call: the table has both
    assert {row["recipe"] for row in both} == {"published", "he-gains"}
    assert sorted((out / "he-gains-0" / "models").iterdir()) == models
    recipes.write(plan, both)
    assert "| he-gains |" in (out / "recipes.md").read_text()
    assert (out / "recipes.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="unknown recipe wings; known: published, bilinear"):
        recipes.conduct(plan, ["published+wings"], [0], print)


def test_table():
    claim = {"expected": "a", "seen": "b", "agrees": False}
    table = frame.markdown([{"experiment": "e", "claims": [claim, {**claim, "agrees": True}]}])
    assert table.splitlines()[2:] == ["| e | a | b | **no** |", "| e | a | b | yes |"]


def lab(*arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tools" / "lab.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE, check=False)


@pytest.mark.long
def test_command(tmp_path):
    done = lab("--help")
    assert done.returncode == 0, done.stderr
    for name in ("gradients", "supports", "weights", "modes", "semi-supervised", "architectures", "all"):
        assert name in done.stdout
    refused = lab("modes", "--seeds", "0,0", "--out", str(tmp_path))
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: --seeds")
    assert "Traceback" not in refused.stderr


def test_numbers_are_measured_on_drawn_heads(tmp_path):
    import lab_numbers

    from pggan.data.prepare.prepare import PrepareOptions, prepare
    from pggan.data.store.store import Store

    options = PrepareOptions(max_res=16, channels=4, numbers=lab_numbers.NUMBERS)
    prepare("drawn:40", tmp_path / "data", options)
    with Store(tmp_path / "data") as store:
        images = store.read(16, range(40)).transpose(0, 2, 3, 1)
        figures = lab_numbers.correlations(store.labels[:, -2:], images)
        assert figures["size"] > 0.8
        assert figures["shift"] > 0.95
        mixed = lab_numbers.correlations(np.roll(store.labels[:, -2:], 7, axis=0), images)
        assert abs(mixed["shift"]) < 0.5
