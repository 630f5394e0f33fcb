"""Model files that lie: every one is refused in one line, at once."""

import json

import pytest
import safetensors
import safetensors.torch
import torch

from pggan import cli
from pggan.config.model_metadata import DIGEST_KEY, MODEL_KEY
from tests.helpers.model_files import saved


def changed(path, about=None, tensors=None, text=None):
    """Rewrites a model file with changed metadata, and without its digest."""
    with safetensors.safe_open(str(path), "pt") as file:
        metadata = json.loads(file.metadata()[MODEL_KEY])
        contents = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if about is not None:
        about(metadata)
    if tensors is not None:
        tensors(contents)
    safetensors.torch.save_file(contents, str(path), {MODEL_KEY: text or json.dumps(metadata), DIGEST_KEY: ""})
    return path


METADATA = {
    "a level beyond numbers": lambda about: about.update(level=10**30),
    "a level that is a text": lambda about: about.update(level="3"),
    "a level that is true": lambda about: about.update(level=True),
    "alpha not a number": lambda about: about.update(alpha=float("nan")),
    "alpha above 1": lambda about: about.update(alpha=1.5),
    "a broken format": lambda about: about.update(format=1.9),
    "a format that is true": lambda about: about.update(format=True),
    "equalized: no": lambda about: about["generator"].update(equalized="no"),
    "an infinite epsilon": lambda about: about["generator"].update(pixelnorm_epsilon=float("inf")),
    "a huge latent size": lambda about: about["generator"].update(latent_size=10**30),
    "a latent size that is true": lambda about: about["generator"].update(latent_size=True),
    "info that is a list": lambda about: about.update(info=[1, 2]),
    "a generator that is a text": lambda about: about.update(generator="generator"),
    "no generator": lambda about: about.pop("generator"),
    "a field of a newer version": lambda about: about.update(style=1),
    "widths that are a text": lambda about: about["generator"].update(widths="12"),
    "widths that are numbers with a comma": lambda about: about["generator"].update(widths=[8.5]),
    "labels with a text of classes": lambda about: about.update(labels={"name": "hair", "classes": "ab"}),
    "labels with classes that are true": lambda about: about.update(labels={"name": "hair", "classes": [True]}),
    "labels of another form": lambda about: about.update(labels={"hair": ["a", "b"]}),
    "kimg that are a text": lambda about: about.update(info={"kimg": "many"}),
    "kimg beyond numbers": lambda about: about.update(info={"kimg": 10**400}),
    "info that is not finite": lambda about: about.update(info={"score": float("inf")}),
    "info that is nested": lambda about: about.update(info={"a": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}),
    "a best score that is a text": lambda about: about.update(info={"best": {"metric": "swd", "score": "low"}}),
}


def refused(arguments, capsys):
    assert cli.run(arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "unexpected" not in lines[0]
    return lines[0]


@pytest.mark.parametrize("change", METADATA.values(), ids=METADATA)
def test_metadata_that_lie_are_refused_by_every_command(change, tmp_path, capsys):
    path = changed(saved(tmp_path / "model.safetensors"), change)
    reason = refused(["info", str(path)], capsys)
    for command in (["generate", path, "--n", "1", "--out", tmp_path / "out"], ["export", path, tmp_path / "a.onnx"],
                    ["train", tmp_path, "--from", path, "--out", tmp_path / "out", "--dry-run"]):  # fmt: skip
        assert refused([str(word) for word in command], capsys) == reason
    assert not (tmp_path / "out").exists()


def test_a_header_beyond_the_limit_is_refused_before_it_is_read(tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    with open(path, "wb") as file:
        file.write((1 << 36).to_bytes(8, "little") + b"{")
        file.truncate((1 << 36) + 8)  # of holes: it takes no room on the disk
    assert "header" in refused(["info", str(path)], capsys)


TEXTS = ["[" * 100_000, '{"format": 1}', "[]", "1", '{"format": 1, "generator": null}', '{"format": "\\ud800"}']


@pytest.mark.parametrize("text", TEXTS)
def test_metadata_of_another_form_are_refused(text, tmp_path, capsys):
    path = changed(saved(tmp_path / "model.safetensors"), text=text)
    refused(["info", str(path)], capsys)
    refused(["generate", str(path), "--n", "1", "--out", str(tmp_path / "out")], capsys)


KINDS = {
    "NaN": lambda tensor: tensor.fill_(float("nan")),
    "infinity": lambda tensor: tensor.fill_(float("inf")),
    "integers": lambda tensor: tensor.to(torch.int64),
    "booleans": lambda tensor: tensor.to(torch.bool),
    "8-bit floats": lambda tensor: tensor.to(torch.float8_e4m3fn),
    "complex numbers": lambda tensor: tensor.to(torch.complex64),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_weights_that_are_no_finite_numbers_are_refused(kind, tmp_path, capsys):
    name = "generator.to_rgb.4x4.weight"
    path = changed(saved(tmp_path / "model.safetensors"), tensors=lambda c: c.update({name: kind(c[name])}))
    assert name in refused(["generate", str(path), "--n", "1", "--out", str(tmp_path / "out")], capsys)


def enlarged(name, factor):
    return lambda contents: contents.update({name: torch.full_like(contents[name], factor)})


@pytest.mark.parametrize("level", [2, 4])
def test_finite_weights_that_overflow_are_told_and_leave_no_picture(level, tmp_path, capsys):
    change = enlarged(f"generator.to_rgb.{2**level}x{2**level}.weight", 3e38)
    path = changed(saved(tmp_path / "model.safetensors", level=level), tensors=change)
    for command in (["generate", path, "--n", "2", "--out", tmp_path / "out"],
                    ["interpolate", path, "--seconds", "0.2", "--out", tmp_path / "walk.gif"]):  # fmt: skip
        reason = refused([str(word) for word in command], capsys)
        assert "not finite" in reason
        assert str(path) in reason
    assert not list((tmp_path / "out").glob("*.png"))
    assert not (tmp_path / "walk.gif").exists()
