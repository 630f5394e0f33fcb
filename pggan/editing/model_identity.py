"""Which model a file of latents, directions or tuned weights belongs to: name and SHA-256 of the model file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pggan.generation.model import Model
from pggan.utils.errors import ModelError


@dataclass(frozen=True)
class ModelIdentity:
    """Name and digest of a model file; no digest for a model that is in no file."""

    name: str
    sha256: str | None

    @classmethod
    def of(cls, model: Model) -> ModelIdentity:
        """Returns the identity of a loaded model; reads its file."""
        if model.path is None:
            return cls(model.name, None)
        return cls(model.name, hashlib.sha256(model.path.read_bytes()).hexdigest())

    @classmethod
    def from_json(cls, entry: Any) -> ModelIdentity:
        """Reads what `to_json` returns. Raises `ModelError` for anything else."""
        if isinstance(entry, Mapping):
            name, digest = entry.get("name"), entry.get("sha256")
            is_digest = digest is None or (isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest))
            if isinstance(name, str) and len(name) <= 1000 and is_digest:
                return cls(name, digest)
        raise ModelError("the name and digest of its model are not readable; copy or make the file again")

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "sha256": self.sha256}

    def fits(self, other: ModelIdentity) -> bool:
        """Returns whether both are the same file. Models in no file are the same where their names are."""
        return self.sha256 == other.sha256 and (self.sha256 is not None or self.name == other.name)

    def __str__(self) -> str:
        return f"{self.name} ({self.sha256[:12]})" if self.sha256 else self.name
