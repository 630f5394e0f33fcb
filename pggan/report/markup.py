"""HTML from parts. Text is escaped unless it is markup already, so that nothing read from a file becomes a tag."""

from __future__ import annotations

import html
import math
from typing import Any

VOID = frozenset({"br", "img", "input", "link", "meta", "source"})
# what HTML forbids even as references
_FORBIDDEN = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160)), "�")


# characters of an option's value
LONGEST = 600


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def escape(value: object) -> Markup:
    """Any value as text of a page."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value).translate(_FORBIDDEN)))


def join(*parts: object) -> Markup:
    """Parts one after the other; None is left out."""
    return Markup("".join(escape(part) for part in parts if part is not None))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """`<name attributes>children</name>`. `class_` is class, `_` in names is `-`; None and False leave one out."""
    said = []
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            said.append(f" {key}")
        elif value is not None and value is not False:
            said.append(f' {key}="{escape(value)}"')
    opened = f"<{name}{''.join(said)}>"
    return Markup(opened if name in VOID else f"{opened}{join(*children)}</{name}>")


def table(
    head: list[str], rows: list[list[object]], label: str, marks: list[str] | None = None, prose: bool = False
) -> Markup:
    """A table that scrolls sideways in a narrow window. `marks`: classes of the rows; `prose`: long texts wrap."""
    classes: list[str | None] = [mark or None for mark in marks] if marks else [None] * len(rows)
    body = [
        tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:]), class_=mark)
        for row, mark in zip(rows, classes)
    ]
    inner = tag("table", tag("thead", tag("tr", *(tag("th", name, scope="col") for name in head))), tag("tbody", *body))
    return tag("div", inner, class_="wide prose" if prose else "wide", tabindex="0", role="region", aria_label=label)


def pairs(items: list[tuple[str, object]]) -> Markup:
    """A list of names and what they are; those of None are left out."""
    shown = [(name, value) for name, value in items if value is not None and value != ""]
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in shown))


def figure(value: float | None) -> str:
    """A number in four figures, with a real minus sign."""
    if value is None or not math.isfinite(value):
        return "–"
    small = value != 0 and not 1e-3 <= abs(value) < 1e6
    text = f"{value:.2e}" if small else f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return text.replace("-", "−")


def kimg(nimg: float) -> str:
    """Images as thousands, without needless zeros."""
    return f"{nimg / 1000:,.1f}".removesuffix(".0")


def option(value: Any) -> str:
    """An option's value in words, cut where it is very long."""
    text = _option_text(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


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
