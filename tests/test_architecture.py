"""How the package is laid out: imports point downward without circles, names are the field's, functions are short.

Torch stays out of help and errors of usage.
"""

from __future__ import annotations

import ast
import copy
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "pggan"

# rooms from the top down: a module imports from its own floor and those below only
FLOORS = [
    ["cli"],
    ["web"],
    ["api"],
    ["model_evaluation", "notebook"],
    ["report", "interop", "editing"],
    ["training"],
    ["metrics", "generation", "losses"],
    ["data", "networks"],
    ["config"],
    ["utils"],
]
MOST_FOLDERS, MOST_MODULES, MOST_LINES, MOST_FUNCTION_LINES = 13, 16, 350, 50
# one file a command, one file a format
WIDE_FOLDERS = {"cli", "data/sources"}
# names that every reader knows by their folder
REPEATED_FILE_NAMES = {"__init__", "__main__", "base", "cache"}
# words that say nothing to a newcomer who searches for the field's terms
FORBIDDEN_WORDS = {"pace", "exam", "ahead", "mend", "leash", "kept", "told", "owed", "boxed", "found"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in PATHS.items()}


def floor(module: str) -> int:
    room = module.split(".")[1]
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules of the package that a module imports, also within functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pggan":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in PATHS else str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in PATHS)


def at_run_time(tree: ast.Module) -> ast.Module:
    """The module without what type checkers alone read."""

    class Strip(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)

    return Strip().visit(copy.deepcopy(tree))


def definitions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield name, node


def words_of(name: str) -> set[str]:
    """`StepExecutor`, `step_executor` -> step, executor."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name)}


@pytest.mark.long
def test_imports_point_downward():
    upward = [
        f"{name} imports {target}"
        for name, tree in TREES.items()
        if name not in ("pggan", "pggan.__main__")
        for target in imported(tree)
        if target != "pggan" and floor(target) < floor(name)
    ]
    assert not upward


@pytest.mark.long
def test_imports_make_no_circle():
    arrows = {name: {*imported(at_run_time(tree))} - {name, "pggan"} for name, tree in TREES.items()}
    # modules that import none of the modules left are taken away, until circles alone are left
    while free := [name for name, targets in arrows.items() if not targets & arrows.keys()]:
        for name in free:
            del arrows[name]
    circles = {name: targets & arrows.keys() for name, targets in arrows.items()}
    entered = {target for targets in circles.values() for target in targets}
    assert not {name: sorted(targets) for name, targets in circles.items() if name in entered}


def test_folders_hold_what_one_can_take_in_at_a_glance():
    assert len([path for path in PACKAGE.iterdir() if path.is_dir() and list(path.glob("*.py"))]) <= MOST_FOLDERS
    modules = Counter(path.parent.relative_to(PACKAGE).as_posix() for path in PATHS.values() if path.stem != "__init__")
    assert not {folder: n for folder, n in modules.items() if n > MOST_MODULES and folder not in WIDE_FOLDERS}


def test_file_names_are_unique():
    names = Counter(path.stem for path in PATHS.values() if path.parent.name != "cli")
    assert not {name: n for name, n in names.items() if n > 1 and name not in REPEATED_FILE_NAMES}


@pytest.mark.long
def test_names_are_words_that_a_newcomer_searches_for():
    named = [(name, name.rpartition(".")[2]) for name in PATHS] + [(name, node.name) for name, node in definitions()]
    assert not [f"{module}: {name}" for module, name in named if words_of(name) & FORBIDDEN_WORDS]


@pytest.mark.long
def test_files_and_functions_are_short():
    long_files = {
        name: lines for name, path in PATHS.items() if (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert not long_files
    long_functions = {
        f"{name}: {node.name}": lines
        for name, node in definitions()
        if not isinstance(node, ast.ClassDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > MOST_FUNCTION_LINES
    }
    assert not long_functions


@pytest.mark.long
@pytest.mark.parametrize(
    "arguments,status",
    [
        (["--help"], 0),
        (["train", "--help"], 0),
        (["generate", "--help"], 0),
        (["interpolate", "--help"], 0),
        (["traverse", "--help"], 0),
        (["project", "--help"], 0),
        (["directions", "--help"], 0),
        (["blend", "--help"], 0),
        (["evaluate", "--help"], 0),
        (["prepare-data", "--help"], 0),
        (["verify-data", "--help"], 0),
        (["merge-data", "--help"], 0),
        (["import", "--help"], 0),
        (["export", "--help"], 0),
        (["export-data", "--help"], 0),
        (["info", "--help"], 0),
        (["report", "--help"], 0),
        (["prune", "--help"], 0),
        (["push", "--help"], 0),
        (["explore", "--help"], 0),
        (["explore", "nowhere"], 1),
        (["explore", "--host", "0.0.0.0"], 2),
        (["report", "nowhere"], 1),
        (["train", "--dry-run"], 0),
        (["train", "--batch", "6"], 2),
        (["train", "--loss", "nothing"], 2),
        (["train", "--gp-weight", "-1"], 2),
        (["train", "nowhere"], 1),
        (["generate", "--n", "0"], 2),
        (["generate", "--n", "2", "--seeds", "1"], 2),
        (["generate", "nowhere"], 1),
        (["interpolate", "nowhere"], 1),
        (["interpolate", "--latents", "nowhere", "--seeds", "1,2"], 2),
        (["generate", "--similar", "1", "--seeds", "2"], 2),
        (["blend", "nowhere", "--at", "8"], 2),
        (["directions", "nowhere"], 1),
        (["project", "nowhere", "nothing.png"], 1),
        (["interpolate", "--out", "walk.avi"], 2),
        (["evaluate", "--data", "nowhere", "--cache", "nowhere", "--no-cache"], 2),
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


@pytest.mark.parametrize("command", [["generate", "--n", "1"], ["interpolate", "--seconds", "1", "--fps", "4"]])
def test_torchs_compiler_stays_out_of_making_pictures(command, tmp_path):
    code = (
        "import sys; from pggan.cli import run; status = run(sys.argv[1:]);"
        "assert {'torch', 'pggan'} <= set(sys.modules), 'nothing was made';"
        "assert not {'torch._dynamo', 'sympy'} & set(sys.modules), 'the compiler was imported'; sys.exit(status)"
    )
    arguments = [*command, "--out", str(tmp_path / ("out" if command[0] == "generate" else "out.gif"))]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr


def test_test_modules_do_not_import_each_other():
    modules = list((ROOT / "tests").rglob("test_*.py"))
    assert len(modules) > 50
    imports = re.compile(r"^\s*(?:from|import) tests\.(?:\w+\.)*test_", re.MULTILINE)
    assert not [path.name for path in modules if imports.search(path.read_text(encoding="utf-8"))]


def calls(dotted: str) -> list[tuple[str, ast.Call]]:
    """Calls of a function by its last two names, such as `Image.open`, and their modules."""
    return [
        (name, node)
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ".".join(ast.unparse(node.func).split(".")[-2:]) == dotted
    ]


def test_pillow_is_told_which_formats_it_may_decode():
    """Without a list it also opens those that start programs, such as Ghostscript, or other files."""
    opened = calls("Image.open")
    assert len(opened) >= 5
    assert not [name for name, node in opened if "formats" not in {keyword.arg for keyword in node.keywords}]
    assert not [
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "PIL.Image" and any(a.name == "open" for a in node.names)
    ]
