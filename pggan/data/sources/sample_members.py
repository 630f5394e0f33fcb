"""Which images of a webdataset sample are pictures: `7.image.png` is, `7.mask.png` beside it is not.

A member's name is its file's name from the first dot on, without the ending: `image`; `""` for `7.png`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from pggan.utils.errors import UsageError

# Names that say pictures, in the order of preference, and names that say something else.
PICTURES = ("image", "images", "img", "picture", "photo", "rgb", "color", "input")
OTHERS = frozenset({
    "mask", "masks", "seg", "segmentation", "segm", "label", "labels", "depth", "normal", "normals", "alpha", "matte",
    "edge", "edges", "thumb", "thumbnail", "target", "annotation", "parsing", "sketch",
})  # fmt: skip
# More distinct names are parts of file names, as in photo.1.png, photo.2.png.
_MAX_NAMES = 64


class SampleMembers:
    """Counts the images of samples by member, and chooses among them.

    Args:
        wanted: The member to read: `image`, `image.png` or `png`; None: see `choose`.
    """

    def __init__(self, wanted: str | None = None) -> None:
        self._wanted = wanted
        self._counts: Counter[tuple[str, str]] = Counter()  # images by member and ending
        self._paired = False  # whether a sample has several images
        self._last, self._total = "", 0
        self._included: frozenset[tuple[str, str]] | None = None  # members that are read; None: all

    def add(self, key: str, name: str) -> None:
        """Counts an image of the sample `key`."""
        self._paired |= key == self._last
        self._last = key
        self._total += 1
        member = _member(name)
        if member in self._counts or len(self._counts) <= _MAX_NAMES or self._is_wanted(*member):
            self._counts[member] += 1

    def _is_wanted(self, name: str, ending: str) -> bool:
        """Whether `wanted` names this member."""
        text = (self._wanted or "").lower().strip(".")
        return self._wanted is not None and text in (name, ending, f"{name}.{ending}")

    @property
    def count(self) -> int:
        """The number of images that are read."""
        return self._total if self._included is None else sum(self._counts[member] for member in self._included)

    def includes(self, name: str) -> bool:
        """Whether an image is read."""
        return self._included is None or _member(name) in self._included

    def choose(self, spec: str) -> None:
        """Chooses which images are read: the member that is wanted.

        Without one, it is the member whose name says pictures, or the only one whose name does not say something else.

        Args:
            spec: The SOURCE argument, for messages.

        Raises:
            UsageError: No sample has the member.
        """
        if self._wanted is not None:
            self._include(self._is_wanted)
            if not self._included:
                raise UsageError(
                    f"--member {self._wanted}: no sample of {spec} has it; they have {_listed(self._counts)}"
                )
            return
        names = {member for member, _ in self._counts}
        if self._paired and len(names) > 1 and len(self._counts) <= _MAX_NAMES:
            pictures = [name for name in PICTURES if name in names][:1] or list(names - OTHERS)
            if len(pictures) == 1:
                self._include(lambda name, ending: name == pictures[0])

    def _include(self, matches: Callable[[str, str], bool]) -> None:
        self._included = frozenset(member for member in self._counts if matches(*member))

    def remark(self) -> str | None:
        """Returns what was passed over, or that samples have several images which are all read."""
        if self._included is not None:
            passed = [member for member in self._counts if member not in self._included]
            count = sum(self._counts[member] for member in passed)
            return f"passed over {count} others: {_listed(passed)}; --member NAME chooses" if passed else None
        if self._paired and 1 < len(self._counts) <= _MAX_NAMES:
            return f"samples hold several pictures, all are read: {_listed(self._counts)}; --member NAME chooses"
        return None


def _listed(members: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{name}.{ending}".strip(".") for name, ending in sorted(members)[:5])


def _member(name: str) -> tuple[str, str]:
    """Splits a file name into member and ending, in lower case: `a/7.image.png` is ("image", "png")."""
    parts = name.rpartition("/")[2].lower().split(".")
    return ".".join(parts[1:-1]), parts[-1]
