"""Seeded changes of bytes and JSON values, as the fuzzers of foreign files make them."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

# Numbers at which readers overflow, allocate, or loop.
WORDS = [
    b"\xff" * 8,
    b"\0" * 8,
    b"\xff\xff\xff\x7f",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\0\0\0\x80",
    b"\xff\xff",
    b"\0\1",
]
VALUES: list[Any] = [
    None, True, -1, 0, 1, 3, 1.5, 1e308, float("inf"), float("nan"), 10**6, 10**30, "", "a\ud800", "\x1b[2J",
    "x" * 5000,
    [], [[]], {}, {"a": 1}, [1, "2", None],
]  # fmt: skip


def refused(error: type[Exception], use: Callable[[], object]) -> bool:
    """Whether `use()` raises this error, in one line; any other error passes."""
    try:
        use()
    except error as problem:
        assert 0 < len(str(problem)) < 2000, problem  # noqa: PT017
        assert "\n" not in str(problem), problem  # noqa: PT017
        return True
    return False


def mutate(data: bytes, dice: random.Random) -> bytes:
    """Returns the bytes with a few of them changed, overwritten, taken out, repeated or cut off."""
    out = bytearray(data)
    for _ in range(dice.randint(1, 6)):
        if not out:
            return b""
        # headers lie at the beginning, and in some formats at the end
        at = dice.choice(
            [
                dice.randrange(len(out)),
                dice.randrange(min(64, len(out))),
                len(out) - 1 - dice.randrange(min(64, len(out))),
            ]
        )
        kind = dice.randrange(8)
        if kind < 2:
            out[at] = dice.randrange(256)
        elif kind < 4:
            out[at] ^= 1 << dice.randrange(8)
        elif kind < 6:
            word = dice.choice(WORDS)
            out[at : at + len(word)] = word[: len(out) - at]
        elif kind == 6:
            end = min(len(out), at + dice.randint(1, 200))
            out[at:at] = out[at:end] * dice.randint(1, 3)
        else:
            del out[at : at + dice.randint(1, 200)]
    return bytes(out[: dice.randrange(len(out) + 1)] if dice.random() < 0.1 else out)


def mutate_json(value: Any, dice: random.Random) -> Any:
    """Returns a JSON value with one or two of its inner values replaced, taken out or doubled."""
    value = copy.deepcopy(value)
    for _ in range(dice.randint(1, 2)):
        places = list(_places(value))
        if not places:
            break
        holder, key = dice.choice(places)
        kind = dice.randrange(6)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[dice.choice([str(dice.choice(VALUES)), f"{key}0"])] = holder[key]
        elif kind == 2 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[key] = copy.deepcopy(dice.choice(VALUES))
    return value


def _places(value: Any) -> Any:
    """Yields every container and key in a JSON value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield value, key
        yield from _places(inner)
