"""Power-function averages and what is built of them: direct sums and integrals in float64 as the second way."""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import pggan
from pggan.cli import run as command
from pggan.cli.ema import _search
from pggan.cli.options import Output
from pggan.generation.model import Model
from pggan.networks import ema
from pggan.networks.model_file import ModelFile, load_model, save_model
from pggan.training.engine.memory_estimate import fixed_bytes
from pggan.training.engine.state import TrainState
from pggan.training.monitor.display import QuietDisplay
from pggan.training.run.directory import RunDirectory
from pggan.training.run.post_hoc import build_average, inner_products, solve_weights, stored_averages
from pggan.training.run.warm_start import load_pretrained
from pggan.training.start import begin, resume
from pggan.utils.errors import TrainingError, UsageError
from tests.helpers.lmdb_contents import write
from tests.helpers.model_files import model_file
from tests.helpers.runs import StopAfter, same
from tests.helpers.train_steps import Player, tiny

GRID = np.linspace(0, 1, 400_001)


def integral(values):
    return float(np.trapezoid(values, GRID)) if hasattr(np, "trapezoid") else float(np.trapz(values, GRID))


def profile(end, exponent):
    return np.where(end >= GRID, (exponent + 1) * GRID**exponent / end ** (exponent + 1), 0.0)


@pytest.mark.parametrize("length", [0.01, 0.05, 0.1, 0.25])
def test_a_length_is_the_standard_deviation_of_the_profile(length):
    p = profile(1.0, ema.power_exponent(length))
    mean = integral(p * GRID)
    assert integral(p) == pytest.approx(1, abs=1e-4)
    assert integral(p * (GRID - mean) ** 2) ** 0.5 == pytest.approx(length, rel=1e-3)


def test_the_update_is_the_weighted_sum_of_its_course():
    """Weights of the moments, from the profile's own integral: (t_i / T)^(x + 1) - (t_(i - 1) / T)^(x + 1)."""
    course = np.random.default_rng(0).normal(size=60)
    power, batch = ema.power_exponent(0.1) + 1, 8
    average = 123.0  # whatever it was before the first step
    for number, value in enumerate(course, 1):
        average = value + ema.power_decay(0.1, number * batch, batch) * (average - value)
    ends = (np.arange(len(course) + 1) / len(course)) ** power
    assert average == pytest.approx(float(np.diff(ends) @ course), rel=1e-12)


def test_inner_products_are_integrals():
    ends, exponents = [0.3, 0.7, 1.0], [6.9, 16.0, 3.0]
    products = inner_products(ends, exponents)
    for i in range(3):
        for j in range(3):
            expected = integral(profile(ends[i], exponents[i]) * profile(ends[j], exponents[j]))
            assert products[i, j] == pytest.approx(expected, rel=1e-3)


def test_a_stored_average_is_its_own_sum():
    weights, error = solve_weights([400, 400, 800, 800], [0.05, 0.1, 0.05, 0.1], 0.1)
    assert weights == pytest.approx([0, 0, 0, 1], abs=1e-9)
    assert error < 1e-6


@pytest.mark.parametrize("length", [0.03, 0.07, 0.15])
def test_any_length_is_near_the_average_kept_during_the_training(length):
    """A number on a walk, its two averages stored 16 times: the sum against the average of that length itself."""
    course = np.random.default_rng(1).normal(size=4096).cumsum()
    kept = dict.fromkeys((*ema.POWER_LENGTHS, length), 0.0)
    stored = []
    for number, value in enumerate(course, 1):
        for each, average in kept.items():
            kept[each] = value + ema.power_decay(each, number, 1) * (average - value)
        if number % 256 == 0:
            stored += [(number, each, kept[each]) for each in ema.POWER_LENGTHS]
    ends, lengths, values = zip(*stored)
    weights, error = solve_weights(ends, lengths, length)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert error < 0.1
    apart = abs(weights @ np.array(values) - kept[length])
    nearest = min(abs(kept[each] - kept[length]) for each in ema.POWER_LENGTHS)
    assert apart < 0.1 * nearest
    few, more = solve_weights(ends[-2:], lengths[-2:], length)
    assert few.sum() == pytest.approx(1, abs=1e-12)  # what stays the same keeps its size, however few they are
    assert more > error


def test_the_weights_are_the_nearest_of_those_whose_sum_is_1():
    ends, lengths = [400, 400, 800, 800], [0.05, 0.1, 0.05, 0.1]
    exponents = [ema.power_exponent(each) for each in (*lengths, 0.01)]
    gram = inner_products([0.5, 0.5, 1, 1, 1], exponents)
    found, error = solve_weights(ends, lengths, 0.01)

    def off(weights):
        sums = np.append(weights, -1)
        return float(np.sqrt(sums @ gram @ sums / gram[-1, -1]))

    assert error == pytest.approx(off(found), rel=1e-6)
    for step in np.random.default_rng(0).normal(size=(50, 4)) * 0.01:
        assert off(found + step - step.mean()) >= error


