"""`pggan info`: a model, a run and a data store in sentences and aligned rows; the same as JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pggan.cli import run
from pggan.cli.info import describe
from pggan.data.label_columns import LabelColumn
from tests.helpers.lmdb_contents import write

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run_0_1_0"
SUBJECTS = {
    "run": (FIXTURE / "run", "trained 0.248 of 0.48 kimg in 0:01, 8x8, alpha 0.55"),
    "data": (FIXTURE / "data", "48 RGB pictures, 4x4 to 8x8"),
    "model": (FIXTURE / "run" / "models" / "model-000000168.safetensors", "RGB pictures of 4x4"),
}


@pytest.mark.parametrize("kind", SUBJECTS)
def test_the_first_line_is_a_sentence_and_the_others_are_rows_without_braces(kind, capsys):
    path, sentence = SUBJECTS[kind]
    assert run(["info", str(path)]) == 0
    first, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{kind} {path}: {sentence}")
    assert len(rows) >= 8
    assert not [row for row in rows if re.search(r"[{}\[\]]|None|True|False|'", row)]


def test_values_of_a_level_are_aligned(capsys):
    assert run(["info", str(SUBJECTS["run"][0])]) == 0
    lines = capsys.readouterr().out.splitlines()
    outer = [line for line in lines[1:-1] if not line.startswith(" ") and line != "made with"]
    inner = lines[lines.index("made with") + 1 : -1]
    for rows, start in ((outer, 14), (inner, 13)):
        assert len(rows) > 5
        for row in rows:
            assert row[start - 1] == " " != row[start], row
    assert "  precision  fp32" in inner
    assert "  modes      4x4 eager, 8x8 eager" in inner
    assert lines[-1] == f"resume it with: pggan train --resume {SUBJECTS['run'][0]}"


@pytest.mark.parametrize("kind", SUBJECTS)
def test_json_holds_every_value_as_it_is_described(kind, capsys):
    path = str(SUBJECTS[kind][0])
    assert run(["info", path, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values == json.loads(json.dumps(describe(path)))
    assert next(iter(values)) == kind
    figures = {"run": ("trained_kimg", "total_kimg", "seconds"), "data": ("bytes",), "model": ("bytes",)}[kind]
    assert all(values[name] > 0 for name in figures)


def test_a_label_that_is_a_number_is_no_resolution(tmp_path, capsys):
    write(tmp_path / "data", [0, 1], {4: "raw"}, [(0,), (1,)], (LabelColumn("2020", ("a", "b")),))
    assert run(["info", str(tmp_path / "data")]) == 0
    assert '"2020" 2 classes' in capsys.readouterr().out
