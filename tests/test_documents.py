"""The documents: links resolve, documented commands parse, named files and names exist, figures stand in one place."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path

import click
import pytest

from pggan.cli import COMMANDS, cli
from pggan.config.losses import OBJECTIVES, all_options
from pggan.config.metrics import METRICS
from pggan.config.presets import PRESETS
from pggan.utils import limits
from pggan.utils.errors import PgganError
from pggan.utils.formatting import size

ROOT = Path(__file__).parents[1]
FOLDERS = ("checkpoints", "pggan", "tests", "tools")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))])
# options of other programs in commands that name pggan or a script of ours
OTHERS = {"--nnodes", "--nproc-per-node", "--rdzv-endpoint", "--logdir", "--durations", "--help"}

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)


def prose_of(document: Path) -> str:
    """A document without its blocks of code."""
    return FENCE.sub("", document.read_text(encoding="utf-8"))


def blocks_of(document: Path) -> list[str]:
    return [match[2] for match in FENCE.finditer(document.read_text(encoding="utf-8"))]


def inline_code_of(document: Path) -> list[str]:
    return [" ".join(code.split()) for code in INLINE.findall(prose_of(document))]


def command_lines_of(document: Path) -> list[tuple[list[str], bool]]:
    """Words of every command in a document, and whether it stands in a block, where it has to be whole."""
    lines: list[tuple[list[str], bool]] = []
    for block in blocks_of(document):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix("$ ")
            if re.match(r"(pggan|python3?|torchrun|pip|OMP_NUM_THREADS=\d+) ", line):
                lines.append((shlex.split(line.partition(" > ")[0], comments=True), True))
    for code in inline_code_of(document):
        if re.match(r"(pggan [a-z-]+|python3? tools/|tools/)", code):
            lines.append((shlex.split(code), False))
    return lines


def after_pggan(words: list[str]) -> list[str]:
    """The arguments of pggan, where a command runs it."""
    return words[words.index("pggan") + 1 :] if "pggan" in words and words[0] != "pip" else []


def script_of(words: list[str]) -> str | None:
    return next((word for word in words[:3] if word.startswith("tools/")), None)


def anchors_of(document: Path) -> list[str]:
    """Anchors of a document's headings, as GitHub makes them."""
    anchors: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", prose_of(document), re.MULTILINE):
        plain = LINK.sub(lambda match: match[0][1:].partition("]")[0], heading)
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        anchors.append(anchor if anchor not in anchors else f"{anchor}-{anchors.count(anchor)}")
    return anchors


def test_the_documents_are_there():
    names = {name_of(document) for document in DOCUMENTS}
    rooms = ("data", "training", "losses", "generation", "metrics", "interop", "report")
    assert {"README.md", "tools/README.md", "tests/README.md", "checkpoints/README.md"} <= names
    assert {f"pggan/{room}/README.md" for room in rooms} <= names
    assert sum(len(command_lines_of(document)) for document in DOCUMENTS) > 100


@each_document
def test_links_lead_somewhere(document):
    for target in LINK.findall(prose_of(document)):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (document.parent / path).resolve() if path else document
        assert place.exists(), f"{target}: no such file"
        assert place.is_relative_to(ROOT), f"{target}: outside"
        assert not anchor or anchor in anchors_of(place), f"{target}: no such heading"


def test_the_readme_is_short_and_links_every_other_document():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) <= 200
    start = "\n".join(lines[:40])
    assert re.search(r"^!\[[^\]]+\]\(checkpoints/portraits\.png\)$", start, re.MULTILINE)
    assert text.count("![") == 1
    for command in ("python3 tools/demo.py", "python3 tools/check.py"):
        assert re.search(rf"^{re.escape(command)}$", start, re.MULTILINE), command
    linked = {target.partition("#")[0] for target in LINK.findall(text)}
    missing = {name_of(document) for document in DOCUMENTS} - linked - {"README.md"}
    assert not missing


def parse_error(arguments: list[str]) -> click.ClickException | None:
    """What `pggan ARGUMENTS` would be refused for before it runs."""
    name, *rest = arguments
    command = cli.get_command(click.Context(cli), name)
    if command is None:
        return click.UsageError(f"there is no command {name}")
    try:
        command.make_context(name, [word for word in rest if word != "--help"])
    except click.ClickException as error:
        return error
    except (OSError, PgganError):  # of a file that the example names
        return None
    return None


@each_document
def test_documented_commands_parse(document):
    for words, whole in command_lines_of(document):
        arguments = after_pggan(words)
        if not arguments or arguments[0].startswith("-"):
            continue
        line = " ".join(words)
        error = parse_error(arguments)
        assert error is None or (isinstance(error, click.MissingParameter) and not whole), f"{line}: {error}"


@each_document
def test_documented_scripts_have_the_options_named(document):
    for words, _ in command_lines_of(document):
        script = script_of(words)
        if script is None:
            continue
        assert (ROOT / script).is_file(), script
        tools = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tools").rglob("*.py"))
        for word in words:
            if word.startswith("--") and word.partition("=")[0] not in OTHERS:
                assert re.search(rf"\"{word}[\"/]", tools), f"{' '.join(words)}: no option {word}"
            if word.startswith("tests/"):
                assert (ROOT / word).exists(), f"{' '.join(words)}: no {word}"


