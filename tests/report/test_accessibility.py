"""The page for screen readers and validators: names of regions are unique, every column has a heading."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from pggan.report import write_report
from tests.helpers.model_files import saved
from tests.helpers.run_directories import add_grid, add_lines, make_run

CHECK = Path(__file__).with_name("check_page.cjs")
PACKAGES = ("axe-core", "html-validate", "jsdom")


@pytest.fixture
def pages(tmp_path):
    """Pages of a run that has everything, and of one that has nothing yet."""
    run = make_run(tmp_path / "run")
    for name in ("000000040-4x4.png", "000000080-8x8-fade50.png", "reals-4x4.png"):
        add_grid(run, name)
    (run / "models").mkdir(exist_ok=True)
    saved(run / "models" / "model-000000040.safetensors", resolution=8)
    add_lines(
        run,
        {"event": "rollback", "at_nimg": 90, "to": 40, "reason": "D loss is not finite", "lr_factor": 0.5, "times": 1},
        {"nimg": 110, "resolution": 8, "alpha": 1, "swd_8": 3.0, "swd_mean": 4.0},
    )
    options = json.loads((run / "options.json").read_text())
    options["changes"] = [{"at_nimg": 50, "d_lr": {"plain": 0.0005}, "mirror": False}]
    (run / "options.json").write_text(json.dumps(options))
    begun = make_run(tmp_path / "begun", ticks=0)
    return [write_report(path, tmp_path / f"{path.name}.html").path for path in (run, begun)]


def test_headings_are_not_empty_and_regions_differ(pages):
    for page in pages:
        text = page.read_text(encoding="utf-8")
        headings = re.findall(r"<th[^>]*>(.*?)</th>", text)
        assert headings
        assert all(headings)
        regions = re.findall(r'<section[^>]* aria-labelledby="([^"]+)"|role="region" aria-label="([^"]+)"', text)
        assert regions
        assert max(Counter(regions).values()) == 1


@pytest.mark.slow
def test_axe_and_html_validate_find_nothing(pages):
    """Needs node and, for it to find, `npm install axe-core html-validate jsdom` with NODE_PATH at its folder."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    resolve = "; ".join(f"require.resolve('{name}')" for name in PACKAGES)
    if subprocess.run([node, "-e", resolve], capture_output=True, check=False, cwd=CHECK.parent).returncode:
        pytest.skip(f"node does not find {', '.join(PACKAGES)}; install them and set NODE_PATH")
    done = subprocess.run([node, CHECK, *pages], capture_output=True, text=True, check=True)
    assert done.stdout == ""
