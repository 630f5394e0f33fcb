"""Label spaces: how a label is asked for, label vectors, classes of seeds and cells."""

import numpy as np
import pytest

from pggan.data.label_columns import LabelColumn
from pggan.generation.labels import LabelSpace
from pggan.utils.errors import UsageError

HAIR = LabelColumn("hair", ("none", "red", "blond"))
SMILE = LabelColumn("smile", ("no", "yes"))


def test_one_column_is_asked_for_by_name_or_number():
    space = LabelSpace((HAIR,))
    assert space.names == ["none", "red", "blond"]
    assert [space.choose(label) for label in ("red", 1, "1", "hair=red")] == [(1,)] * 4
    for label in ("green", "3", "-1", "9" * 5000, "hair=green", "smile=yes", ""):
        with pytest.raises(UsageError, match=r"unknown label .*; choose one of: none, red, blond"):
            space.choose(label)


def test_classes_whose_names_are_numbers_or_hold_commas():
    assert LabelSpace((LabelColumn("class", ("7", "0")),)).choose("0") == (1,)
    assert LabelSpace((LabelColumn("class", ("a,b", "x=y")),)).choose("a,b") == (0,)
    assert LabelSpace((LabelColumn("class", ("a,b", "x=y")),)).choose("x=y") == (1,)


def test_several_columns_are_asked_for_in_pairs():
    space = LabelSpace((HAIR, SMILE))
    assert space.size == 5
    assert space.names[-1] == "smile=yes"
    assert space.choose("smile=yes, hair=red") == (1, 1)
    assert space.choose("smile=no") == (None, 0)
    with pytest.raises(UsageError, match="the label smile is there twice in 'smile=yes,smile=no'"):
        space.choose("smile=yes,smile=no")
    for label in ("yes", "smile", "smile=2"):
        with pytest.raises(UsageError, match="choose one of: hair=none, "):
            space.choose(label)
    with pytest.raises(UsageError, match="this model has no labels; leave the label out"):
        LabelSpace().choose("a")


def test_label_vectors_are_one_hot_side_by_side_and_classes_are_described_by_name():
    space = LabelSpace((HAIR, SMILE))
    np.testing.assert_array_equal(space.vectors([(2, 0), (0, 1)]), [[0, 0, 1, 1, 0], [1, 0, 0, 0, 1]])
    assert space.vectors([]).shape[0] == 0
    assert LabelSpace().vectors([(), ()]).shape == (2, 0)
    assert space.describe((2, None)) == {"hair": {"number": 2, "name": "blond"}}
    assert LabelSpace((SMILE,)).describe((1,)) == {"number": 1, "name": "yes"}
    assert space.describe((None, None)) is None


def test_seeds_have_classes_of_their_own_and_cells_every_combination():
    space = LabelSpace((HAIR, SMILE))
    own = space.of_seeds(range(50), 8, None)
    assert {row[0] for row in own} == {0, 1, 2}
    assert own == space.of_seeds(range(50), 8, None)
    asked = space.of_seeds(range(50), 8, "hair=red")
    assert asked == [(1, row[1]) for row in own]
    assert space.of_seeds([1, 2], 8, "hair=red,smile=no") == [(1, 0)] * 2
    cells = space.of_cells(6, None)
    assert sorted(cells) == [(h, s) for h in range(3) for s in range(2)]
    assert space.of_cells(2, "smile=yes") == [(0, 1), (1, 1)]


def test_classes_that_a_model_file_does_not_name_are_numbered():
    assert LabelSpace.of(None, 0).columns == ()
    assert LabelSpace.of({"name": "hair", "classes": list(HAIR.classes)}, 3).columns == (HAIR,)
    two = {"columns": [{"name": "hair", "classes": HAIR.classes}, {"name": "smile", "classes": SMILE.classes}]}
    assert LabelSpace.of(two, 5).columns == (HAIR, SMILE)
    assert LabelSpace.of(two, 4).columns == (LabelColumn("hair", ("0", "1", "2", "3")),)
    assert LabelSpace.of(None, 2).columns == (LabelColumn("class", ("0", "1")),)


def test_classes_without_pictures_are_neither_drawn_nor_shown():
    space = LabelSpace((HAIR, SMILE), ((0, 1, 3), (0, 7)))
    drawn = [space.drawn(seed, 8) for seed in range(400)]
    assert {smile for _, smile in drawn} == {1}
    share = sum(hair == 2 for hair, _ in drawn) / len(drawn)
    assert {hair for hair, _ in drawn} == {1, 2}
    assert 0.68 < share < 0.82  # as frequent as in the data: 3 of 4
    assert space.of_cells(4, None) == [(1, 1), (2, 1), (1, 1), (2, 1)]
    assert space.of_seeds([0], 8, "hair=red") == [(1, 1)]
    for label in ("hair=none", "hair=0", "smile=no,hair=red"):
        with pytest.raises(UsageError, match=r"trained without pictures of (hair=none; choose one of: red,|smile)"):
            space.choose(label)


def test_files_without_counts_keep_the_draw_of_their_seeds():
    labels = {"name": "hair", "classes": ["none", "red", "blond"]}
    state = np.random.RandomState(5)
    state.randn(8)
    expected = state.randint(3)
    assert LabelSpace.of(labels, 3).drawn(5, 8) == (expected,)
    assert LabelSpace.of({**labels, "counts": [2, 0, 0]}, 3).drawn(5, 8) == (0,)
