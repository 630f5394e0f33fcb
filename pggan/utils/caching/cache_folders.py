"""Where the user's caches lie (torch-free)."""

from __future__ import annotations

import os
from pathlib import Path

from pggan.utils.caching.limits_of_caches import limit_of, remove_least_recent

_bounded: set[str] = set()  # caches that this process has brought within their limits


def cache_root() -> Path:
    """Returns the folder of pggan's caches, `$XDG_CACHE_HOME/pggan` or `~/.cache/pggan`. `RuntimeError`: no home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pggan"


def cache_folder(name: str) -> Path | None:
    """Makes and returns a folder for files that can be made again, None where none can be written.

    It lies in `cache_root()`. Containers may have no home, or one that is read-only. When a process asks for a folder
    first, that is brought within its limit (`limits_of_caches.CACHES`).
    """
    try:
        folder = cache_root() / name
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # a home that cannot be found is a RuntimeError
        return None
    if not os.access(folder, os.W_OK | os.X_OK):
        return None
    if name not in _bounded:
        _bounded.add(name)
        remove_least_recent(folder, limit_of(name))
    return folder
