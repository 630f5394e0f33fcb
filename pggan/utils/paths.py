"""Where models and training states lie: in runs, in files, in the package (torch-free)."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from pggan.utils.errors import ModelError, UsageError

MODELS, STATES = "models", "checkpoints"
BEST = "best.safetensors"
_PACKAGE = Path(__file__).parents[1]
_PACKAGED = _PACKAGE / "_checkpoints"
_CHECKOUT = _PACKAGE.parent / "checkpoints"


def cache_folder() -> Path:
    """Where this user's programs keep what they can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pggan"


def keep_compiled() -> None:
    """Lets torch keep compiled code between runs in the user's cache, unless TORCHINDUCTOR_CACHE_DIR says where.

    Its own choice is a folder of the temporary one, which is emptied; it may have set that already.
    """
    chosen = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    own = Path(tempfile.gettempdir()) / "torchinductor_"
    if chosen is None or chosen.startswith(str(own)):
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache_folder() / "compiled")


def numbered(folder: Path, stem: str) -> list[Path]:
    """The files `stem-NNN.safetensors` of a folder, oldest first."""
    pattern = re.compile(rf"{stem}-(\d+)\.safetensors")
    found = [(int(m[1]), p) for p in folder.glob(f"{stem}-*.safetensors") if (m := pattern.fullmatch(p.name))]
    return [path for _, path in sorted(found)]


def shipped() -> dict[str, Path]:
    """The models that come with the package, by name; the first is used where no model is named."""
    folder = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def _best(name: str | Path | None) -> Path:
    if name is None or not Path(name).is_dir():
        raise UsageError("--best is about a run; give its directory, or leave --best out")
    for folder in (Path(name) / MODELS, Path(name)):
        if (folder / BEST).is_file():
            return folder / BEST
    raise ModelError(
        f"{name} holds no best model yet: it is kept from the first evaluation on (swd: at 16x16); leave --best out"
    )


def find_model(name: str | Path | None, best: bool = False) -> Path:
    """The file behind a model argument: a file, a run directory (its newest model), a shipped name, or None.

    `best`: of a run, the one that its metric found best. Raises `ModelError` where there is no such file.
    """
    if best:
        return _best(name)
    available = shipped()
    if name is None:
        if not available:
            raise ModelError("no model is shipped with this installation; give a model file or a run directory")
        return next(iter(available.values()))
    path = Path(name)
    if path.is_dir():
        models = numbered(path / MODELS, "model") or numbered(path, "model")
        if not models:
            raise ModelError(f"{path} holds no model yet; give a model file, or a run that has made a snapshot")
        return models[-1]
    if not path.exists() and str(name) in available:
        return available[str(name)]
    if not path.exists():
        known = f" (shipped: {', '.join(available)})" if available else ""
        raise ModelError(f"{name} is neither a model file, a run directory nor a shipped model{known}")
    return path
