"""Pictures held out of training: the split, and the batches that bring them along."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.data.loading.cache_policy import CachePolicy
from pggan.data.loading.loader import BatchRequest, Loader
from pggan.data.loading.sampler import MIN_HELD_OUT, Sampler, split_held_out
from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.store.store import Store
from pggan.utils.errors import DataError

COUNT = 40


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("held") / "data"
    prepare(f"drawn:{COUNT}", path, PrepareOptions(max_res=8))
    with Store(path) as opened:
        yield opened


@settings(max_examples=60, deadline=None)
@given(count=st.integers(20, 3000), share=st.floats(0.45, 0.9), seed=st.integers(0, 2**31))
def test_a_split_parts_the_pictures_by_the_seed(count, share, seed):
    trained, held = split_held_out(count, share, seed)
    assert sorted([*trained, *held]) == list(range(count))
    assert len(held) == round(count * share)
    again = split_held_out(count, share, seed)
    np.testing.assert_array_equal(again[1], held)
    assert (np.diff(held) > 0).all()
    assert (np.diff(trained) > 0).all()
    smaller = split_held_out(count, share * 0.95, seed)[1]
    assert set(smaller) <= set(held)


def test_another_seed_holds_out_others():
    assert set(split_held_out(100, 0.3, 0)[1]) != set(split_held_out(100, 0.3, 1)[1])
    assert not len(split_held_out(100, 0.0, 0)[1])


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=32, max_size=60), share=st.floats(0.3, 0.7), seed=st.integers(0, 2**31)
)
def test_a_split_parts_no_group(sizes, share, seed):
    count = sum(sizes)
    numbers = np.random.default_rng(0).permutation(count)  # groups lie scattered
    groups = {g: part.tolist() for g, part in enumerate(np.split(numbers, np.cumsum(sizes)[:-1]), 1) if len(part) > 1}
    trained, held = split_held_out(count, share, seed, groups)
    assert sorted([*trained, *held]) == list(range(count))
    assert MIN_HELD_OUT <= len(held) < count
    assert abs(len(held) - max(MIN_HELD_OUT, round(count * share))) <= max(sizes)
    inside = set(held)
    assert all(len(inside & set(images)) in (0, len(images)) for images in groups.values())
    assert set(split_held_out(count, share * 0.9, seed, groups)[1]) <= inside


def test_groups_alone_change_a_split():
    plain, grouped = split_held_out(100, 0.3, 5), split_held_out(100, 0.3, 5, {})
    np.testing.assert_array_equal(plain[1], grouped[1])
    with pytest.raises(DataError, match="duplicates would be parted"):
        split_held_out(100, 0.3, 5, {1: range(100)})


@pytest.mark.parametrize("count,share,message", [(40, 0.1, "holds out 4; give 0.2"), (12, 0.5, "too few pictures")])
def test_too_few_held_out_are_refused(count, share, message):
    with pytest.raises(DataError, match=message):
        split_held_out(count, share, 0)
    if "give" in message:
        assert len(split_held_out(count, 0.2, 0)[1]) == MIN_HELD_OUT


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31), share=st.floats(0.25, 0.7), nimg=st.integers(0, 10**6), batch=st.integers(1, 90),
    world=st.integers(1, 5),
)  # fmt: skip
def test_held_out_pictures_are_never_trained_on(seed, share, nimg, batch, world):
    trained, held = split_held_out(COUNT, share, seed)
    sampler = Sampler(COUNT, seed, among=trained)
    whole = sampler.at(nimg, batch)[0]
    assert not set(whole) & set(held)
    parts = [Sampler(COUNT, seed, among=trained).at(nimg, batch, rank, world)[0] for rank in range(world)]
    assert sorted(np.concatenate(parts)) == sorted(whole)
    epoch = sampler.at(len(trained) * 7, len(trained))[0]
    assert sorted(epoch) == list(trained)  # each once an epoch


@pytest.mark.long
@pytest.mark.parametrize("mode,workers", [("none", 0), ("none", 2), ("ram", 1), ("device", 2)])
def test_batches_bring_held_out_pictures_along(store, mode, workers):
    seed, share = 3, 0.25
    trained, held = split_held_out(COUNT, share, seed)
    caching = CachePolicy(mode, device="cpu")
    batch_requests = [BatchRequest(0, 6, 4), BatchRequest(6, 6, 8), BatchRequest(12, 5, 8), BatchRequest(17, 30, 8)]
    for rank, world in ((0, 1), (1, 2)):
        with Loader(
            store, seed, workers=workers, cache_policy=caching, rank=rank, world=world, held_out=share
        ) as loader:
            batches = list(loader.stream(batch_requests))
        assert [batch.request for batch in batches] == batch_requests
        for batch, request in zip(batches, batch_requests):
            assert len(batch.held_out) == len(batch.numpy_images()) == len(batch.labels)
            for images, among in ((batch.numpy_images(), trained), (np.asarray(batch.held_out), held)):
                indices, mirrored = Sampler(COUNT, seed, among=among).at(
                    request.nimg, request.batch, (request.nimg + rank) % world, world
                )
                expected = store.read(request.resolution, indices)
                expected[mirrored] = expected[mirrored][:, :, :, ::-1]
                np.testing.assert_array_equal(images, expected)
                if among is trained:
                    np.testing.assert_array_equal(batch.labels, store.labels[indices])


def test_nothing_held_out_nothing_changed(store):
    with Loader(store, 3, workers=0) as plain, Loader(store, 3, workers=0, held_out=0.0) as asked:
        (a,), (b,) = (list(loader.stream([BatchRequest(0, 9, 8)])) for loader in (plain, asked))
        np.testing.assert_array_equal(a.images, b.images)
        assert a.held_out is None
        assert b.held_out is None
