"""Seed ranges: they behave as lists, are parsed from what they print, and take no memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pggan.generation.seeds import MAX_SEED, Seeds, check_seeds
from pggan.utils.errors import UsageError

seed_lists = st.lists(st.integers(0, 40), max_size=20)


@given(seed_lists)
def test_seeds_are_a_sequence_that_is_parsed_from_its_text(seeds):
    ranges = Seeds.of(seeds)
    assert list(ranges) == seeds
    assert len(ranges) == len(seeds)
    assert [ranges[i] for i in range(-len(seeds), len(seeds))] == seeds + seeds
    if seeds:
        assert Seeds.parse(str(ranges)) == ranges
    assert (ranges.repeated() is None) == (len(set(seeds)) == len(seeds))


@pytest.mark.long
@given(seed_lists, st.integers(-25, 25), st.integers(-25, 25))
def test_slices_are_those_of_the_list(seeds, a, b):
    assert list(Seeds.of(seeds)[a:b]) == seeds[a:b]


def test_billions_of_seeds_are_ranges():
    seeds = Seeds.parse(f"0-{MAX_SEED}")
    assert len(seeds) == MAX_SEED + 1
    assert seeds[-1] == MAX_SEED
    assert list(seeds[10:13]) == [10, 11, 12]
    assert list(Seeds.parse("0,5-9")) == [0, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    "text,message",
    [
        *((text, "not a list of seeds like 7 or 0,5-9,12") for text in ("", "a", "1-", "-1", "1,,2", "1.5", "٣")),
        ("9-5", "the range 9-5 runs backwards; write 5-9"),
        ("4294967296", "seed 4294967296 is too large"),
        ("0-4294967296", "seed 4294967296 is too large"),
    ],
)
def test_text_that_names_no_seeds_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        Seeds.parse(text)


def test_seeds_out_of_range_are_refused():
    with pytest.raises(UsageError, match=f"seeds -1 to 3 are not from 0 to {MAX_SEED}"):
        Seeds([range(-1, 4)])
    with pytest.raises(UsageError, match=f"seed {MAX_SEED + 1} is not from 0 to {MAX_SEED}"):
        check_seeds([0, MAX_SEED + 1])
