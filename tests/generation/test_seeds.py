"""Seed ranges: what is written is what is read, without a list of them in memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pggan.generation.seeds import MAX_SEED, Seeds
from pggan.utils.errors import UsageError

seed_lists = st.lists(st.integers(0, 40), max_size=20)


@given(seed_lists)
def test_sequences_of_any_seeds(seeds):
    found = Seeds.of(seeds)
    assert list(found) == seeds
    assert len(found) == len(seeds)
    assert [found[i] for i in range(-len(seeds), len(seeds))] == seeds + seeds
    if seeds:
        assert Seeds.parse(str(found)) == found
    assert (found.repeated() is None) == (len(set(seeds)) == len(seeds))


@given(seed_lists, st.integers(-25, 25), st.integers(-25, 25))
def test_slices(seeds, a, b):
    assert list(Seeds.of(seeds)[a:b]) == seeds[a:b]


def test_millions_are_ranges():
    seeds = Seeds.parse(f"0-{MAX_SEED}")
    assert len(seeds) == MAX_SEED + 1
    assert seeds[-1] == MAX_SEED
    assert list(seeds[10:13]) == [10, 11, 12]
    assert list(Seeds.parse("0,5-9")) == [0, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "9-5", "1,,2", "4294967296", "1.5", "0-4294967296", "٣"])
def test_refusals(text):
    with pytest.raises(UsageError):
        Seeds.parse(text)
