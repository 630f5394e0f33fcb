"""A release: its files are complete, and with nothing but the wheel every command works or names the extra it wants.

The container's steps are run on a virtual environment, without Docker.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from email.message import Message
from pathlib import Path

import pytest

from pggan.cli import COMMANDS
from tests.helpers.waiting import PATIENCE

ROOT = Path(__file__).parents[1]
FIXTURES = ROOT / "tests/fixtures"
TINY = [
    "--max-res", "16", "--batch", "8", "--fmap-base", "32", "--fmap-max", "16", "--latent-size", "8",
    "--stable-kimg", "0.032", "--fade-kimg", "0.032", "--tick-kimg", "0.032", "--device", "cpu", "--mode", "eager",
]  # fmt: skip
# Commands in a bare environment, one after another in one folder.
WORK = [
    ["doctor", "--json"],
    ["completion", "bash"],
    ["prepare-data", "drawn:24", "data", "--max-res", "16", "--labels", "none"],
    ["prepare-data", "drawn:24", "one", "--max-res", "16", "--shard", "1/2"],
    ["prepare-data", "drawn:24", "two", "--max-res", "16", "--shard", "2/2"],
    ["merge-data", "both", "one", "two"],
    ["verify-data", "both"],
    ["train", "data", "--out", "run", *TINY, "--power-averages"],
    ["generate", "run", "--n", "4", "--out", "new", "--device", "cpu"],
    ["interpolate", "run", "--seconds", "0.5", "--fps", "8", "--out", "walk.mp4", "--device", "cpu"],
    ["directions", "run", "--from", "sefa", "--out", "d.safetensors", "--device", "cpu"],
    ["traverse", "run", "--directions", "d.safetensors", "--direction", "sefa0", "--seeds", "0-1", "--out", "t.png"],
    ["blend", "run", "--seeds", "7,21", "--at", "8x8", "--device", "cpu"],
    ["project", "run", "new/seed0000000000.png", "--steps", "3", "--out", "z.safetensors", "--device", "cpu"],
    ["evaluate", "run", "--data", "data", "--metrics", "swd", "--n", "16", "--device", "cpu"],
    ["ema", "run", "--length", "0.1"],
    ["report", "run"],
    ["info", "run"],
    ["export-data", "data", "data.zip", "--as", "zip"],
    ["import", str(FIXTURES / "official/official_C.pkl"), "official.safetensors"],
    ["export", "run", "faces.pt2"],
    ["prune", "run", "--yes"],
]
# Commands that want an extra, and its name.
EXTRAS = [
    (["export", "run", "faces.onnx"], "onnx"),
    (["push", "run", "user/name"], "hub"),
    (["prepare-data", "new", "aligned", "--align", "auto"], "align"),
    (["evaluate", "run", "--data", "data", "--metrics", "fid", "--n", "16"], "metrics"),
    (["evaluate", "run", "--data", "data", "--metrics", "fd", "--embedding", "efficientnet-lite0"], "metrics"),
    (["prepare-data", "phone", "photos"], "photos"),
    (["prepare-data", "pictures.h5", "h5"], "hdf5"),
    (["prepare-data", "pictures.parquet", "table"], "parquet"),
    (["export-data", "data", "data.parquet", "--as", "parquet"], "parquet"),
]


@pytest.fixture(scope="module")
def release():
    spec = importlib.util.spec_from_file_location("release", ROOT / "tools/release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def files(release, tmp_path_factory):
    """The source distribution and the wheel of this checkout."""
    pytest.importorskip("build")
    return release.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def bare(release, files, tmp_path_factory):
    """The `pggan` of an environment that holds the wheel and what it requires.

    PGGAN_BARE may name such an environment of before: then only the wheel is installed anew.
    """
    if made := os.environ.get("PGGAN_BARE"):
        again = ["install", "--quiet", "--no-deps", "--force-reinstall", str(files[1])]
        subprocess.run([f"{made}/bin/python", "-m", "pip", *again], check=True)
        return Path(made, "bin/pggan")
    if subprocess.call([sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "lmdb"]):
        pytest.skip("no package index answers")
    return release.bare_environment(sys.executable, files[1], tmp_path_factory.mktemp("bare") / "environment")


def run(release, program, arguments, folder, **options):
    return subprocess.run(
        [str(program), *arguments], cwd=folder, env=release.outside_environment(), capture_output=True, text=True,
        check=False, **options,
    )  # fmt: skip


@pytest.mark.slow
def test_the_files_of_a_release_are_complete(release, files, tmp_path):
    sdist, wheel = files
    for file in files:
        release.check_metadata(release.metadata_of(file), file.name)
    release.check_contents(sdist, wheel)
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"tools/release.py", "tools/Dockerfile", "tools/pggan.ipynb", "tests/test_release.py"} <= names
    lacking = tmp_path / sdist.name
    with tarfile.open(sdist) as archive, tarfile.open(lacking, "w:gz") as less:
        for member in archive.getmembers():
            if not member.name.endswith("/tools/demo.py"):
                less.addfile(member, archive.extractfile(member))
    with pytest.raises(SystemExit, match=r"lacks tools/demo\.py"):
        release.check_contents(lacking, wheel)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("Summary", None, "lack Summary"),
        ("Version", "1.0+local", "no version of a release"),
        ("Description-Content-Type", "text/plain", "would not be the README"),
        ("Requires-Dist", "torch @ file:///torch.whl", "with addresses"),
    ],
)
def test_metadata_that_an_index_refuses_are_told(release, field, value, message):
    metadata = Message()
    for name in release.FIELDS:
        metadata[name] = "1.0.0"
    metadata["Description-Content-Type"], metadata["Requires-Dist"] = "text/markdown", "torch>=2"
    metadata.set_payload("x" * 1000)
    release.check_metadata(metadata, "whole")
    del metadata[field]
    if value is not None:
        metadata[field] = value
    with pytest.raises(SystemExit, match=message):
        release.check_metadata(metadata, "wrong")


def test_every_command_is_tried():
    assert {arguments[0] for arguments in [*WORK, *(given for given, _ in EXTRAS)]} | {"explore"} == set(COMMANDS)


@pytest.mark.slow
def test_without_extras_every_command_works_or_names_the_extra(release, bare, tmp_path):
    for arguments in WORK[:-1]:
        done = run(release, bare, arguments, tmp_path)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
    (tmp_path / "pictures.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(2048))
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone/0.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "pictures.parquet").write_bytes(b"PAR1" + bytes(64) + b"PAR1")
    for arguments, extra in EXTRAS:
        done = run(release, bare, arguments, tmp_path)
        assert done.returncode, arguments
        assert f"pggan[{extra}]" in done.stderr, f"{arguments}: {done.stderr}"
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    _explore(release, bare, tmp_path)
    assert run(release, bare, WORK[-1], tmp_path).returncode == 0


def _explore(release, bare, folder):
    """Opens the explorer's page."""
    command = [str(bare), "explore", "run", "--device", "cpu", "--no-browser", "--port", "0"]
    server = subprocess.Popen(
        command,
        cwd=folder,
        env=release.outside_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        lines = []
        for line in server.stdout:
            lines.append(line)
            if address := re.search(r"http://\S+", line):
                break
        else:
            pytest.fail("".join(lines))
        with urllib.request.urlopen(address[0], timeout=PATIENCE) as answer:
            assert answer.status == 200
            assert b"<html" in answer.read()
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=PATIENCE)


