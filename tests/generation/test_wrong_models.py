"""A file that is no model: what it is, and what helps, the same from every command that takes a model."""

import pickle
import shlex
import zipfile

import pytest

from pggan import cli
from pggan.networks.model_file import save_model
from tests.helpers.image_files import encoded, portrait, write_folder
from tests.helpers.model_files import model_file

PAGE = b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head>" + b" " * 400
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 92340123\n"
FILES = {
    "page.pkl": (PAGE, "is no model but a saved web page"),
    "page.safetensors": (PAGE, "is no model but a saved web page"),
    "pointer.safetensors": (POINTER, "is no model but a Git LFS pointer, not the file itself; run git lfs pull"),
    "empty.safetensors": (b"", "is no model but an empty file"),
    "face.png": (encoded(portrait(0)), "is no model but a PNG picture"),
    "files.zip": (b"PK\3\4" + bytes(99), "is no model but a zip archive"),
    "official network.pkl": (pickle.dumps({"a": 1}, 2), "import it first: pggan import "),
    "zoo.pth": (b"PK\3\4" + bytes(99), "import it first: pggan import "),
    "random.safetensors": (b"\x07" * 999, "is not a whole pggan model"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", ["generate", "info", "evaluate", "train"])
def test_what_a_file_is_instead_of_a_model_is_said(tmp_path, capsys, command, name):
    data, message = FILES[name]
    path = tmp_path / name
    path.write_bytes(data)
    write_folder(tmp_path / "pictures", 4, 8)
    arguments = {
        "generate": ["generate", path, "--n", "1", "--out", tmp_path / "out"],
        "info": ["info", path],
        "evaluate": ["evaluate", path, "--data", tmp_path / "pictures"],
        "train": ["train", "--from", path, "--max-res", "8", "--out", tmp_path / "run"],
    }[command]
    if command == "evaluate" and name in ("face.png", "files.zip"):
        message = "pggan: error: "  # evaluate takes pictures in a model's place
    assert cli.run([str(argument) for argument in arguments]) in (1, 2)
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1
    if "pggan import" in message:  # the command can be pasted
        words = shlex.split(err.partition("import it first: ")[2])
        assert words == ["pggan", "import", str(path), path.with_suffix(".safetensors").name]


def test_commands_that_are_printed_can_be_pasted(tmp_path, capsys):
    write_folder(tmp_path / "in", 4, 8)
    data, run = tmp_path / "my data", tmp_path / "it's a run"
    assert cli.run(["prepare-data", str(tmp_path / "in"), str(data), "--max-res", "8", "--quiet"]) == 0
    options = ["--preset", "demo", "--max-res", "8", "--stable-kimg", "0.05", "--fade-kimg", "0.02", "--quiet"]
    capsys.readouterr()
    assert cli.run(["train", str(data), *options, "--out", str(run)]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("new pictures: "))
    assert shlex.split(line.removeprefix("new pictures: "))[:3] == ["pggan", "generate", str(run)]


def test_a_picture_s_name_for_a_folder_is_said(tmp_path, capsys):
    save_model(tmp_path / "m.safetensors", model_file(resolution=8))
    arguments = ["generate", str(tmp_path / "m.safetensors"), "--n", "1", "--out"]
    assert cli.run([*arguments, str(tmp_path / "face.png")]) == 2
    assert "face.png names a folder here, and .png is a file's ending" in capsys.readouterr().err
    assert not (tmp_path / "face.png").exists()


def test_a_torch_checkpoint_is_told_from_another_zip(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("readme.txt", "hello")
    assert cli.run(["import", str(tmp_path / "a.zip"), str(tmp_path / "m.safetensors")]) == 1
    assert "is no model that can be imported, but a zip archive" in capsys.readouterr().err