def every_option() -> set[str]:
    options = set(OTHERS)
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None, name
        for parameter in command.params:
            options |= {*parameter.opts, *parameter.secondary_opts}
    for path in (ROOT / "tools").rglob("*.py"):
        options |= set(re.findall(r"\"(--[a-z0-9-]+)", path.read_text(encoding="utf-8")))
    return options


@each_document
def test_options_named_in_the_text_exist(document):
    known = every_option()
    for code in inline_code_of(document):
        for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", code):
            assert option in known, f"`{code}`"


@each_document
def test_files_named_exist(document):
    text = document.read_text(encoding="utf-8")
    for path in re.findall(r"(?<![\w./])(?:pggan|tests|tools|checkpoints|fixtures)/[\w./-]*\w", text):
        if "NAME" not in path:
            inside = ROOT / "tests" / path if path.startswith("fixtures/") else ROOT / path
            assert inside.exists(), path
    modules = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    for code in inline_code_of(document):
        if re.fullmatch(r"\w+\.py", code) and code != "NAME.py":
            assert code in modules, code


def tools_section(heading: str) -> str:
    text = (ROOT / "tools/README.md").read_text(encoding="utf-8")
    return text.partition(f"{heading}\n")[2]


def rows_of(text: str) -> list[list[str]]:
    """Cells of the first table in a text, without its header."""
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table, "no table"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]


def test_what_is_said_to_be_in_a_file_is_there():
    rows = rows_of(tools_section("## Where to find things"))
    files: list[Path] = []
    for _, where in rows:
        named = [ROOT / code for code in INLINE.findall(where) if code.endswith(".py")]
        files = named + files[:1]  # "in the same file"
        text = "".join(path.read_text(encoding="utf-8") for path in files)
        for code in INLINE.findall(where):
            assert code.endswith(".py") or re.search(rf"^ *def {code}\b", text, re.MULTILINE), code
    assert len(rows) >= 10
    code = "".join(path.read_text(encoding="utf-8") for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    today = (ROOT / "tools/README.md").read_text(encoding="utf-8").partition("## Changelog\n")[0]
    tables = {word for word in INLINE.findall(today) if re.fullmatch(r"[A-Z]{5,}", word)}
    assert len(tables) >= 7
    assert not [name for name in tables if not re.search(rf"^{name}\b.* = ", code, re.MULTILINE)]


def test_new_names_in_the_upgrade_tables_exist():
    modules = rows_of(tools_section("### 0.2.0").partition("**Modules.**")[2])
    assert len(modules) > 20
    for _, new in modules:
        parent = ""
        for dotted in re.findall(r"`(\.?\w[\w.]*)`", new):
            module = parent + dotted if dotted.startswith(".") else dotted
            parent = module.rpartition(".")[0]
            path = ROOT / module.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").is_file(), module
    names = rows_of(tools_section("**Classes and functions:**"))
    assert len(names) > 8
    package = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "pggan").rglob("*.py"))
    for _, new in names:
        for name in (code.rpartition(".")[2] for code in INLINE.findall(new)):
            assert re.search(rf"^ *(?:class |def |(?={name}\b.*=)){name}\b", package, re.MULTILINE), name


def test_every_loss_technique_preset_metric_and_command_is_documented():
    def words_of(document: str) -> set[str]:
        return {word for code in inline_code_of(ROOT / document) for word in code.split()}

    losses = words_of("pggan/losses/README.md")
    assert losses >= set(OBJECTIVES.names())
    assert losses >= {option.flag for option in all_options().values()}
    assert words_of("pggan/training/README.md") >= set(PRESETS.names())
    assert words_of("pggan/metrics/README.md") >= set(METRICS.names())
    run = {after_pggan(words)[0] for document in DOCUMENTS for words, _ in command_lines_of(document)
           if after_pggan(words)}  # fmt: skip
    assert run >= set(COMMANDS)
    scripts = {name for name in words_of("tools/README.md") if re.fullmatch(r"tools/\w+\.py", name)}
    runnable = {f"tools/{path.name}" for path in (ROOT / "tools").glob("*.py") if "__main__" in path.read_text()}
    assert scripts >= runnable


def figures_of(document: Path) -> list[str]:
    """Rows of tables and lines of output that hold three numbers or more, commands left out."""
    rows = [line for line in prose_of(document).splitlines() if line.startswith("|")]
    text = document.read_text(encoding="utf-8")
    rows += [line for match in FENCE.finditer(text) if match[1] == "text" for line in match[2].splitlines()]
    return [" ".join(row.split()) for row in rows if len(NUMBER.findall(row)) >= 3]


def test_figures_stand_in_one_place():
    count = Counter(row for document in DOCUMENTS for row in figures_of(document))
    assert len(count) > 80
    assert not [row for row, times in count.items() if times > 1]


def test_limits_are_those_of_the_code():
    values = {name: value for name, value in vars(limits).items() if name.startswith("MAX_")}
    text = (ROOT / "pggan/data/README.md").read_text(encoding="utf-8").partition("\n## Limits\n")[2]
    shown = {name.strip("`"): limit for _, limit, name in rows_of(text)}
    in_bytes = {name for name in values if "BYTES" in name or "EXTRA" in name}
    assert shown == {name: size(value) if name in in_bytes else f"{value:,}" for name, value in values.items()}
