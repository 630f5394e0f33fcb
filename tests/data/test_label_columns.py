"""Label columns: the order of their classes."""

import numpy as np
import pytest

from pggan.data.label_columns import LabelColumn, empty_classes, order_classes


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


def test_values_of_tables_are_numbered_without_gaps():
    assert order_classes(["61", "60", "65"], are_numbers=False) == ("60", "61", "65")
    assert order_classes(["a10", "a2"], are_numbers=False) == ("a2", "a10")
    assert len(order_classes(["61", "65"])) == 66


def test_classes_without_pictures_are_found():
    labels = np.array([[1, 0], [2, -1], [1, 1]], np.int32)
    columns = (LabelColumn("class", ("0", "1", "2")), LabelColumn("smile", ("no", "yes")))
    assert empty_classes(labels, columns) == {"class": ["0"]}
