"""Every command in poor surroundings: no console, or one without letters, no home, little memory, odd mounts."""

from __future__ import annotations

import errno
import io
import mmap
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import lmdb
import pytest

from pggan import cli
from pggan.networks.model_file import save_model
from pggan.utils import paths
from pggan.utils.caching import cache_folders
from tests.helpers.bounded_run import bounded_run
from tests.helpers.image_files import write_folder
from tests.helpers.model_files import model_file
from tests.helpers.waiting import PATIENCE

TRAIN = [
    "--preset", "demo", "--max-res", "8", "--stable-kimg", "0.05", "--fade-kimg", "0.02", "--device", "cpu",
]  # fmt: skip
# Name of the command -> its arguments; {folder}, {data}, {run}, {model} and {out} are filled in.
COMMANDS = {
    "prepare-data": "prepare-data {folder} {out}/Straße-中 --max-res 8",
    "verify-data": "verify-data {data}",
    "merge-data": "merge-data {out}/merged {data} {data2}",
    "train": "train {data} --out {out}/run " + " ".join(TRAIN),
    "generate": "generate {model} --n 2 --out {out}/pictures",
    "interpolate": "interpolate {model} --seconds 2 --fps 2 --out {out}/walk.gif",
    "evaluate": "evaluate {model} --data {data} --n 8 --metrics neighbours",
    "report": "report {run} --out {out}/page.html",
    "info": "info {run}",
    "export-data": "export-data {data} {out}/files --as folder",
    "export": "export {model} {out}/program.pt2 --format torch",
    "prune": "prune {run2} --dry-run",
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Pictures, two stores, a run and a model."""
    root = tmp_path_factory.mktemp("places")
    write_folder(root / "folder", 8, 8)
    for name in ("data", "data2"):
        assert cli.run(["prepare-data", str(root / "folder"), str(root / name), "--max-res", "8", "--quiet"]) == 0
    for name in ("run", "run2"):
        assert cli.run(["train", str(root / "data"), "--out", str(root / name), *TRAIN, "--quiet"]) == 0
    save_model(root / "model.safetensors", model_file(resolution=8))
    model = root / "model.safetensors"
    return {"model": model, **{name: root / name for name in ("folder", "data", "data2", "run", "run2")}}


def arguments(name, places, out):
    return COMMANDS[name].format(**places, out=out).split()


def one_line(err):
    """Whether a failure is one line of ours, without a traceback."""
    return "Traceback" not in err and len([line for line in err.splitlines() if "error:" in line]) == 1


class Gone(io.StringIO):
    """A stream whose reader has left."""

    def write(self, text):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


@pytest.mark.parametrize("streams", ["none", "gone", "cp932", "ascii"])
@pytest.mark.parametrize("name", COMMANDS)
def test_without_a_console_that_can_show_it_the_work_is_done(name, streams, places, tmp_path, monkeypatch):
    for stream in ("stdout", "stderr"):
        made = {
            "none": lambda: None,
            "gone": Gone,
            "cp932": lambda: io.TextIOWrapper(io.BytesIO(), encoding="cp932"),
            "ascii": lambda: io.TextIOWrapper(io.BytesIO(), encoding="ascii"),
        }[streams]()
        monkeypatch.setattr(sys, stream, made)
    assert cli.run(arguments(name, places, tmp_path)) == 0


@pytest.mark.parametrize("home", ["none", "root", "read-only"])
@pytest.mark.parametrize("name", ["train", "generate", "evaluate", "info"])
def test_a_home_that_is_missing_or_cannot_be_written_is_not_needed(name, home, places, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    if home == "none":
        monkeypatch.setattr(Path, "home", no_home)
    else:
        (tmp_path / "file").write_text("")  # a folder in which nothing can be made, for root, too
        monkeypatch.setenv("HOME", "/proc" if home == "root" else str(tmp_path / "file"))
    assert cache_folders.cache_folder("metrics") is None
    assert cli.run(arguments(name, places, tmp_path)) == 0
    paths.keep_compiled()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"]


@pytest.mark.parametrize("name", ["generate", "info"])
@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_never_the_data_s(name, closed, places, tmp_path):
    command = " ".join([f"'{sys.executable}' -m pggan", *arguments(name, places, tmp_path), closed])
    assert subprocess.run(["sh", "-c", command], check=False, env={**os.environ, "LC_ALL": "C"}).returncode == 0
    if name == "generate":
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "pictures").glob("*.png"))


def test_a_plan_that_is_cut_by_head_is_no_failure():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "pggan", "train", "--dry-run", "--preset", "celebahq-v2-8gpu"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(os.name == "nt" or os.getuid() != 0, reason="root becomes another user")
@pytest.mark.parametrize("name", ["train", "info"])
def test_a_user_without_a_name_and_a_home(name, places, request):
    out = Path(tempfile.mkdtemp())  # below no folder that is root's alone
    request.addfinalizer(lambda: shutil.rmtree(out))
    os.chmod(out, 0o777)
    places = {key: shutil.copytree(places[key], out / key) for key in ("data", "run")}
    places |= dict.fromkeys(("model", "folder", "data2", "run2"))
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "USER", "LOGNAME", "XDG_CACHE_HOME")}
    command = [sys.executable, "-m", "pggan", *arguments(name, places, out / "new"), "--json"]
    # the pictures and the program stay readable: a container's user differs, not its files
    capabilities = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    user = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", *capabilities]
    done = subprocess.run([*user, *command], capture_output=True, text=True, check=False, env=environment, cwd=out)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize("memory", [200, 600])
@pytest.mark.parametrize("name", ["generate", "info", "prepare-data"])
def test_too_little_memory_is_one_line(name, memory, places, tmp_path):
    done = bounded_run(arguments(name, places, tmp_path), memory)
    assert done.status == 0 or one_line(done.err), done.err


# Mounts


def test_a_mount_without_memory_maps_is_named(places, tmp_path, monkeypatch, capsys):
    def refuse(*arguments, **options):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    def refuse_lmdb(*arguments, **options):
        raise lmdb.Error(f"{tmp_path}/data.mdb: {os.strerror(errno.ENODEV)}")

    monkeypatch.setattr(mmap, "mmap", refuse)
    monkeypatch.setattr(lmdb, "open", refuse_lmdb)
    for name in ("info", "prepare-data"):
        command = ["info", str(places["data"])] if name == "info" else arguments(name, places, tmp_path)
        assert cli.run(command) == 1
        err = capsys.readouterr().err
        assert "lies on a file system without shared memory maps" in err
        assert "put the store on a local disk" in err
        assert "damaged" not in err


@pytest.fixture(scope="module")
def odd_mount(tmp_path_factory):
    """A library that makes a folder refuse what network shares and FUSE refuse: see the source in fixtures/."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("odd") / "odd.so"
    source = Path(__file__).parents[1] / "fixtures" / "odd_mount.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return library


@pytest.mark.skipif(sys.platform != "linux", reason="preloads a library")
@pytest.mark.parametrize("name", ["generate", "prepare-data"])
def test_a_real_mount_that_refuses_everything(name, places, odd_mount, tmp_path):
    out = tmp_path / "share"
    out.mkdir()
    places = {**places, "model": shutil.copy(places["model"], out)}
    environment = {**os.environ, "LD_PRELOAD": str(odd_mount), "ODD_ROOT": str(out), "ODD": "fsyncdir,chmod,flock,mmap"}
    command = [sys.executable, "-m", "pggan", *arguments(name, places, out)]
    for _ in range(2 if name == "prepare-data" else 1):  # what the first one leaves is not called damaged
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if name == "generate":
            assert done.returncode == 0, done.stderr
            assert len(list((out / "pictures").glob("seed*.png"))) == 2
        else:
            assert done.returncode == 1
            assert "without shared memory maps, which stores need; put the store on a local disk" in done.stderr
            assert "damaged" not in done.stderr


def test_a_file_that_may_not_grow_is_one_line(places, tmp_path):
    """As a full disk for torch's own writer, which ends the process where it writes a file itself."""
    command = [sys.executable, "-m", "pggan", *arguments("export", places, tmp_path)]
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # noqa: E731
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limit)
    assert done.returncode == 1
    assert one_line(done.stderr), done.stderr
    assert "a file is larger than its disk or ulimit -f allows" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_run_outlives_the_reader_of_its_progress(places, tmp_path):
    command = [sys.executable, "-m", "pggan", *arguments("train", places, tmp_path)]
    read, write = os.pipe()
    process = subprocess.Popen(command, stdout=write, stderr=write)
    os.close(write)
    assert os.read(read, 1)
    os.close(read)
    assert process.wait(PATIENCE) == 0
    assert list((tmp_path / "run" / "models").glob("model-*.safetensors"))


def test_a_directory_that_cannot_be_flushed_is_written(places, tmp_path, monkeypatch):
    fsync = os.fsync

    def refuse(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    for name in ("prepare-data", "train", "generate", "export-data", "merge-data"):
        assert cli.run(arguments(name, places, tmp_path)) == 0


def test_a_tilde_that_the_shell_left_is_expanded(tmp_path, monkeypatch, places):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert cli.run(["generate", str(places["model"]), "--n", "1", "--out=~/pictures", "--quiet"]) == 0
    assert len(list((tmp_path / "pictures").glob("seed*.png"))) == 1
    (tmp_path / "~").mkdir()  # whoever has made such a folder means it
    assert cli.run(["generate", str(places["model"]), "--n", "1", "--out", "~/mine", "--quiet"]) == 0
    assert len(list((tmp_path / "mine").glob("seed*.png"))) == 1
