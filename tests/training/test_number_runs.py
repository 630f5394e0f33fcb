"""Runs on numbers and several label columns: what they learn from, what their models take, that they resume."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

import pggan
from pggan.cli import run as command_line
from pggan.config.model_metadata import ModelMetadata
from pggan.config.train import TrainConfig, from_json, to_json
from pggan.data.label_columns import STEPS
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.store.store import Store
from pggan.generation.traverse import TraverseOptions, traverse_grid
from pggan.generation.video import VideoOptions, interpolate
from pggan.losses.regularizers.acgan import Classification, cross_entropy, squared_error
from pggan.training.monitor.display import QuietDisplay
from pggan.training.run.directory import RunDirectory
from pggan.training.run.log_reader import read_log
from pggan.training.start import advice, begin, resume
from pggan.utils.errors import DataError, ModelError, UsageError
from tests.helpers.runs import StopAfter, same, small_run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("numbers") / "data"
    prepare("drawn:40", path, PrepareOptions(max_res=8, channels=4, numbers=("size", "shift")))
    return path


def configured(data, **options):
    return small_run(data, **{"labels": "size,hair-colour,shift", "mirror": False, **options})


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("numbers-run") / "run"
    begin(configured(data), out, QuietDisplay())
    return out


def test_the_configuration_knows_the_columns_and_those_of_before_stay(data):
    config = configured(data)
    assert config.label_layout == (0, 5, 0)
    assert config.label_size == 7
    assert from_json(TrainConfig, to_json(config)) == config
    plain = configured(data, labels="hair-colour")
    assert (plain.label_columns, plain.label_layout, plain.label_size) == ((), (5,), 5)
    old = {name: value for name, value in to_json(plain).items() if name != "label_columns"}
    assert from_json(TrainConfig, old) == plain
    with pytest.raises(DataError, match="no labels 'age'"):
        configured(data, labels="size,age")
    with pytest.raises(UsageError, match="one label column"):
        configured(data, loss="gan", loss_options=(("semi_supervised", True),))


def test_advice_is_given_where_mirroring_makes_a_number_wrong(data):
    said = "\n".join(advice(configured(data, mirror=True), 40))
    assert "--no-mirror" in said
    assert "--no-mirror" not in "\n".join(advice(configured(data), 40))
    assert "--no-mirror" not in "\n".join(advice(configured(data, mirror=True, labels="hair"), 40))


def test_terms_are_those_of_each_column_and_unknown_ones_count_nothing():
    random = torch.Generator().manual_seed(0)
    outputs = torch.randn(4, 7, generator=random).requires_grad_()
    labels = torch.tensor([[0.5, 1, 0, 0, 0, 0, -1.0]] * 3 + [[torch.nan, 0, 0, 0, 0, 0, 0.25]])
    objective = Classification(2.0, 3.0)
    objective.label_layout = (0, 5, 0)
    terms = objective.terms(outputs, labels, "class", "number")
    known = [((outputs[n, 0] - 0.5) ** 2 if n < 3 else 0) + (outputs[n, 6] - labels[n, 6]) ** 2 for n in range(4)]
    assert terms["number"].item() == pytest.approx(3 * float(sum(known).detach()) / 4, rel=1e-5)
    hair = cross_entropy(outputs[:, 1:6], labels[:, 1:6]).detach()
    assert terms["class"].item() == pytest.approx(2 * float(hair), rel=1e-5)
    (gradient,) = torch.autograd.grad(sum(terms.values()), outputs)
    assert gradient.isfinite().all()
    assert (gradient[3, :6] == 0).all()
    assert squared_error(torch.zeros(2, 1), torch.full((2, 1), torch.nan)) == 0


@pytest.mark.long
def test_a_run_logs_its_terms_and_its_model_knows_its_labels(trained):
    run = RunDirectory(trained)
    assert {"number_real", "number_fake", "g_number", "class_real", "g_class"} <= read_log(run.log)[-1].keys()
    about = ModelMetadata.read(run.models()[-1])
    names = [(column["name"], "bounds" in column) for column in about.labels["columns"]]
    assert names == [("size", True), ("hair-colour", False), ("shift", True)]
    model = pggan.load(trained)
    assert model.label_size == 7
    assert "size=0.6..1.25" in model.classes
    own = model.labels.of_seeds(range(300), model.latent_size, None)
    sizes = [model.labels.columns[0].value(row[0]) for row in own]
    with Store(json.loads((trained / "options.json").read_text())["config"]["data"]) as store:
        column = store.manifest.labels[-2]
        trained_sizes = [column.value(entry) for entry in store.labels[:, -2]]
    np.testing.assert_allclose(
        np.quantile(sizes, [0.1, 0.5, 0.9]), np.quantile(trained_sizes, [0.1, 0.5, 0.9]), atol=0.1
    )


@pytest.mark.long
def test_numbers_are_asked_for_by_value_and_refused_beyond_their_range(trained, tmp_path):
    model = pggan.load(trained)
    vectors = model.seed_labels([0, 1], "size=0.6,shift=0.2,hair-colour=blond")
    np.testing.assert_allclose(vectors[:, [0, 6]], [[-1, 1]] * 2, atol=1e-6)
    assert not np.array_equal(model.generate(0, "size=0.6"), model.generate(0, "size=1.25"))
    with pytest.raises(UsageError, match=r"size is a number from 0.6 to 1.25 in the training data, not 2"):
        model.generate(0, "size=2")
    with pytest.raises(UsageError, match="unknown label"):
        model.generate(0, "size=large")
    out = tmp_path / "out"
    command = ["generate", str(trained), "--seeds", "3", "--label", "size=0.7,hair-colour=red", "--out", str(out)]
    assert command_line(["generate", str(trained), "--seeds", "3", "--label", "size=0.7", "--out", str(out)]) == 0
    assert command_line(command) != 0  # no hair is red
    (path,) = out.glob("*.png")
    assert path.name == "seed0000000003-size-0_7.png"
    with Image.open(path, formats=["PNG"]) as image:
        about = json.loads(image.text["pggan"])
    assert about["class"]["size"] == {"value": 0.7}
    # a PNG makes its own picture again
    assert command_line(["generate", str(trained), "--latents", str(path), "--out", str(tmp_path / "again")]) == 0
    (again,) = (tmp_path / "again").glob("*.png")
    with Image.open(path, formats=["PNG"]) as first, Image.open(again, formats=["PNG"]) as second:
        assert np.abs(np.asarray(first).astype(int) - np.asarray(second)).max() <= 1


@pytest.mark.long
def test_labels_are_traversed_in_grids_and_videos(trained, tmp_path, capsys):
    model = pggan.load(trained)
    options = TraverseOptions(labels=("size", "hair-colour"), seeds=(0, 1), steps=4, label="shift=0")
    result = traverse_grid(model, tmp_path / "grid.png", options)
    assert (result["rows"], result["columns"], result["labels"]) == (4, 5, ["size", "hair-colour"])
    (size, _) = options.tracks(model)
    assert [float(text) for text in size.values] == pytest.approx([0.6, 0.8166667, 1.0333333, 1.25])
    labels = model.seed_labels([0] * 2, "shift=0")
    before = labels.copy()
    size.set_at(np.zeros((2, 0), np.float32), labels, 0.5)
    assert (labels[:, 0] == 1).all()
    assert (labels[:, 1:] == before[:, 1:]).all()
    for label in ("size,size", "size,size=0.1"):
        assert command_line(["traverse", str(trained), "--label", label, "--device", "cpu"]) == 2
        assert "the label size is there twice" in capsys.readouterr().err
    arguments = ["traverse", str(trained), "--label", "size,shift=0.1", "--seconds", "0.5", "--fps", "4", "--quiet"]
    for name in ("size.webp", "size.png"):
        out = tmp_path / name
        timing = arguments if name.endswith(".webp") else arguments[:4]
        assert command_line([*timing, "--out", str(out)]) == 0
        assert out.is_file()
    for label in ("size=1", "nose"):
        assert command_line([*arguments[:2], "--label", label, "--out", str(tmp_path / "no.png")]) != 0
    interpolate(model, tmp_path / "walk.webp", VideoOptions(0.5, 4, seeds=(0, 1), label="size=1"))
    assert (tmp_path / "walk.webp").is_file()


@pytest.mark.long
def test_evaluation_report_info_and_export_take_such_models(trained, data, tmp_path, capsys):
    command = ["evaluate", str(trained), "--data", str(data), "--metrics", "neighbours", "--n", "8", "--no-cache"]
    assert command_line(command) == 0
    assert command_line(["report", str(trained), "--out", str(tmp_path / "page.html")]) == 0
    assert "Numbers" in (tmp_path / "page.html").read_text(encoding="utf-8")
    capsys.readouterr()
    model = RunDirectory(trained).models()[-1]
    assert command_line(["info", str(model)]) == 0
    assert "0.6 to 1.25" in capsys.readouterr().out
    assert command_line(["export", str(trained), str(tmp_path / "model.pt2"), "--format", "torch"]) == 0


@pytest.mark.long
def test_a_run_on_numbers_resumes_to_the_same_numbers(data, trained, tmp_path):
    whole, cut = RunDirectory(trained), RunDirectory(tmp_path / "cut")
    begin(configured(data), cut.path, StopAfter(70))
    resume(cut, QuietDisplay())
    assert same(whole.states()[-1], cut.states()[-1])
    assert same(whole.models()[-1], cut.models()[-1])


@pytest.mark.long
def test_a_run_begins_with_a_model_of_the_same_kinds_of_labels_alone(data, trained, tmp_path, capsys):
    command = [
        "train",
        str(data),
        "--from",
        str(trained),
        "--total-kimg",
        "0.02",
        "--eval-every",
        "0",
        "--device",
        "cpu",
    ]
    command += ["--batch", "4", "--quiet"]
    for labels, status in (("size,hair-colour,shift", 0), ("hair-colour,size,shift", 1), ("size,shift", 1)):
        assert (command_line([*command, "--labels", labels, "--out", str(tmp_path / labels)]) != 0) == bool(status)
    said = capsys.readouterr().err
    assert "other numbers among its labels" in said


@pytest.mark.long
def test_versions_of_before_refuse_such_a_model_by_its_format(trained, monkeypatch):
    monkeypatch.setattr("pggan.config.model_metadata.FORMAT", 1)
    with pytest.raises(ModelError, match="has format 2, this pggan reads formats up to 1; update pggan"):
        ModelMetadata.read(RunDirectory(trained).models()[-1])


@pytest.mark.long
def test_the_explorer_takes_numbers(trained):
    from pggan.web.session.points import Space, classes_of, label_vector, parse_point

    model = pggan.load(trained)
    config = model.file.generator.config
    space = Space(model.latent_size, model.codes, model.labels, config.min_level, model.file.level)
    point = parse_point({"seed": 1, "classes": [STEPS, None, 0]}, space)
    assert classes_of(point, space)[0] == STEPS
    assert label_vector(point, space)[0] == 1
    assert label_vector(point, space)[6] == -1
    with pytest.raises(UsageError, match="the class of size"):
        parse_point({"seed": 1, "classes": [STEPS + 1, None, 0]}, space)
