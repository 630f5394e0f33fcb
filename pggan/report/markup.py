"""Builds HTML. It escapes every text that is not `Markup` already, so that no text from a file becomes a tag."""

from __future__ import annotations

import html
import math
from typing import Any

VOID = frozenset({"br", "img", "input", "link", "meta", "source"})
# Control characters, which HTML forbids even as references.
_FORBIDDEN = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160)), "�")
# Characters of an option's value; longer ones are cut.
MAX_OPTION = 600


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def escape(value: object) -> Markup:
    """Returns a value as text of a page."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value).translate(_FORBIDDEN)))


def join(*parts: object) -> Markup:
    """Concatenates parts, all but None."""
    return Markup("".join(escape(part) for part in parts if part is not None))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """Returns `<name attributes>children</name>`.

    Args:
        name: of the element.
        children: markup, or text to escape; None is left out.
        attributes: `class_` stands for class, other `_` for `-`; None and False omit an attribute, True gives it no
            value.
    """
    written = []
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            written.append(f" {key}")
        elif value is not None and value is not False:
            written.append(f' {key}="{escape(value)}"')
    opened = f"<{name}{''.join(written)}>"
    return Markup(opened if name in VOID else f"{opened}{join(*children)}</{name}>")


def table(
    head: list[str], rows: list[list[object]], label: str, marks: list[str] | None = None, prose: bool = False
) -> Markup:
    """Returns a table that scrolls sideways in a narrow window.

    Args:
        head: titles of the columns.
        rows: cells; the first of each row is its header.
        label: what the table shows, for screen readers.
        marks: CSS classes of the rows, "" for none.
        prose: whether long texts wrap.
    """
    classes: list[str | None] = [mark or None for mark in marks] if marks else [None] * len(rows)
    body = [
        tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:]), class_=mark)
        for row, mark in zip(rows, classes)
    ]
    inner = tag("table", tag("thead", tag("tr", *(tag("th", name, scope="col") for name in head))), tag("tbody", *body))
    return tag("div", inner, class_="wide prose" if prose else "wide", tabindex="0", role="group", aria_label=label)


def pairs(items: list[tuple[str, object]]) -> Markup:
    """Returns a list of names with their values, without those that are None or empty."""
    shown = [(name, value) for name, value in items if value is not None and value != ""]
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in shown))


def format_number(value: float | None) -> str:
    """Formats a number with four digits and a real minus sign."""
    if value is None or not math.isfinite(value):
        return "–"
    small = value != 0 and not 1e-3 <= abs(value) < 1e6
    text = f"{value:.2e}" if small else f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return text.replace("-", "−")


def kimg(nimg: float) -> str:
    """Formats a number of images in thousands."""
    return f"{nimg / 1000:,.1f}".removesuffix(".0")


def option(value: Any) -> str:
    """Formats an option's value, and cuts it where it is very long."""
    text = _option_text(value)
    return text if len(text) <= MAX_OPTION else f"{text[:MAX_OPTION]} …"


def _option_text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        named = ", ".join(f"{side}: {option(v)}" for side, v in value.items() if side != "plain")
        plain = option(value.get("plain"))
        return plain if not named else named if plain == "–" else f"{plain} ({named})"
    if isinstance(value, list):
        return ", ".join(map(option, value)) or "–"
    return f"{value:g}" if isinstance(value, float) else str(value)
