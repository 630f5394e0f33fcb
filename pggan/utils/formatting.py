"""Numbers, sizes and errors as short texts for people."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable
from typing import Any


def one_line(error: BaseException | str) -> str:
    """Returns an error's message on one line, at most 160 characters; the name of its type where it has no message."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def printable(text: str) -> str:
    """Escapes undecodable bytes and control characters, so that a file name can be shown and stored anywhere."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest_name(name: str, names: Iterable[str]) -> str:
    """Returns `; is 'batch' meant?` for a mistyped name, or nothing where no name is near."""
    nearest = difflib.get_close_matches(name, names, 1)
    return f"; is {nearest[0]!r} meant?" if nearest else ""


def paste(*words: object) -> str:
    """Returns a command that can be pasted into a shell: words with spaces or other special characters are quoted."""
    return printable(shlex.join(map(str, words)))


def paste_path(path: object) -> str:
    """Returns a path as `paste` does; one that begins with a dash is not taken for an option."""
    text = str(path)
    return paste(f"./{text}" if text.startswith("-") else text)


def join_credits(credits: Iterable[Any]) -> str | None:
    """Joins attributions, each once; None where there are none."""
    return " / ".join(dict.fromkeys(str(credit) for credit in credits if credit)) or None


def duration(seconds: float) -> str:
    """Formats seconds: `75` -> `1:15`, `7300` -> `2:01:40`, `200000` -> `2d 07:33`."""
    whole = max(0, round(seconds))
    days, rest = divmod(whole, 86400)
    hours, minutes, secs = rest // 3600, rest // 60 % 60, rest % 60
    if days:
        return f"{days}d {hours:02d}:{minutes:02d}"
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


def figure(value: float) -> str:
    """Formats a rate or a progress with the digits that it needs: `123.4`, `7.25`, `0.026`."""
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def size(count: float) -> str:
    """Formats a number of bytes, in powers of 1024: `1.4 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def bytes_of(text: str) -> float:
    """Parses `24GB`, `512MB`, `8G`, `1000B` to bytes, in powers of 1024. Raises `ValueError` for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])i?b?|b)\s*", text, re.IGNORECASE)
    if not match:
        raise ValueError(f"{text!r} is no amount of memory, as 24GB")
    return float(match[1]) * 1024 ** " kmgt".index((match[2] or " ").lower())


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Returns a sort key that puts `img2` before `img10`."""
    return [(0, int(part[:4000]), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name)]
