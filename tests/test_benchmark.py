"""The benchmarks run, on little, and their figures belong together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pggan.data.prepare import PrepareOptions, prepare

ROOT = Path(__file__).parents[1]


def benchmark(*arguments):
    command = [sys.executable, str(ROOT / "tools" / "benchmark.py"), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark") / "data"
    prepare("drawn:12", path, PrepareOptions(max_res=8, codec="8:png"))
    return str(path)


def test_loader(store):
    quick = ["--rounds", "1", "--seconds", "0.05", "--workers", "0,1", "--preset", "demo", "--device", "cpu"]
    done = benchmark("loader", store, *quick, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["machine"]["cores"] >= 1
    rows = {(row["resolution"], row["cache"], row["workers"]): row for row in result["rows"]}
    assert set(rows) == {(r, cache, w) for r in (4, 8) for cache in ("none", "ram", "device") for w in (0, 1)}
    for (resolution, cache, _), row in rows.items():
        assert row["rate"] > 0
        assert row["times_training"] == pytest.approx(row["rate"] / row["training"])
        assert ("of_bare" in row) == (cache == "none" and resolution == 8)
    told = benchmark("loader", store, *quick, "--resolutions", "8", "--cache", "ram", "--no-training")
    assert told.returncode == 0, told.stderr
    assert len(told.stdout.splitlines()) == 4
    assert "no 16x16" in benchmark("loader", store, *quick, "--resolutions", "16").stderr


def test_data():
    done = benchmark("data", "--count", "6", "--max-res", "16", "--rounds", "1", "--workers", "1", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["format"] for row in rows] == ["jpeg", "png"]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["rate"] / row["limit"])
        assert 0 < row["pyramid_share"] < 1


def test_help_imports_nothing_heavy():
    done = benchmark("--help")
    assert done.returncode == 0
    assert "loader" in done.stdout
