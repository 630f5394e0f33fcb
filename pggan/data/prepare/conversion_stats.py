"""Counts of a preparation: images used, converted, left out, bad."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pggan.data.prepare.convert import BAD, NOT_SQUARE, TOO_SMALL, ConversionResult
from pggan.data.store.staging import UnusableStore
from pggan.utils.formatting import printable

MAX_NAMED_BAD = 100


class ConversionStats:
    """Counts conversion results.

    Args:
        strict: A bad image is an error.
        whole: Any image that is left out is an error.
        notes: Counts of the run that is resumed, from `notes()`.
    """

    def __init__(self, strict: bool, whole: bool, notes: dict[str, Any] | None = None) -> None:
        notes = notes or {}
        self.strict, self.whole = strict, whole
        self.left_out: Counter[str] = Counter(notes.get("left_out"))  # by reason
        self.converted: Counter[str] = Counter(notes.get("converted"))  # by conversion
        self.bad: list[dict[str, str]] = list(notes.get("bad", ()))  # name and reason, the first MAX_NAMED_BAD
        self.used: int = notes.get("used", 0)  # images
        # images that show the same, by the number of their group
        self.groups: dict[int, list[int]] = {int(group): images for group, images in notes.get("groups", {}).items()}
        self.first: str = notes.get("first", "")  # the first image left out, and why

    def notes(self) -> dict[str, Any]:
        """Returns the counts as JSON values."""
        return {
            "left_out": dict(self.left_out),
            "converted": dict(self.converted),
            "bad": self.bad,
            "first": self.first,
            "used": self.used,
            "groups": self.groups,
        }

    def count(self, result: ConversionResult) -> bool:
        """Counts a result; returns whether the image is used. Raises `UnusableStore` if an option makes it an error."""
        if result.records is not None:
            self.converted.update(result.notes)
            if result.group:
                self.groups.setdefault(result.group, []).append(self.used)
            self.used += 1
            return True
        name = printable(result.name)
        self.left_out[result.kind] += 1
        self.first = self.first or f"{name}: {result.kind} ({result.reason})"
        if self.whole:
            raise UnusableStore(f"{self.first}; the set is to be taken whole, mend or replace this picture")
        if result.kind == BAD:
            if self.strict:
                raise UnusableStore(f"{name}: {result.reason} (--strict); mend or remove it, or leave --strict out")
            if len(self.bad) < MAX_NAMED_BAD:
                self.bad.append({"name": name, "reason": result.reason})
        return False

    def why_none(self, max_res: int) -> str:
        """Explains why no image could be used, with advice."""
        if set(self.left_out) == {TOO_SMALL}:
            return f"they are smaller than {max_res}x{max_res}; give a lower --max-res, or --upscale"
        if set(self.left_out) == {NOT_SQUARE}:
            return "none is square; give --fit crop or pad"
        return f"the first is {self.first}; check that SOURCE is whole"
