"""What a store says of itself: JSON, written last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pggan.data.label_columns import LabelColumn

__all__ = ["FORMAT", "LabelColumn", "Manifest"]

FORMAT = 1
LOSSLESS = frozenset({"raw", "png", "webp"})


@dataclass(frozen=True)
class Manifest:
    """What a store holds and how it was made. `codecs` and `bytes` are by resolution.

    `digests`: BLAKE2b of each resolution's ("64x64") and the labels' ("labels") table of digests, empty in stores made
    before there were any. `exact`: every level is the mean of the full size that is kept. `shard`: of a part made by
    --shard, its "number", "of" how many, of a source of how many "pictures".
    """

    count: int
    channels: int
    resolutions: tuple[int, ...]
    codecs: Mapping[int, str]
    bytes: Mapping[int, int]
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[LabelColumn, ...] = ()
    attribution: str | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    exact: bool = False
    shard: Mapping[str, int] | None = None
    pggan: str = ""
    created: str = ""
    format: int = FORMAT

    def is_lossless(self, resolution: int) -> bool:
        return self.codecs[resolution] in LOSSLESS

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "resolutions": list(self.resolutions),
            "codecs": {str(k): v for k, v in self.codecs.items()},
            "bytes": {str(k): v for k, v in self.bytes.items()},
            "labels": [{"name": c.name, "classes": list(c.classes)} for c in self.labels],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Manifest:
        """Raises `KeyError`, `TypeError` or `ValueError` where something is missing or of another kind.

        Fields that this version does not know are passed over: a later one of the same format may add some.
        """
        known = {k: v for k, v in values.items() if k in cls.__dataclass_fields__}
        columns = tuple(LabelColumn(str(c["name"]), tuple(map(str, c["classes"]))) for c in known.get("labels", ()))
        found = cls(
            **{
                **known,
                "resolutions": tuple(sorted(int(r) for r in known["resolutions"])),
                "codecs": {int(k): str(v) for k, v in known["codecs"].items()},
                "bytes": {int(k): int(v) for k, v in known["bytes"].items()},
                "labels": columns,
                "digests": {str(k): str(v) for k, v in known.get("digests", {}).items()},
            }
        )
        if not isinstance(found.count, int) or found.count < 0 or found.channels not in (1, 3):
            raise ValueError(f"{found.count} pictures of {found.channels} channels")
        if not found.resolutions or set(found.resolutions) != set(found.codecs):
            raise ValueError("the resolutions and their codecs do not belong together")
        if found.shard is not None and not all(
            isinstance(found.shard[name], int) for name in ("number", "of", "pictures")
        ):
            raise ValueError("the shard is not a number of how many")
        return found
