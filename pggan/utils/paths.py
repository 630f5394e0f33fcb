"""Paths of models and training states in runs and in the package, and the user's own folder (torch-free)."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from pggan.utils.caching.cache_folders import cache_folder
from pggan.utils.errors import ModelError, UsageError

MODELS, STATES = "models", "checkpoints"
BEST = "best.safetensors"
DEFAULT_MODEL = "portraits"  # that commands use where no model is named
_PACKAGE = Path(__file__).parents[1]
_PACKAGED = _PACKAGE / "_checkpoints"
_CHECKOUT = _PACKAGE.parent / "checkpoints"


def data_folder() -> Path:
    """Returns the folder for the user's own files (`$XDG_DATA_HOME/pggan`, else `~/.local/share/pggan`)."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "pggan"


def keep_compiled() -> None:
    """Puts torch's cache of compiled code in the user's cache folder, unless the user set TORCHINDUCTOR_CACHE_DIR.

    Torch's default, which it may have set in that variable already, is in the temporary folder and is lost at a reboot.
    """
    chosen = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    own = Path(tempfile.gettempdir()) / "torchinductor_"
    if chosen is None or chosen.startswith(str(own)):
        # torch's default asks for the user's name, which the users of some containers lack
        own_place = Path(f"{own}{os.getuid() if hasattr(os, 'getuid') else 'user'}")
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache_folder("compiled") or chosen or own_place)


def numbered(folder: Path, stem: str) -> list[Path]:
    """Returns the files `stem-NNN.safetensors` of a folder, lowest number first."""
    pattern = re.compile(rf"{stem}-(\d+)\.safetensors")
    numbers = [(int(m[1]), p) for p in folder.glob(f"{stem}-*.safetensors") if (m := pattern.fullmatch(p.name))]
    return [path for _, path in sorted(numbers)]


def shipped() -> dict[str, Path]:
    """Returns the models shipped with the package, by name; the first one is the default model."""
    folder = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
    files = sorted(folder.glob("*.safetensors"), key=lambda path: (path.stem != DEFAULT_MODEL, path.stem))
    return {path.stem: path for path in files}


def _best(name: str | Path | None) -> Path:
    """Finds the best model of a run."""
    if name is None or not Path(name).is_dir():
        raise UsageError("--best is about a run; give its directory, or leave --best out")
    for folder in (Path(name) / MODELS, Path(name)):
        if (folder / BEST).is_file():
            return folder / BEST
    raise ModelError(
        f"{name} holds no best model yet: it is kept from the first evaluation on (swd: at 16x16); leave --best out"
    )


def find_model(name: str | Path | None, best: bool = False) -> Path:
    """Finds the model file for a model argument.

    Args:
        name: A model file, a run directory (its newest model), a shipped model's name, an address of the Hugging Face
            Hub (`hf://user/name@revision`), or None (the default model).
        best: Take the run's best model by its metric instead of its newest.

    Raises `ModelError` where there is no such file, `UsageError` for `best` without a run directory.
    """
    if best:
        return _best(name)
    available = shipped()
    if name is None:
        if not available:
            raise ModelError("no model is shipped with this installation; give a model file or a run directory")
        return next(iter(available.values()))
    if str(name).startswith("hf:/"):
        from pggan.utils.caching.hub_files import HubAddress, fetch_model

        return fetch_model(HubAddress.parse(str(name)))
    if not isinstance(name, (str, os.PathLike)) or not str(name):
        raise ModelError(
            f"{name!r} is no name of a model; give a model file, a run directory or a shipped model's name"
        )
    path = Path(name) if os.path.lexists(name) else Path(os.path.expanduser(name))
    if path.is_dir():
        models = numbered(path / MODELS, "model") or numbered(path, "model")
        if not models:
            raise ModelError(f"{path} holds no model yet; give a model file, or a run that has made a snapshot")
        return models[-1]
    if path.exists():
        return path
    if str(name) not in available:
        known = f" (shipped: {', '.join(available)})" if available else ""
        raise ModelError(f"{name} is neither a model file, a run directory nor a shipped model{known}")
    return available[str(name)]