def test_they_start_anew_with_each_resolution():
    player = Player(tiny(power_averages=True))
    state, levels, seen = player.state, [], []
    while state.nimg < state.schedule.total:
        player.play(1)
        levels.append(state.progress.averaged_level)
        seen.append(state.progress.averaged)
        equal = [
            torch.equal(own, live)
            for average in state.power_averages.values()
            for own, live in zip(average.parameters(), state.generator.parameters())
        ]
        assert all(equal) == (len(levels) == 1 or levels[-1] != levels[-2])
    assert sorted(set(levels)) == [2, 3, 4]
    assert all(b == a + 4 if x == y else b == 4 for (x, y), (a, b) in zip(pairwise(levels), pairwise(seen)))


def test_an_average_is_that_of_the_generators_it_saw():
    player = Player(tiny(power_averages=True, max_res=4))
    state, course = player.state, []
    for _ in range(6):
        player.play(1)
        course.append({name: p.detach().double().clone() for name, p in state.generator.named_parameters()})
    for length, average in state.power_averages.items():
        shares = np.diff((np.arange(7) / 6) ** (ema.power_exponent(length) + 1))
        for name, own in average.named_parameters():
            expected = sum(float(share) * weights[name] for share, weights in zip(shares, course))
            assert torch.allclose(own.double(), expected, atol=1e-5)


def test_resume_is_bit_identical_and_off_keeps_nothing(tmp_path):
    config = tiny(power_averages=True)
    whole, first, second = Player(config), Player(config), Player(config)
    whole.play(8), first.play(5)
    first.state.save(tmp_path / "state.safetensors")
    second.state.load(tmp_path / "state.safetensors")
    second.play(3)
    expected, resumed = whole.state.tensors(), second.state.tensors()
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    assert whole.state.progress.averaged == second.state.progress.averaged
    plain = Player(tiny())
    plain.play(8)
    assert expected.keys() - plain.state.tensors().keys() == {n for n in expected if n.startswith("power_average_")}
    assert all(torch.equal(expected[name], value) for name, value in plain.state.tensors().items())
    assert fixed_bytes(config, "cpu") > fixed_bytes(tiny(), "cpu")


@pytest.fixture
def trained(config, tmp_path):
    """A whole run with averages, 4x4 to 16x16."""
    run = RunDirectory(tmp_path / "run")
    return begin(dataclasses.replace(config, power_averages=True), run.path, QuietDisplay()).run


