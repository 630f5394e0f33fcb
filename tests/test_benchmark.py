"""The benchmarks run, on little, and their figures belong together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pggan.data.prepare.prepare import PrepareOptions, prepare
from tests.helpers.waiting import PATIENCE

ROOT = Path(__file__).parents[1]


def benchmark(*arguments):
    command = [sys.executable, str(ROOT / "tools" / "benchmark.py"), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE, check=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark") / "data"
    prepare("drawn:12", path, PrepareOptions(max_res=8, codec="8:png"))
    return str(path)


@pytest.mark.slow
@pytest.mark.long
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


@pytest.mark.long
def test_codecs_compute_the_hours_of_a_run_from_what_they_measure():
    small = ("--resolution", "32", "--count", "2", "--rounds", "1", "--pictures", "1000", "--cores", "1,4")
    done = benchmark("codecs", "drawn:16", *small, "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["codec"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["webp 4/75"]["kib"] < rows["png 1"]["kib"] < 3
    for row in rows.values():
        # megapixels above 64x64: a pyramid up to 1024 written once, 12,000 kimg of the preset read
        written = 1000 * sum(side**2 for side in (128, 256, 512, 1024)) / 1e6
        read = 1e3 * sum(1200 * side**2 for side in (128, 256, 512)) / 1e6 + 1e3 * 3000 * 1024**2 / 1e6
        seconds = (written * row["write_ms"] + read * row["read_ms"]) / 1e3 / (32**2 / 1e6)
        assert row["hours1"] == pytest.approx(seconds / 3600)
        assert row["hours4"] == pytest.approx(row["hours1"] / 4)
    assert benchmark("codecs", str(ROOT / "tests"), *small).returncode != 0


@pytest.mark.long
def test_data():
    done = benchmark("data", "--count", "6", "--max-res", "16", "--rounds", "1", "--workers", "1", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["format"] for row in rows] == ["jpeg", "png"]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["rate"] / row["limit"])
        assert 0 < row["pyramid_share"] < 1


@pytest.mark.long
def test_swd():
    done = benchmark("swd", "--images", "32", "--resolution", "32", "--published", "16", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["way"]: row for row in json.loads(done.stdout)["rows"]}
    ours, theirs = rows["pggan"], rows["published, scaled to 32"]
    assert ours["swd"] == pytest.approx(theirs["swd"], rel=0.5)  # the same kind of pictures, the same distance
    assert theirs["times"] == pytest.approx(theirs["seconds"] / ours["seconds"])


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system does not tell a process's peak")
def test_memory():
    small = ["--batch", "16", "--fmap-base", "64", "--fmap-max", "16", "--stddev-group", "2", "--sizes", "2"]
    done = benchmark("memory", "--resolutions", "8", "--device", "cpu", *small, "--tensors", "--json")
    rows = json.loads(done.stdout)["rows"]
    assert [(row["resolution"], row["activations"], row["images"]) for row in rows] == [
        (8, "kept", 2), (8, "kept", 4), (8, "again", 2), (8, "again", 4),
    ]  # fmt: skip
    for fewer, more in (rows[:2], rows[2:]):
        assert 0 < fewer["estimate_mb"] < more["estimate_mb"]
        assert 0 < fewer["tensors_mb"] < more["tensors_mb"]
        assert 0.2 < more["each_tensors"] < 2
        assert "each" in more
        assert "each" not in fewer


@pytest.mark.long
def test_train(tmp_path):
    quick = ["--rounds", "1", "--seconds", "0.05", "--mode", "eager", "--device", "cpu", "--batch", "4"]
    small = ["--resolutions", "4,8", "--fmap-base", "32", "--fmap-max", "8"]
    done = benchmark("train", *quick, *small, "--profile", "--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "figures.json").read_text())
    assert [row["resolution"] for row in result["rows"]] == [4, 8]
    for row in result["rows"]:
        assert row["ms"] == pytest.approx(1000 / row["rate"])
        assert row["of_floor"] == pytest.approx(row["floor_ms"] / row["ms"])
        assert 0 < row["of_floor"] < 1
        assert 0.5 < sum(row["operations"].values()) <= 1.0001
    assert "4x4 eager: aten::" in done.stdout
    assert result["projected_hours"] == {"eager": None}  # two resolutions do not make a schedule
    assert "GB/s copied" in done.stdout


@pytest.mark.long
def test_train_with_reals_and_fakes_apart_and_in_one_batch(tmp_path):
    quick = ["--rounds", "1", "--seconds", "0.05", "--mode", "eager", "--device", "cpu", "--batch", "4"]
    small = ["--resolutions", "8", "--fmap-base", "32", "--fmap-max", "8", "--joined", "2,3"]
    done = benchmark("train", *quick, *small, "--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [row["joined"] for row in rows] == [2, 3]


@pytest.mark.long
def test_train_ends_at_its_time_limit_with_what_it_measured(tmp_path):
    quick = ["--rounds", "1", "--seconds", "0.05", "--mode", "eager", "--device", "cpu", "--batch", "4"]
    limited = ["--resolutions", "8,4", "--fmap-base", "32", "--fmap-max", "8", "--time-limit", "0"]
    done = benchmark("train", *quick, *limited, "--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stderr
    assert "--time-limit: 4x4 and what follows it were not measured" in done.stderr
    result = json.loads((tmp_path / "figures.json").read_text())
    assert [row["resolution"] for row in result["rows"]] == [8]


@pytest.mark.long
def test_generate():
    quick = [
        "--resolutions",
        "8,16",
        "--fmap-base",
        "64",
        "--n",
        "8",
        "--batch",
        "4",
        "--rounds",
        "1",
        "--device",
        "cpu",
    ]
    done = benchmark("generate", *quick, "--video", "0.2", "--json")
    assert done.returncode == 0, done.stderr
    for row in json.loads(done.stdout)["rows"]:
        assert row["of_bare"] == pytest.approx(row["rate"] / row["bare"])
        assert (row["mode"], row["batch"]) == ("eager", 4)
        assert row["startup"] > 0
        assert row["video"] > 0
    told = benchmark("generate", *quick[2:], "--resolutions", "4")
    assert "goal: 0.8 of bare, met by" in told.stdout


@pytest.mark.long
def test_help_imports_nothing_heavy():
    done = benchmark("--help")
    assert done.returncode == 0
    assert "loader" in done.stdout
