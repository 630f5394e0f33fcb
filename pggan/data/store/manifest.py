"""The manifest of a store: its content and how it was made, as JSON. It is written last."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pggan.config.content.channels import KINDS, RGBA
from pggan.config.resolution import MAX_RESOLUTION, MIN_RESOLUTION
from pggan.data.duplicate_groups import Groups
from pggan.data.label_columns import MAX_NUMBER, LabelColumn, has_numbers
from pggan.data.store.checksums import TOTAL_SIZE, part_names
from pggan.data.store.codecs import CODECS
from pggan.utils.errors import DataError
from pggan.utils.formatting import size
from pggan.utils.limits import MAX_MANIFEST_BYTES

# The newest format, of stores that older versions would misread: RGBA, and numbers as labels. Others have format 1.
FORMAT = 2
LOSSLESS = frozenset({"raw", "png", "webp"})
_REQUIRED = ("count", "channels", "resolutions", "codecs", "bytes", "source")
_SIDES = {1 << level for level in range(MIN_RESOLUTION.bit_length() - 1, MAX_RESOLUTION.bit_length())}
_DIGEST = re.compile(rf"[0-9a-f]{{{2 * TOTAL_SIZE}}}")


@dataclass(frozen=True)
class Manifest:
    """What a store holds and how it was made."""

    count: int  # images
    channels: int  # 1, 3 or 4: RGBA, premultiplied
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
    duplicates: Groups = field(default_factory=dict)  # images that show the same (--duplicates keep)
    pggan: str = ""  # version that made the store
    created: str = ""  # UTC, ISO 8601

    @property
    def format(self) -> int:
        return 2 if self.channels == RGBA or has_numbers(self.labels) else 1

    def is_lossless(self, resolution: int) -> bool:
        return self.codecs[resolution] in LOSSLESS

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "format": self.format,
            "resolutions": list(self.resolutions),
            "codecs": {str(k): v for k, v in self.codecs.items()},
            "bytes": {str(k): v for k, v in self.bytes.items()},
            "labels": [column.to_json() for column in self.labels],
            "duplicates": {str(number): list(images) for number, images in self.duplicates.items()},
        }

    @classmethod
    def from_json(cls, values: Any) -> Manifest:
        """Reads the values of `to_json`. Ignores unknown fields: later versions of the same format may add some.

        Raises `ValueError` for missing or invalid values, `KeyError` for a missing field.
        """
        _expect(isinstance(values, dict), "it is no JSON object")
        missing = [name for name in _REQUIRED if name not in values]
        _expect(not missing, f"no {', '.join(missing)}")
        sides = values["resolutions"]
        _expect(isinstance(sides, list) and 0 < len(sides) <= len(_SIDES), "no resolutions")
        resolutions = tuple(sorted(_number(side, "a resolution", 1) for side in sides))
        _expect(set(resolutions) <= _SIDES and len(set(resolutions)) == len(sides), f"resolutions {resolutions}")
        columns = tuple(map(_column, _list(values.get("labels", []), "labels")))
        codecs = {int(side): codec for side, codec in _by_side(values, "codecs", resolutions)}
        _expect(all(codec in CODECS for codec in codecs.values()), f"codecs other than {', '.join(CODECS)}")
        channels = values["channels"]
        _expect(type(channels) is int and channels in KINDS, f"{channels!r:.40} channels")
        attribution, shard, exact = (values.get(name) for name in ("attribution", "shard", "exact"))
        _expect(exact in (True, False, None), "exact is neither true nor false")
        left_out = _object(values.get("left_out", {}), "left_out")
        return cls(
            count=_number(values["count"], "the count"),
            channels=channels,
            resolutions=resolutions,
            codecs=codecs,
            bytes={int(side): _number(total, "bytes") for side, total in _by_side(values, "bytes", resolutions)},
            source=_text(values["source"], "the source"),
            options=_options(_object(values.get("options", {}), "options")),
            labels=columns,
            attribution=None if attribution is None else _text(attribution, "the attribution"),
            left_out={_text(k, "left_out"): _number(n, "left_out") for k, n in left_out.items()},
            digests=_digests(_object(values.get("digests", {}), "digests"), part_names(resolutions, bool(columns))),
            exact=bool(exact),
            shard=None if shard is None else _shard(_object(shard, "shard")),
            duplicates=_duplicates(_object(values.get("duplicates", {}), "duplicates"), values["count"]),
            pggan=_text(values.get("pggan", ""), "the version"),
            created=_text(values.get("created", ""), "the date"),
        )

    @classmethod
    def parse(cls, text: memoryview) -> Manifest:
        """Reads a manifest record. Raises `ValueError`, `KeyError` or `RecursionError` for an invalid one."""
        _expect(len(text) <= MAX_MANIFEST_BYTES, f"a manifest of {len(text) >> 20} MiB")
        values = json.loads(bytes(text))
        if isinstance(values, dict) and _number(values.get("format"), "the format", 1) > FORMAT:
            raise NewerFormat(f"it has format {values['format']}, this pggan reads up to {FORMAT}; update pggan")
        return cls.from_json(values)


class NewerFormat(DataError):  # noqa: N818 (of the store)
    """A store of a later version."""


def check_size(manifest: Manifest) -> None:
    """Raises `DataError` for a manifest that would be too large to be read."""
    need = len(json.dumps(manifest.to_json()))
    if need > MAX_MANIFEST_BYTES // 2:
        raise DataError(
            f"the names of label columns, classes and sources take {size(need)}, more than the "
            f"{size(MAX_MANIFEST_BYTES // 2)} that a data store holds; give fewer or shorter ones"
        )


def _expect(fact: bool, fault: str) -> None:
    if not fact:
        raise ValueError(fault)


def _number(value: Any, name: str, low: int = 0) -> int:
    _expect(type(value) is int and low <= value < 1 << 63, f"{name}: {value!r:.40} is no whole number from {low}")
    return int(value)


def _text(value: Any, name: str) -> str:
    """Returns a text that every encoding can write: lone surrogates are escaped."""
    _expect(isinstance(value, str), f"{name}: {value!r:.40} is no text")
    return str(value).encode("utf-8", "backslashreplace").decode()


def _list(value: Any, name: str) -> list[Any]:
    _expect(isinstance(value, list), f"{name}: {value!r:.40} is no list")
    return list(value)


def _object(value: Any, name: str) -> dict[str, Any]:
    _expect(isinstance(value, dict), f"{name}: {value!r:.40} is no object")
    return dict(value)


def _by_side(values: dict[str, Any], name: str, resolutions: tuple[int, ...]) -> list[tuple[str, Any]]:
    """Returns the items of an object with one value per resolution."""
    items = _object(values[name], name)
    _expect(set(items) == set(map(str, resolutions)), f"the resolutions and their {name} do not belong together")
    return list(items.items())


def _column(value: Any) -> LabelColumn:
    column = _object(value, "a label column")
    if "bounds" in column:
        low, high = map(float, _list(column["bounds"], "bounds"))
        _expect(-MAX_NUMBER <= low < high <= MAX_NUMBER, f"bounds {low} and {high}")
        return LabelColumn(_text(column["name"], "a label column"), bounds=(low, high))
    classes = tuple(_text(entry, "a class") for entry in _list(column["classes"], "classes"))
    return LabelColumn(_text(column["name"], "a label column"), classes)


def _options(options: dict[str, Any]) -> dict[str, Any]:
    """Returns the options with scalars or lists of scalars as values."""
    checked = {}
    for name, value in options.items():
        values = [_scalar(entry, name) for entry in value] if isinstance(value, list) else _scalar(value, name)
        checked[_text(name, "an option")] = values
    if "quality" in checked:
        _expect(type(checked["quality"]) is int and 1 <= checked["quality"] <= 100, "quality is not from 1 to 100")
    return checked


def _scalar(value: Any, name: str) -> Any:
    if isinstance(value, str):
        return _text(value, name)
    plain = value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value))
    _expect(plain and (value is None or abs(value) < 1 << 63), f"option {name!r:.40}: {value!r:.40} is no plain value")
    return value


def _digests(digests: dict[str, Any], parts: list[str]) -> dict[str, str]:
    """Returns the digest of every part, or none at all."""
    valid = all(isinstance(value, str) and _DIGEST.fullmatch(value) for value in digests.values())
    _expect(valid and (not digests or set(digests) == set(parts)), "the digests are not those of its parts")
    return digests


def _shard(shard: dict[str, Any]) -> dict[str, int]:
    number, of, pictures = (_number(shard[name], f"shard: {name}") for name in ("number", "of", "pictures"))
    _expect(1 <= number <= of <= max(1, pictures), f"shard {number}/{of} of {pictures} pictures")
    return {"number": number, "of": of, "pictures": pictures}


def _duplicates(groups: dict[str, Any], count: int) -> dict[int, list[int]]:
    """Returns groups of images, none of which is in two."""
    checked = {
        int(number): [_number(image, "an image of duplicates") for image in _list(images, "duplicates")]
        for number, images in groups.items()
    }
    members = [image for images in checked.values() for image in images]
    _expect(len(set(members)) == len(members), "an image is in two groups of duplicates")
    _expect(all(checked.values()) and max(members, default=-1) < count, "duplicates beyond the count")
    _expect(min(checked, default=1) > 0, "a group of duplicates without a number")
    return checked
