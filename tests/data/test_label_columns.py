"""Label columns: the order of their classes."""

import pytest

from pggan.data.label_columns import order_classes


@pytest.mark.parametrize(
    "values, expected",
    [
        ([], ()),
        (["b", "a10", "a9"], ("a9", "a10", "b")),
        (["3", 1], ("0", "1", "2", "3")),
        ([-2, 5, 10], ("-2", "5", "10")),
        ([1001, 7], ("7", "1001")),
        (["01", "1", "10"], ("01", "1", "10")),
        (["1", "+2"], ("1", "+2")),
        (["9" * 5000, "1"], ("1", "9" * 5000)),
        (["-0", "0"], ("0", "-0")),
        (["", "a"], ("", "a")),
    ],
)
def test_classes_are_ordered_as_numbers_or_names(values, expected):
    classes = order_classes(values)
    assert sorted(classes) == sorted(expected)
    assert classes == expected
    assert {str(value) for value in values} <= set(classes)
