"""`pggan prepare-data` and the CelebA-HQ script, as people run them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pggan.cli import run
from pggan.data.store.store import Store
from pggan.utils.errors import DataError
from tests.helpers.image_files import portrait, write_folder
from tests.helpers.waiting import PATIENCE, wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "pictures", 12)


def test_the_command_prints_a_summary(folder, tmp_path, capsys):
    (folder / "5.png").write_bytes(b"broken")
    assert run(["prepare-data", str(folder), str(tmp_path / "data"), "--workers", "1"]) == 0
    out, err = capsys.readouterr()
    for part in ("11 pictures, RGB", "left out: 1 bad", "5.png: not a picture", "32x32", "raw", "on disk:"):
        assert part in out
    assert "12/12 pictures" in err


def test_the_command_prints_json(tmp_path, capsys):
    arguments = ["drawn:3", str(tmp_path / "data"), "--max-res", "8", "--channels", "1", "--workers", "1"]
    assert run(["prepare-data", *arguments, "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    values = json.loads(out)
    assert out.count("\n") == 1
    assert err == ""
    assert (values["count"], values["channels"], values["resolutions"]) == (3, 1, [4, 8])
    assert values["codecs"] == {"4": "raw", "8": "raw"}
    assert "CC BY 4.0" in values["attribution"]
    with Store(tmp_path / "data") as store:
        assert store.read(8, [2]).shape == (1, 1, 8, 8)


def test_what_will_be_made_is_told_first(folder, tmp_path, capsys):
    arguments = ["prepare-data", str(folder), str(tmp_path / "data"), "--workers", "1"]
    assert run([*arguments, "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "12 pictures, RGB, 4x4 to 32x32" in out
    assert "4x4 raw, 8x8 raw" in out
    assert "for 12 pictures (from 1 of them); " in out
    assert run([*arguments, "--dry-run", "--json", "--shard", "2/3", "--codec", "32:png"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["pictures"], values["resolution"], values["shard"], values["done"]) == (4, 32, [2, 3], 0)
    assert values["codecs"] == {"4": "raw", "8": "raw", "16": "raw", "32": "png"}
    assert values["bytes"] == values["more"] > 0 <= values["seconds"]
    assert os.listdir(tmp_path) == ["pictures"]
    assert run(arguments) == 0
    assert capsys.readouterr().err.startswith("about ")
    assert run([*arguments, "--dry-run"]) == 2


def test_the_command_prints_the_attribution(tmp_path, capsys):
    assert run(["prepare-data", "drawn:2", str(tmp_path / "data"), "--max-res", "8", "--workers", "1"]) == 0
    out = capsys.readouterr().out
    assert "Johan Melin" in out
    assert "skin-colour" in out


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        ([], 2, "Missing argument 'SOURCE'"),
        (["missing", "DEST"], 1, "missing does not exist; give one of: drawn:COUNT"),
        (["drawn:x", "DEST"], 2, "drawn:COUNT"),
        (["drawn:3", "DEST", "--max-res", "100"], 2, "--max-res"),
        (["drawn:3", "DEST", "--codec", "gif"], 2, "--codec"),
        (["drawn:3", "DEST", "--quality", "101"], 2, "--quality"),
        (["drawn:3", "DEST", "--channels", "2"], 2, "--channels"),
        (["drawn:3", "DEST", "--fit", "stretch"], 2, "--fit"),
        (["drawn:3", "DEST", "--limit", "0"], 2, "--limit"),
        (["drawn:3", "DEST", "--workers", "0"], 2, "--workers"),
        (["drawn:3", "DEST", "--seed", "-1"], 2, "--seed"),
        (["drawn:3", "DEST", "--align", "auto"], 2, "drawn faces are aligned"),
        (["drawn:3", "DEST", "--quality", "50"], 2, "--quality is about --codec jpeg"),
        (["TAKEN", "DEST", "--seed", "1"], 2, "--seed is about drawn:COUNT"),
        (["drawn:3", "DEST", "--shard", "2"], 2, "--shard '2' is not I/N"),
        (["drawn:3", "DEST", "--shard", "3/2"], 2, "--shard 3/2"),
        (["drawn:3", "DEST", "--shard", "1/4"], 2, "there are only 3 pictures; give at most 3 shards"),
        (["drawn:3", "DEST", "--nonsense"], 2, "--nonsense"),
        (["drawn:3", "TAKEN"], 2, "exists already"),
    ],
)
def test_bad_use_is_one_line(tmp_path, capsys, arguments, status, message):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").touch()
    places = {"DEST": str(tmp_path / "data"), "TAKEN": str(tmp_path / "taken")}
    assert run(["prepare-data", *(places.get(a, a) for a in arguments)]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("pggan: error: ")
    assert message in err
    assert os.listdir(tmp_path) == ["taken"]


def start(*arguments):
    command = [sys.executable, "-m", "pggan", "prepare-data", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.long
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_command_stopped_at_the_beginning_leaves_nothing(tmp_path, number, status):
    # to the whole group, as a terminal does, while the workers start
    process = start("drawn:1000000", str(tmp_path / "data"), "--workers", "2", "--quiet", "--max-res", "64", "--force")
    wait_for((tmp_path / "data.partial").exists, process)
    os.killpg(process.pid, number) if number != signal.SIGTERM else process.terminate()
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (status, "")
    assert err.strip() == ("pggan: error: interrupted" if status == 130 else "")
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    process = start("drawn:1000000", str(tmp_path / "data"), "--workers", "2", "--quiet", "--max-res", "64", "--force")
    wait_for((tmp_path / "data.partial").exists, process)
    time.sleep(3)
    process.kill()
    # the workers hold the other ends of these pipes: end of file means that they are gone
    process.communicate(timeout=PATIENCE)
    with pytest.raises(DataError, match="no data store"):
        Store(tmp_path / "data")
    assert run(["prepare-data", "drawn:2", str(tmp_path / "data"), "--max-res", "8", "--workers", "1"]) == 0
    assert os.listdir(tmp_path) == ["data"]


def count(path):
    with Store(path) as store:
        return len(store)


def test_the_celebahq_script_prepares_its_store(tmp_path, capsys):
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import prepare_celebahq
    finally:
        sys.path.pop(0)
    folder = write_folder(tmp_path / "pictures", 3)
    common = [str(folder), str(tmp_path / "data"), "--max-res", "32", "--workers", "1", "--quiet"]
    assert prepare_celebahq.main(common) == 1
    assert "holds 3 pictures, CelebA-HQ has 30000" in capsys.readouterr().err
    assert prepare_celebahq.main([*common, "--count", "3"]) == 0
    assert count(tmp_path / "data") == 3
    portrait(1, 16).save(folder / "1.png")
    assert prepare_celebahq.main([*common, "--count", "3", "--overwrite"]) == 1
    assert "1.png: too small (16x16)" in capsys.readouterr().err
    assert count(tmp_path / "data") == 3
