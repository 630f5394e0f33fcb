"""Groups of pictures that show the same: which images of a store must not be parted.

A mapping from a group's number to its images' numbers. Numbers of groups mean the same in all shards of a preparation.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Groups = Mapping[int, Sequence[int]]


def merge_groups(parts: Sequence[tuple[int, Groups]], shards: bool) -> dict[int, list[int]]:
    """Returns the groups of stores that are merged.

    Args:
        parts: How many images each store holds, and its groups.
        shards: The stores are shards of one preparation, in which a group has the same number everywhere.
    """
    merged: dict[int, list[int]] = {}
    first_image = first_group = 0
    for count, groups in parts:
        for number, images in groups.items():
            merged.setdefault(first_group + number, []).extend(first_image + image for image in images)
        first_image += count
        first_group = 0 if shards else max(merged, default=first_group)
    return merged


def drop_images(groups: Groups, dropped: Sequence[int]) -> dict[int, list[int]]:
    """Returns the groups without some images (numbers ascending), after which the others are numbered anew."""
    gone = set(dropped)
    left = {
        number: [image - bisect_left(dropped, image) for image in images if image not in gone]
        for number, images in groups.items()
    }
    return {number: images for number, images in left.items() if images}


def split_between_groups(
    order: NDArray[np.int64], groups: Groups, held: int, fewest: int
) -> tuple[NDArray[np.int64], int]:
    """Reorders a permutation so that groups lie together, and moves its cut between two of them.

    A group comes where its first image is in the permutation, so that large groups are held out as often as others.

    Args:
        order: The permutation; the first `held` images are held out.
        groups: Images that must not be parted.
        held: Images to hold out.
        fewest: Fewest images that may be held out; at least one more is left.

    Returns:
        The new order, and the cut nearest to `held`; 0 where none leaves enough on both sides.
    """
    unit = np.arange(len(order))  # by image: the image that stands for its group
    for images in groups.values():
        unit[list(images)] = min(images)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    order = order[np.argsort(place[unit[order]], kind="stable")]
    cuts = np.flatnonzero(np.diff(unit[order])) + 1
    cuts = cuts[(cuts >= fewest) & (cuts < len(order))]
    return order, int(cuts[np.abs(cuts - held).argmin()]) if len(cuts) else 0