def test_the_command_builds_models_of_what_snapshots_keep(trained, data, capsys, monkeypatch):
    stored = stored_averages(trained)
    assert {(s.level, s.length) for s in stored} == {(4, 0.05), (4, 0.1)}
    assert [s.nimg for s in stored] == sorted(s.nimg for s in stored)
    assert len(stored) == 2 * sum(load_model(path).level == 4 for path in trained.models())
    assert command(["ema", str(trained.path), "--length", "0.07", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["length"] == 0.07
    assert pggan.load(values["file"], "cpu").generate([0]).shape == (1, 16, 16, 3)
    # second way: the weighted sum of the files by hand
    weights, _ = solve_weights([s.images for s in stored], [s.length for s in stored], 0.07)
    models = [dict(load_model(s.path).generator.named_parameters()) for s in stored]
    for name, own in load_model(Path(values["file"])).generator.named_parameters():
        expected = sum(float(w) * model[name].double() for w, model in zip(weights, models))
        assert torch.allclose(own.double(), expected, atol=1e-6), name
    kept = build_average(trained, 0.05).model.generator
    like = load_model(trained.average(0.05, stored[-1].nimg)).generator
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(kept.parameters(), like.parameters()))

    arguments = ["ema", str(trained.path), "--best", "swd", "--lengths", "0.03,0.1", "--n", "64"]
    assert command([*arguments, "--out", str(trained.path / "best.safetensors"), "--json"]) == 0
    tried = json.loads(capsys.readouterr().out)
    lowest = min(tried["tried"], key=lambda row: row["score"])
    assert tried["length"] == lowest["length"]
    assert {row["length"] for row in tried["tried"]} == {0.03, 0.1}

    measured = []
    monkeypatch.setattr("pggan.cli.ema._search", lambda *given: measured.append(given))
    (trained.path / "models" / f"ema-0.1-{stored[-1].nimg:09d}.safetensors").touch()
    for lengths, reason in (("0.03,0.5", "0.5 is no length"), ("0.03,0.1", "exists already")):
        assert command(["ema", str(trained.path), "--best", "swd", "--lengths", lengths]) == 2
        assert reason in capsys.readouterr().err
    assert not measured  # found out before the search


def search_for(model, score, monkeypatch, tmp_path):
    """Searches with a model for every length, which is measured as `score`; returns the images that were measured."""
    measured = []

    def measure(generate, *others, **options):
        measured.append(generate([3, 4]))
        return {"swd": score}

    monkeypatch.setattr("pggan.metrics.evaluate.evaluate_model", measure)
    monkeypatch.setattr("pggan.training.run.post_hoc.stored_averages", lambda *given: [SimpleNamespace(level=4)])
    monkeypatch.setattr("pggan.training.run.post_hoc.search", lambda run, lengths, score, *given: (score(model), []))
    data = write(tmp_path / "four", [0, 1], dict.fromkeys((4, 8, 16), "raw"))
    _search(RunDirectory(tmp_path), "swd", (0.1,), str(data), 8, "cpu", None, Output(as_json=True))
    return measured[0]


def test_the_search_measures_transparent_pictures_premultiplied_as_the_store_has_them(monkeypatch, tmp_path):
    model = model_file(channels=4, info={"post_hoc": {"length": 0.1}})
    measured, images = search_for(model, 1.0, monkeypatch, tmp_path), Model(model, torch.device("cpu"))
    np.testing.assert_array_equal(measured, images.seed_images([3, 4]))
    assert not np.array_equal(measured, images.generate([3, 4]))  # which files have


def test_the_mean_of_chosen_snapshots(trained, capsys):
    chosen = trained.models()[-2:]
    kimg = ",".join(str(int(path.stem.rpartition("-")[2]) / 1000) for path in chosen)
    assert command(["ema", str(trained.path), "--snapshots", kimg, "--json"]) == 0
    mean = load_model(Path(json.loads(capsys.readouterr().out)["file"]))
    models = [dict(load_model(path).generator.named_parameters()) for path in chosen]
    for name, own in mean.generator.named_parameters():
        assert torch.allclose(own, (models[0][name] + models[1][name]) / 2, atol=1e-6), name


def test_a_metric_without_a_value_chooses_no_length(monkeypatch, tmp_path):
    with pytest.raises(UsageError, match="--best swd has no value"):
        search_for(model_file(info={"post_hoc": {"length": 0.1}}), math.nan, monkeypatch, tmp_path)


def test_a_run_that_stops_keeps_the_same_averages(trained, config, tmp_path):
    cut = RunDirectory(tmp_path / "cut")
    begin(dataclasses.replace(config, power_averages=True), cut.path, StopAfter(100))
    resume(cut, QuietDisplay())
    paths = sorted(path.name for path in trained.averages.iterdir())
    assert paths == sorted(path.name for path in cut.averages.iterdir())
    assert all(same(trained.averages / name, cut.averages / name) for name in paths)
    trained.give_up(40)
    assert {int(path.stem.rpartition("-")[2]) for path in trained.averages.iterdir()} <= set(range(41))


def test_after_a_warm_start_the_averages_have_the_models_reference_batch(tmp_path):
    """That of virtual batch norm, which is drawn with the weights and passes through the layers with every picture."""
    fields = {"g_norm": "virtual-batch", "power_averages": True}
    other = TrainState(tiny(**fields, seed=1), torch.device("cpu"), "fp32")
    save_model(tmp_path / "model.safetensors", ModelFile(other.average, other.discriminator, 2, 1.0))
    player = Player(tiny(**fields))
    load_pretrained(player.state, tmp_path / "model.safetensors")
    player.iterate()
    reference = other.generator.reference
    assert reference is not None
    assert all(torch.equal(average.reference, reference) for average in player.state.power_averages.values())


def test_refusals(config, tmp_path, capsys):
    run = begin(dataclasses.replace(config, total_kimg=0.024), tmp_path / "run", QuietDisplay()).run
    assert not run.averages.exists()
    with pytest.raises(TrainingError, match="train with --power-averages"):
        build_average(run, 0.05)
    with pytest.raises(UsageError, match=r"0\.5 is no length of an average; give 0\.001 to 0\.28"):
        build_average(run, 0.5)
    for arguments, reason in (
        ([], "give one of --length X"),
        (["--length", "0.1", "--best", "swd"], "give one of"),
        (["--snapshots", "0.024"], "name two or more"),
        (["--snapshots", "1,2"], "has no model of 1 kimg; there are"),
        (["--snapshots", "nan,2"], "nan kimg is no number of images"),
        (["--length", "0.1", "--data", "x"], "are about --best"),
        (["--length", "0.1", "--n", "64"], "are about --best"),
    ):
        assert command(["ema", str(run.path), *arguments]) != 0
        error = capsys.readouterr().err
        assert reason in error
        assert error.count("\n") == 1
    with pytest.raises(UsageError, match="--power-averages: a run that has begun"):
        resume(run, QuietDisplay(), changes={"power_averages": True})
