"""Conditional runs on data with a class without pictures: that class is never drawn, shown or offered."""

import numpy as np

from pggan.cli import run
from pggan.generation.images import read_metadata
from pggan.generation.labels import LabelSpace
from pggan.networks.model_file import load_model
from pggan.utils.paths import numbered
from tests.helpers.image_files import write_folder


def test_a_run_draws_only_classes_that_have_pictures(tmp_path, capsys):
    write_folder(tmp_path / "in", 8, 8)
    names = sorted(path.name for path in (tmp_path / "in").iterdir())
    rows = ", ".join(f'["{name}", {1 + (number > 1)}]' for number, name in enumerate(names))
    (tmp_path / "in" / "dataset.json").write_text(f'{{"labels": [{rows}]}}')
    assert run(["prepare-data", str(tmp_path / "in"), str(tmp_path / "data"), "--max-res", "8", "--quiet"]) == 0
    assert "1 classes of class have no pictures and are never drawn: 0" in capsys.readouterr().out
    options = ["--max-res", "8", "--stable-kimg", "0.05", "--fade-kimg", "0.02", "--preset", "demo", "--quiet"]
    trained = ["train", str(tmp_path / "data"), *options, "--labels", "class", "--out", str(tmp_path / "run")]
    assert run(trained) == 0
    file = load_model(numbered(tmp_path / "run" / "models", "model")[-1])
    assert file.labels["counts"] == [0, 2, 6]
    space = LabelSpace.of(file.labels, 3)
    assert set(space.of_cells(5, None)) == {(1,), (2,)}
    assert run(["generate", str(tmp_path / "run"), "--n", "12", "--out", str(tmp_path / "out"), "--quiet"]) == 0
    classes = [read_metadata(path)["class"]["number"] for path in sorted((tmp_path / "out").glob("seed*"))]
    assert set(classes) <= {1, 2}
    assert np.sum(np.array(classes) == 2) > 6
    capsys.readouterr()
    assert run(["generate", str(tmp_path / "run"), "--n", "1", "--label", "0", "--out", str(tmp_path / "no")]) == 2
    assert "trained without pictures of class=0; choose one of: 1, 2" in capsys.readouterr().err
