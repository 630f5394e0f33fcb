"""Shards: they appear complete, processes share them, and a second run writes the missing ones."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

import pggan
from pggan.cli import run
from pggan.generation import shards
from pggan.generation.images import read_metadata
from pggan.generation.seeds import Seeds
from pggan.utils.distributed import World
from pggan.utils.errors import UsageError
from tests.helpers.model_files import saved


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD", 10)
    return pggan.load(saved(tmp_path / "m.safetensors", labels=3), "cpu")


def images_in(folder, layout):
    images = {}
    if layout == "folders":
        for path in folder.glob("[0-9]*/*.png"):
            images[path.name] = np.asarray(Image.open(path))
    else:
        for path in folder.glob("*.tar"):
            with tarfile.open(path) as archive:
                for member in archive:
                    images[member.name] = np.asarray(Image.open(io.BytesIO(archive.extractfile(member).read())))
    return images


@pytest.mark.long
@pytest.mark.parametrize("layout", ["folders", "tar"])
def test_three_processes_share_the_shards_and_missing_ones_are_written_again(layout, model, tmp_path):
    seeds = Seeds.parse("0-29,100-114")
    expected = model.generate(seeds)
    out = tmp_path / "out"

    def fail(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shards.write_shards(model, seeds, out, layout, advance=fail)
    assert images_in(out, layout) == {}
    for rank in (2, 0, 1):
        done = shards.write_shards(model, seeds, out, layout, world=World(rank, 3))
        assert (done.shards, done.written) == (5, [2, 2, 1][rank])
    images = images_in(out, layout)
    assert sorted(images) == [f"seed{seed:010d}.png" for seed in seeds]
    for seed, image in zip(seeds, expected):
        difference = images[f"seed{seed:010d}.png"].astype(int) - image
        assert np.abs(difference).max() <= 1
    gone = sorted(path for path in out.iterdir() if path.name != shards.ABOUT)[3]
    if layout == "folders":
        assert read_metadata(gone / "seed0000000100.png")["seed"] == 100
        for path in gone.iterdir():
            path.unlink()
        gone.rmdir()
    else:
        gone.unlink()
    counted = []
    done = shards.write_shards(model, seeds, out, layout, advance=counted.append)
    assert (done.written, sum(counted)) == (1, len(seeds))
    assert not list(out.glob(".*"))
    for other, label in ((Seeds.parse("0-30"), None), (seeds, 1)):
        with pytest.raises(UsageError, match=f"differs in its {'label' if label else 'seeds'}"):
            shards.write_shards(model, other, out, layout, label)


def test_a_folder_with_other_files_is_refused(model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="other files"):
        shards.write_shards(model, Seeds.parse("0-3"), tmp_path / "out", "tar")


@pytest.mark.long
def test_two_processes_of_the_command_write_all_shards_between_them(tmp_path, capsys):
    path, out = saved(tmp_path / "m.safetensors", resolution=4), tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "pggan",
        "generate",
        str(path),
        "--n",
        "2500",
        "--layout",
        "tar",
        "--out",
        str(out),
    ]
    common = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen([*command, "--device", "cpu", "--quiet"], env={**common, "RANK": str(r)}) for r in (0, 1)
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert len(images_in(out, "tar")) == 2500
    assert run([*command[3:], "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["pictures"], about["shards"], about["made"]) == (2500, 3, 0)
    assert run(["generate", str(path), "--layout", "tar", "--grid", "2x2"]) == 2