def steps() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile with their arguments."""
    lines = (ROOT / "tools/Dockerfile").read_text(encoding="utf-8").splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word.isupper()]


def test_the_dockerfile_copies_what_is_there_and_drops_root():
    names = [word for word, _ in steps()]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")
    assert ("USER", "pggan") in steps()
    allowed = (ROOT / "tools/Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for word, rest in steps():
        if word == "COPY":
            for name in rest.split()[:-1]:
                assert (ROOT / name).exists(), name
                assert f"!{name}" in allowed, name
    base = next(rest for word, rest in steps() if word == "ARG").partition("=")[2]
    assert tuple(map(int, base.split("."))) >= (3, 10)


@pytest.fixture(scope="module")
def container(release, bare, tmp_path_factory):
    """What the Dockerfile's steps make of a virtual environment, whose requirements are those of the bare one."""
    folder = tmp_path_factory.mktemp("container")
    source, environment = folder / "src", folder / "environment"
    source.mkdir()
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    packages = next((environment / "lib").glob("python*/site-packages"))
    others = next((bare.parents[1] / "lib").glob("python*/site-packages"))
    (packages / "requirements.pth").write_text(f"{others}\n", encoding="utf-8")
    variables = {**release.outside_environment(), "TORCH": "cuda", "EXTRAS": ""}
    variables["PATH"] = f"{environment / 'bin'}{os.pathsep}{variables['PATH']}"
    ran = 0
    for word, rest in steps():
        if word == "COPY":
            for name in rest.split()[:-1]:
                place = ROOT / name
                copy = shutil.copytree if place.is_dir() else shutil.copy
                copy(place, source / name)
        elif word == "RUN" and not rest.startswith("useradd"):
            step = rest.replace("/usr/local/lib/python3*/site-packages", str(packages))
            done = subprocess.run(
                step, shell=True, cwd=source, env=variables, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{step}: {done.stdout}{done.stderr}"
            ran += 1
    assert ran == 3
    shutil.rmtree(source)
    return environment / "bin/pggan"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Linux containers")
def test_the_container_works_without_root_with_a_read_only_root_and_hardly_any_shared_memory(
    release, container, request
):
    unshare = ["unshare", "--mount", "sh", "-c"]
    if subprocess.run([*unshare, "mount --make-rprivate /"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount")
    # not below pytest's folder, which nobody else may pass through
    work = Path(tempfile.mkdtemp(prefix="pggan-", dir="/var/tmp"))
    request.addfinalizer(lambda: shutil.rmtree(work))
    work.chmod(0o777)
    environment = dict(part.partition("=")[::2] for word, rest in steps() if word == "ENV" for part in rest.split())
    assert environment["HOME"] == "/tmp"
    commands = [["prepare-data", "drawn:24", "data", "--max-res", "16"], ["train", "data", "--out", "run", *TINY],
                ["generate", "run", "--n", "2", "--out", "new"], ["doctor"]]  # fmt: skip
    lines = "; ".join(" ".join([str(container), *command]) for command in commands)
    # the one capability lets that user pass through the folders of whoever runs the tests; it writes nowhere
    drop = "setpriv --reuid 1000 --regid 1000 --clear-groups --inh-caps=-all,+dac_read_search"
    drop += " --ambient-caps=-all,+dac_read_search"
    script = f"""
set -e
mount --make-rprivate /
mount --bind {work} {work}
mount -o remount,bind,ro /
mount -t tmpfs -o size=64k,mode=1777 tmpfs /dev/shm
cd {work}
if touch /usr/written 2>/dev/null; then echo "the root can be written"; exit 9; fi
exec {drop} sh -ec '{lines}'
"""
    variables = {**release.outside_environment(), **environment, "TMPDIR": str(work)}
    variables |= {"HOME": str(work), "XDG_CACHE_HOME": str(work / "cache")}
    done = subprocess.run([*unshare, script], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "64.0 KiB" in done.stdout
    assert (work / "new/grid.png").exists() or list((work / "new").glob("seed*.png"))
    assert work.joinpath("run").stat().st_uid == 1000
