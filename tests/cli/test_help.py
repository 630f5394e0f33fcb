"""The help of `pggan` and of its commands: whole lines without a terminal, groups, defaults, one text per option."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict

import click
import pytest

from pggan.cli import COMMANDS, SECTIONS, cli, run

WIDTH = 80
# options whose name means something else in each command that has them
OWN_MEANING = {
    "--out", "--n", "--count", "--seeds", "--seed", "--res", "--grid", "--labels", "--cache", "--mode", "--neighbours",
    "--max-res", "--workers", "--batch", "--channels", "--data", "--degrees", "--directions", "--force", "--from",
    "--best", "--latents", "--loss", "--sheet", "--steps", "--tuned", "--yes",
}  # fmt: skip


def loaded(name):
    parent = click.Context(cli, info_name="pggan", **cli.context_settings)
    command = cli.get_command(parent, name)
    return command, command.make_context(name, [], parent=parent, resilient_parsing=True)


def options_of(command):
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)


def test_each_command_is_one_whole_line_under_its_heading(capsys):
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert max(map(len, lines)) <= WIDTH
    positions = []
    for heading, entries in SECTIONS.items():
        positions.append(lines.index(f"{heading}:"))
        positions += [lines.index(f"  {name:<12}  {summary}") for name, summary in entries.items()]
    assert positions == sorted(positions)
    assert "..." not in text.split("\n", 1)[1]  # but for the first line: Usage: pggan [OPTIONS] COMMAND [ARGS]...


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_of_a_command_is_the_first_sentence_of_its_own_help(name):
    command, _ = loaded(name)
    assert command.name == name
    assert re.split(r"(?<=\.)\s", command.help, maxsplit=1)[0] == COMMANDS[name]


def test_help_imports_no_command_and_no_heavy_library():
    code = (
        "import sys; from pggan.cli import run; run(['--help']);print(*sorted(sys.modules), sep='\\n', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = done.stderr.split()
    assert [name for name in modules if name.startswith("pggan")] == [
        "pggan", "pggan.cli", "pggan.utils", "pggan.utils.errors", "pggan.utils.formatting", "pggan.utils.output",
        "pggan.utils.startup", "pggan.utils.version",
    ]  # fmt: skip
    assert not {"torch", "numpy", "cloup", "rich", "PIL", "lmdb"} & set(modules)


@pytest.mark.parametrize("name", COMMANDS)
def test_options_stand_in_groups_and_show_their_defaults(name, capsys):
    command, context = loaded(name)
    assert options_of(command) or name == "completion"
    for option in options_of(command):
        assert option.group.title, option.opts
        _, text = option.get_help_record(context)
        assert text.split("  [")[0].endswith("."), text
        if not option.is_flag:
            assert "[default: " in text or option.required, option.opts
    assert run([name, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= WIDTH
    for group in command.option_groups:
        assert f"{group.title}:" in lines


def test_an_option_of_several_commands_has_one_text():
    texts = defaultdict(dict)
    for name in COMMANDS:
        for option in options_of(loaded(name)[0]):
            for flag in set(option.opts) - OWN_MEANING:
                texts[flag].setdefault(option.help.split("  [")[0], []).append(name)
    assert sum(len(names) > 1 for by_text in texts.values() for names in by_text.values()) >= 12  # shared ones
    assert not {flag: by_text for flag, by_text in texts.items() if len(by_text) > 1}
