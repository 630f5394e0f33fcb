"""Imports a model of another program."""

from __future__ import annotations

from pathlib import Path

from pggan.interop import IMPORTERS
from pggan.networks.model_file import ModelFile
from pggan.utils.errors import ModelError
from pggan.utils.file_kind import head_of, kind_of
from pggan.utils.untrusted import reading

_SAFETENSORS_HEADER = 8


def import_model(path: str | Path, which: str = "gs") -> ModelFile:
    """Reads a model file of another program, without running anything in it. `model_file.save_model` writes the result.

    Args:
        path: the file.
        which: the EMA generator ("gs"), the trained generator in its place ("g"), or both ("all"). The discriminator
            comes along in any case.

    Raises:
        ModelError: the file cannot be read.
        UsageError: `which` is another word.
    """
    file = Path(path)
    if not file.is_file():
        problem = "is a directory" if file.is_dir() else "does not exist"
        raise ModelError(f"{file} {problem}; give a model file of another program")
    for entry in IMPORTERS:
        importer = IMPORTERS.load(entry.name)
        with reading(str(file), ModelError, "copy it again"):
            if importer.sniff(file):
                return importer.read(file).model(which)
    formats = "; ".join(entry.summary for entry in IMPORTERS)
    if _is_safetensors(file):
        raise ModelError(f"{file} is a safetensors file; if it is pggan's, use it as it is. import reads {formats}")
    kind = kind_of(head_of(file))
    raise ModelError(
        f"{file} is no model that can be imported{f', but {kind}' if kind else ''}; import reads {formats}"
    )


def _is_safetensors(path: Path) -> bool:
    with open(path, "rb") as file:
        start = file.read(_SAFETENSORS_HEADER + 1)
    return len(start) > _SAFETENSORS_HEADER and start[_SAFETENSORS_HEADER:] == b"{"
