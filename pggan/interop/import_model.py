"""Models of other programs as model files of this one."""

from __future__ import annotations

from pathlib import Path

from pggan.interop import IMPORTERS
from pggan.networks.model_file import ModelFile
from pggan.utils.errors import ModelError

_SAFETENSORS_HEADER = 8


def import_model(path: str | Path, which: str = "gs") -> ModelFile:
    """The model in a file of another program; `checkpoints.save_model` writes it, `pggan.load` reads that.

    `which`: the generator's running average ("gs"), the generator itself in its place ("g"), or both ("all"). The
    discriminator is kept. Nothing in the file is executed. Raises `ModelError` for what cannot be read, `UsageError`
    for another `which`.
    """
    where = Path(path)
    if not where.is_file():
        what = "is a directory" if where.is_dir() else "does not exist"
        raise ModelError(f"{where} {what}; give a model file of another program")
    for entry in IMPORTERS:
        importer = IMPORTERS.load(entry.name)
        if importer.sniff(where):
            return importer.read(where).model(which)
    kinds = "; ".join(entry.summary for entry in IMPORTERS)
    if _is_safetensors(where):
        raise ModelError(f"{where} is a safetensors file; if it is pggan's, use it as it is. import reads {kinds}")
    raise ModelError(f"{where} is no model that can be imported; import reads {kinds}")


def _is_safetensors(path: Path) -> bool:
    with open(path, "rb") as file:
        start = file.read(_SAFETENSORS_HEADER + 1)
    return len(start) > _SAFETENSORS_HEADER and start[_SAFETENSORS_HEADER:] == b"{"
