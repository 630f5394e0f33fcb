"""What came of the pictures: used, converted, left out, bad."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pggan.data.prepare.convert import BAD, NOT_SQUARE, TOO_SMALL, Converted
from pggan.data.store.staging import Unusable

NAMED_BAD = 100


class ConversionStats:
    """Counts; goes on from another's `notes`."""

    def __init__(self, strict: bool, whole: bool, notes: dict[str, Any] | None = None) -> None:
        notes = notes or {}
        self.strict, self.whole = strict, whole
        self.left_out: Counter[str] = Counter(notes.get("left_out"))
        self.converted: Counter[str] = Counter(notes.get("converted"))
        self.bad: list[dict[str, str]] = list(notes.get("bad", ()))
        self.first: str = notes.get("first", "")

    def notes(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "left_out": dict(self.left_out),
            "converted": dict(self.converted),
            "bad": self.bad,
            "first": self.first,
        }

    def take(self, result: Converted) -> bool:
        """Whether the picture is used. Raises `DataError` for a bad one under --strict."""
        if result.records is not None:
            self.converted.update(result.notes)
            return True
        name = printable(result.name)
        self.left_out[result.kind] += 1
        self.first = self.first or f"{name}: {result.kind} ({result.reason})"
        if self.whole:
            raise Unusable(f"{self.first}; the set is to be taken whole, mend or replace this picture")
        if result.kind == BAD:
            if self.strict:
                raise Unusable(f"{name}: {result.reason} (--strict); mend or remove it, or leave --strict out")
            if len(self.bad) < NAMED_BAD:
                self.bad.append({"name": name, "reason": result.reason})
        return False

    def why_none(self, max_res: int) -> str:
        if set(self.left_out) == {TOO_SMALL}:
            return f"they are smaller than {max_res}x{max_res}; give a lower --max-res, or --upscale"
        if set(self.left_out) == {NOT_SQUARE}:
            return "none is square; give --fit crop or pad"
        return f"the first is {self.first}; check that SOURCE is whole"


def printable(name: str) -> str:
    """A file's name as it can be shown and stored anywhere: bytes that are no text, and control characters, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
