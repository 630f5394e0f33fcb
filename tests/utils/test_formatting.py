"""Texts for people: errors on one line."""

from __future__ import annotations

from pggan.utils.formatting import one_line


def test_an_error_becomes_one_line_of_at_most_160_characters():
    assert one_line(ValueError("  two\n\tlines ")) == "two lines"
    assert one_line(ValueError("x" * 500)) == "x" * 160


def test_an_error_without_a_message_is_called_by_its_type():
    assert one_line(MemoryError()) == "MemoryError"
