"""The house: imports point downward, torch stays out of help and errors of usage, files stay short."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pggan"

# rooms from the top down: a module imports from its own floor and those below only
FLOORS = [
    ["cli"],
    ["web"],
    ["report", "interop", "editing"],
    ["training"],
    ["metrics", "generation", "losses"],
    ["data", "networks"],
    ["config"],
    ["utils"],
]


def floor(module: str) -> int:
    room = module.split(".")[1]
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name not in ("pggan", "pggan.__main__"):
            yield name, path


def imported(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pggan."):
            for alias in node.names:
                inner = PACKAGE.parent / Path(*node.module.split("."), alias.name)
                yield f"{node.module}.{alias.name}" if inner.with_suffix(".py").exists() else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("pggan."))


@pytest.mark.parametrize("name,path", list(modules()))
def test_imports_point_downward(name, path):
    for target in imported(path):
        assert floor(target) >= floor(name), f"{name} imports {target}"


def test_no_file_is_a_house_of_its_own():
    long = {str(p.relative_to(ROOT)): n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 400}
    assert not long


@pytest.mark.parametrize(
    "arguments,status",
    [
        (["--help"], 0),
        (["train", "--help"], 0),
        (["generate", "--help"], 0),
        (["interpolate", "--help"], 0),
        (["evaluate", "--help"], 0),
        (["prepare-data", "--help"], 0),
        (["verify-data", "--help"], 0),
        (["merge-data", "--help"], 0),
        (["import", "--help"], 0),
        (["export", "--help"], 0),
        (["export-data", "--help"], 0),
        (["info", "--help"], 0),
        (["report", "--help"], 0),
        (["report", "nowhere"], 1),
        (["train", "--dry-run"], 0),
        (["train", "--batch", "6"], 2),
        (["train", "--loss", "nothing"], 2),
        (["train", "--gp-weight", "-1"], 2),
        (["train", "nowhere"], 1),
        (["generate", "--n", "0"], 2),
        (["nothing"], 2),
    ],
)
def test_torch_stays_out(arguments, status):
    code = (
        "import sys; from pggan.cli import run; status = run(sys.argv[1:]);"
        "assert 'torch' not in sys.modules, 'torch was imported'; sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    if status:
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
