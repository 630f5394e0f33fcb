"""Files made for the user to download: in a temporary folder that goes with the server, named by random numbers."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

# Files kept; the oldest one goes first.
MOST_FILES = 8
KINDS = {
    ".png": "image/png", ".zip": "application/zip", ".mp4": "video/mp4", ".gif": "image/gif", ".webp": "image/webp",
    ".safetensors": "application/octet-stream", ".json": "application/json",
}  # fmt: skip


@dataclass(frozen=True)
class ExportedFile:
    """A file to download."""

    path: Path
    name: str  # for the user

    @property
    def kind(self) -> str:
        return KINDS[self.path.suffix]


class Exports:
    """The exported files of one server."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._files: OrderedDict[str, ExportedFile] = OrderedDict()
        self._lock = threading.Lock()

    def new_path(self, ending: str) -> Path:
        """Returns a path for a new file, which `add` lists once it is whole."""
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="pggan-explore-"))
            return self._folder / f"{secrets.token_hex(8)}{ending}"

    def add(self, path: Path, name: str) -> dict[str, object]:
        """Lists a file under a name for the user; returns what the page needs to fetch it."""
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._files[key] = ExportedFile(path, name)
            while len(self._files) > MOST_FILES:
                self._files.popitem(last=False)[1].path.unlink(missing_ok=True)
        return {"file": f"/files/{key}", "name": name, "bytes": path.stat().st_size}

    def find(self, key: str) -> ExportedFile | None:
        """Returns a listed file, None for any other key."""
        return self._files.get(key)

    def close(self) -> None:
        """Removes all files."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
