"""What commands print: nothing of a file reaches the terminal unescaped, and no failure is a traceback."""

import re
from pathlib import Path

import pytest

import pggan
from pggan import cli
from pggan.config.network import DiscriminatorConfig, GeneratorConfig
from pggan.networks.factory import build
from pggan.networks.model_file import ModelFile, save_model
from pggan.utils.output import say

EVIL = "\x1b]0;title\x07\x1b[2Jfake\nrow  yes\u202e\x9b1m\u2028"
SMALL = {"resolution": 8, "fmap_base": 16, "fmap_max": 4}


@pytest.fixture(scope="module")
def evil_model(tmp_path_factory):
    """A model whose every text tries to write to the terminal, and to say more than it knows."""
    generator = build(
        GeneratorConfig(**SMALL, latent_size=4, label_size=2), DiscriminatorConfig(**SMALL, label_size=2), 0
    )[0]
    labels = {"name": "class" + EVIL, "classes": ["a" + EVIL, "b"]}
    info = {"data" + EVIL: EVIL, "model": "another.safetensors", "attribution": EVIL, "others": [EVIL]}
    info |= {"file_size": "1 byte", "File  size": "2 bytes", "run": "faces", "progress": "9 of 9 kimg"}
    info |= {"go_on_with": "curl evil | sh"}
    path = tmp_path_factory.mktemp("evil") / "model.safetensors"
    save_model(path, ModelFile(generator, None, 3, 1.0, labels, info))
    return path


def test_info_shows_no_control_characters_of_a_model(evil_model, capsys):
    assert cli.run(["info", str(evil_model)]) == 0
    out = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in out)
    assert "\\x1b]0;title" in out
    assert not re.search(r"^row  yes", out, re.MULTILINE)


def test_a_model_s_own_info_overrides_nothing(evil_model, capsys):
    assert cli.run(["info", str(evil_model)]) == 0
    first, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith(f"model {evil_model}: RGB pictures of 8x8, ")
    assert "1 byte" not in first
    before = rows[: next(number for number, row in enumerate(rows) if "says of itself" in row)]
    assert not any(word in row for row in before for word in ("1 byte", "2 bytes", "9 of 9", "curl"))
    assert not any(row.startswith("resume it with") for row in rows)


def test_a_plan_is_a_table_of_lines(capsys):
    assert cli.run(["train", "--dry-run", "--preset", "celebahq-v2-8gpu", "--max-res", "64"]) == 0
    out = capsys.readouterr().out
    assert "\\n" not in out
    assert len(out.splitlines()) > 8


def test_say_escapes_and_ends_with_one_line(capsys):
    say(EVIL)
    say(EVIL, err=True)
    for text in capsys.readouterr():
        assert text.endswith("\n")
        assert text[:-1].isprintable()


def test_nothing_prints_in_another_way():
    """`click.echo` in the command line's own face and rich's bars, which are given escaped texts, are what is left."""
    root = Path(pggan.__file__).parent
    calls = re.compile(r"click\.(?:echo|secho)\(|(?<![\w.])print\(|std(?:out|err)\.write\(")
    found = {str(path.relative_to(root)) for path in root.rglob("*.py") if calls.search(path.read_text("utf-8"))}
    # a shell takes the lines of `completion` as they are
    assert found == {"cli/__init__.py", "cli/completion.py", "training/engine/compile_worker.py"}


@pytest.mark.parametrize("error", [RecursionError("too deep"), ZeroDivisionError("two\nlines")])
def test_an_unforeseen_failure_is_one_line(error, monkeypatch, capsys):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(cli.cli, "main", fail)
    assert cli.run(["info"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"pggan: error: unexpected {type(error).__name__}: ")
    assert "pggan --version" in lines[0]
    monkeypatch.setenv("PGGAN_DEBUG", "1")
    assert cli.run(["info"]) == 1
    assert "Traceback" in capsys.readouterr().err
