"""Chooses among several arrays of a file: names that say pictures win, those of masks lose; the rest is passed over."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from pggan.utils.errors import DataError
from pggan.utils.formatting import printable

# Names of label arrays beside an array of images, in the order of preference.
LABEL_NAMES = ("labels", "label", "y", "y_train", "train_labels", "classes", "attributes")
_IMAGE_WORDS = frozenset(
    ("image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "rgb", "faces", "x")
)
_MASK_WORDS = frozenset(
    ("mask", "masks", "seg", "segmentation", "segmentations", "annotation", "annotations", "depth", "depths", "edges")
) | {"normals", "parsing", "target", "targets", "gt", "label", "labels", "y"}
_SPLIT_WORDS = {"train": 1, "training": 1, "test": 0, "val": 0, "valid": 0, "validation": 0, "eval": 0}
# Names in one list of a message.
_SHOWN = 5


class Candidate(NamedTuple):
    """An array of images."""

    name: str  # with the names of its groups, as "train/images"
    size: tuple[int, ...]  # compared in turn; the largest array wins among equally good names


def choose(candidates: Sequence[Candidate], wanted: str | None, where: str) -> tuple[str, str | None]:
    """Returns the name of the array to read, and a remark about those passed over (None: there are none).

    Args:
        candidates: At least one.
        wanted: The name that --dataset gives, None without it.
        where: The file, for messages.

    Raises:
        DataError: None of the candidates has the name that is wanted.
    """
    names = [candidate.name for candidate in candidates]
    if wanted is not None:
        matches = [name for name in names if name == wanted.strip("/")]
        if not matches:
            raise DataError(f"{where} has no pictures {printable(wanted)!r} (--dataset); it has {_listed(names)}")
        chosen = matches[0]
    else:
        chosen = max(candidates, key=lambda one: (*_rank(one.name), one.size)).name
    others = [name for name in names if name != chosen]
    if not others:
        return chosen, None
    return chosen, f"read {printable(chosen)}; passed over {_listed(others)} (--dataset NAME chooses)"


def label_names(image_name: str) -> list[str]:
    """Returns lower-case names that the labels of an array of images may have, the likeliest first.

    "x_test" has "y_test", and never "y_train".
    """
    parts = re.split(r"([^a-z0-9]+)", image_name.rpartition("/")[2].lower())
    split = {word for word in parts if word in _SPLIT_WORDS}
    names = []
    for at, word in enumerate(parts):
        if word in _IMAGE_WORDS:
            names += ["".join((*parts[:at], other, *parts[at + 1 :])) for other in ("y", "labels", "label", "classes")]
    names += [f"{name}{separator}labels" for name in (image_name.rpartition("/")[2].lower(),) for separator in "-_"]
    return names + [name for name in LABEL_NAMES if _splits(name) <= split or not split]


def join_remarks(*remarks: str | None) -> str | None:
    """Joins remarks to one line, None if there are none."""
    return "; ".join(remark for remark in remarks if remark) or None


def no_classes_remark(names: Sequence[str]) -> str | None:
    """Returns what is said of columns that are no labels, None without them."""
    return f"columns that hold no classes: {_listed(names)}" if names else None


def shared_remark(names: Sequence[str]) -> str | None:
    """Returns what is said of names in a list that several images have, None without them."""
    if not names:
        return None
    return f"names that several pictures have label none of them: {_listed(names)}; write their folders into the list"


def _splits(name: str) -> set[str]:
    return {word for word in _words(name) if word in _SPLIT_WORDS}


def _words(name: str) -> list[str]:
    spaced = re.sub(r"([a-z])([A-Z])", r"\1_\2", name)
    return re.findall(r"[a-z]+", spaced.lower())


def _rank(name: str) -> tuple[bool, bool, bool, bool]:
    """Ranks a name: no masks, no test set, says pictures, says training.

    A group's name counts where the array's own says neither pictures nor masks.
    """
    splits = [_SPLIT_WORDS[word] for word in _words(name) if word in _SPLIT_WORDS]
    says_images, says_masks = False, False
    for part in reversed(name.split("/")):
        words = set(_words(part))
        says_masks = bool(words & _MASK_WORDS)
        says_images = bool(words & _IMAGE_WORDS)
        if says_masks or says_images:
            break
    return not says_masks, 0 not in splits, says_images, 1 in splits


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(printable(name)[:80] for name in names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
