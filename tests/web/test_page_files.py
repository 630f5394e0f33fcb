"""The page's files: contrast by WCAG, no inline style or script, every module is used."""

from __future__ import annotations

import re

import pytest

from pggan.web.server import assets

STYLES = {name: data.decode() for name, data in assets().items() if name.endswith(".css")}
SCRIPTS = {name: data.decode() for name, data in assets().items() if name.endswith(".js")}


def themes():
    blocks = re.findall(r":root[^{]*\{([^}]*--ground[^}]*)\}", STYLES["tokens.css"])
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})\b", block)) for block in blocks]


def luminance(colour):
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear))


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_wcag_aa():
    assert len(themes()) == 3  # dark, light by the system, light by hand
    assert themes()[1] == themes()[2]
    for theme in themes():
        for text in ("ink", "soft", "accent", "good", "bad"):
            for ground in ("ground", "panel", "raised"):
                assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
        assert contrast(theme["on-accent"], theme["accent"]) >= 4.5
        assert contrast(theme["ink"], theme["hover"]) >= 4.5
        assert contrast(theme["accent"], theme["accent-soft"]) >= 4.5
        for edge in ("focus", "edge"):  # of controls: 3 is enough
            assert contrast(theme[edge], theme["panel"]) >= 3


def test_the_policy_needs_nothing_inline():
    page = assets()["index.html"].decode()
    assert not re.search(r"<script(?![^>]*src=)|<style|style=|\son\w+=", page)
    for source in SCRIPTS.values():
        assert 'setAttribute("style"' not in source
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|new Function", source)


def test_every_file_is_used_and_exists():
    everything = "\n".join([assets()["index.html"].decode(), *SCRIPTS.values()])
    named = set(re.findall(r"[\w]+\.(?:js|css|svg)\b", everything))
    assert named <= set(assets())
    assert set(assets()) - named == {"index.html"}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_modules_import_what_exists_and_say_what_they_are(name):
    source = SCRIPTS[name]
    assert source.startswith("// ")
    assert len(source.splitlines()) <= 350
    for names, module in re.findall(r"import \{ ([^}]+) \} from \"\./(\w+\.js)\"", source):
        for imported in names.split(", "):
            assert re.search(rf"export (?:async )?(?:class|function|const) {imported}\b", SCRIPTS[module]), imported
            assert len(re.findall(rf"\b{imported}\b", source)) > 1, f"{imported} is imported and not used"
