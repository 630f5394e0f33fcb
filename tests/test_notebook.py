"""The notebook in tools/ runs from top to bottom, and shows pictures and progress."""

from __future__ import annotations

from pathlib import Path

import pytest

import pggan.notebook

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "tools/pggan.ipynb"
TINY = """
faces = 24
options = {
    "start_res": 4, "max_res": 16, "batch": 8, "fmap_base": 32, "fmap_max": 16, "latent_size": 8, "device": "cpu",
    "stable_kimg": 0.064, "fade_kimg": 0.032, "tick_kimg": 0.064, "mode": "eager",
}
steps = 5
"""


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_makes(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "faces = 2000" in code[0].source
    assert not [cell for cell in code if cell.outputs], "the file has no outputs"
    code[0].source += TINY
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = [output for cell in code for output in cell.outputs]
    assert not [output for output in shown if output.output_type == "stream" and output.name == "stderr"]
    types = [set(output.data) for output in shown if "data" in output]
    assert sum("image/png" in kinds for kinds in types) == 4  # the model, two grids, a Pillow image
    assert sum("image/gif" in kinds for kinds in types) == 1
    texts = [output.data["text/plain"] for output in shown if "data" in output and "text/plain" in output.data]
    assert "preparing: 24 of 24" in texts
    assert any("kimg" in text and "img/s" in text for text in texts)
    assert "generated pictures: 24 of 24" in texts
    assert (tmp_path / "pggan-notebook/run/report.html").exists()


def test_outside_of_notebooks_nothing_is_shown():
    assert not pggan.notebook.in_notebook()
    assert pggan.notebook.notebook_progress() is None


class Handle:
    """Stands in for what IPython's `display` returns."""

    def __init__(self, shown: list[list[str]]) -> None:
        self.texts: list[str] = []
        shown.append(self.texts)

    def update(self, data, raw):
        assert raw
        self.texts.append(data["text/plain"])


def test_each_work_has_one_line_that_changes(monkeypatch):
    shown: list[list[str]] = []
    monkeypatch.setattr(pggan.notebook, "in_notebook", lambda: True)
    monkeypatch.setattr(pggan.notebook.TextInPlace, "__init__", lambda self: setattr(self, "_handle", Handle(shown)))
    on_progress = pggan.notebook.notebook_progress()
    for done in range(1001):
        on_progress("preparing", done, 1000)
    on_progress("generated\x1b[2J", 0, 0)
    assert [texts[-1] for texts in shown] == ["preparing: 1,000 of 1,000", "generated\\x1b[2J: 0"]
    assert len(shown[0]) < 100
