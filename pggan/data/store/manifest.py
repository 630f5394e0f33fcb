"""The manifest of a store: its content and how it was made, as JSON. It is written last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pggan.data.label_columns import LabelColumn

FORMAT = 1
LOSSLESS = frozenset({"raw", "png", "webp"})


@dataclass(frozen=True)
class Manifest:
    """What a store holds and how it was made."""

    count: int  # images
    channels: int  # 1 or 3
    resolutions: tuple[int, ...]  # ascending
    codecs: Mapping[int, str]  # by resolution
    bytes: Mapping[int, int]  # sum of the records, by resolution
    source: str  # name of the SOURCE argument
    options: Mapping[str, Any] = field(default_factory=dict)  # those that affect the content
    labels: tuple[LabelColumn, ...] = ()
    attribution: str | None = None  # whom the licence of the images asks to name
    left_out: Mapping[str, int] = field(default_factory=dict)  # images, by reason
    # BLAKE2b of the digests of each level ("64x64") and of the labels ("labels"); empty in stores of old versions
    digests: Mapping[str, str] = field(default_factory=dict)
    exact: bool = False  # every level is the 2x2 mean of the stored full size, to the bit
    # of a part made by --shard: "number" (from 1), "of" (how many), "pictures" (images of the source)
    shard: Mapping[str, int] | None = None
    pggan: str = ""  # version that made the store
    created: str = ""  # UTC, ISO 8601
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
        """Reads the values of `to_json`. Ignores unknown fields: later versions of the same format may add some.

        Raises `KeyError`, `TypeError` or `ValueError` for missing or invalid values.
        """
        known = {k: v for k, v in values.items() if k in cls.__dataclass_fields__}
        columns = tuple(LabelColumn(str(c["name"]), tuple(map(str, c["classes"]))) for c in known.get("labels", ()))
        manifest = cls(
            **{
                **known,
                "resolutions": tuple(sorted(int(r) for r in known["resolutions"])),
                "codecs": {int(k): str(v) for k, v in known["codecs"].items()},
                "bytes": {int(k): int(v) for k, v in known["bytes"].items()},
                "labels": columns,
                "digests": {str(k): str(v) for k, v in known.get("digests", {}).items()},
            }
        )
        if not isinstance(manifest.count, int) or manifest.count < 0 or manifest.channels not in (1, 3):
            raise ValueError(f"{manifest.count} pictures of {manifest.channels} channels")
        if not manifest.resolutions or set(manifest.resolutions) != set(manifest.codecs):
            raise ValueError("the resolutions and their codecs do not belong together")
        if manifest.shard is not None and not all(
            isinstance(manifest.shard[name], int) for name in ("number", "of", "pictures")
        ):
            raise ValueError("the shard needs whole numbers: number, of, pictures")
        return manifest
