"""A report's size and time stay bounded, and thinning loses no peak."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pggan.report import sample_grids, write_report
from pggan.report.markup import escape, format_number, tag
from pggan.report.sample_grids import FRAMES, choose, encode, find_samples, read_gallery
from pggan.report.series import Chart, Curve, scale, thinned
from pggan.training.run import log_reader
from pggan.training.run.log_reader import finite_number, summarize_log
from tests.helpers.run_directories import add_grid, add_lines, make_run

values = st.one_of(st.none(), st.floats(-1e30, 1e30))


@settings(max_examples=60)
@given(st.lists(values, max_size=300), st.integers(4, 40))
def test_thinning_keeps_the_extremes_and_the_order(ys, most):
    points = [(float(x), y) for x, y in enumerate(ys)]
    selected = thinned(points, most)
    assert len(selected) <= max(most, len(points) if len(points) <= most else most)
    assert set(selected) <= set(points)
    assert [x for x, _ in selected] == sorted(x for x, _ in selected)
    known = [y for y in ys if y is not None]
    if known:
        shown = [y for _, y in selected if y is not None]
        assert (min(shown), max(shown)) == (min(known), max(known))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=60), min_size=1, max_size=4), st.booleans())
def test_a_scale_is_one_and_has_the_newest_values(curves, logarithmic):
    drawn = [Curve("c", "c", [(float(x), y) for x, y in enumerate(ys)]) for ys in curves]
    axis = scale(Chart("t", "", drawn, logarithmic))
    assert axis.low < axis.high
    assert not axis.logarithmic or axis.low > 0
    for ys in curves:
        assert -1e-9 <= axis.at(ys[-1]) <= 1 + 1e-9
    everything = [y for ys in curves for y in ys]
    if not axis.clipped:
        assert axis.low <= min(everything)
        assert max(everything) <= axis.high


def test_one_peak_does_not_press_the_rest_flat():
    ys = [float(n % 5) for n in range(30)]
    ys[10] = 5000.0
    axis = scale(Chart("t", "", [Curve("c", "c", list(enumerate(ys)))]))
    assert axis.high < 10
    assert axis.clipped


def test_a_long_log_is_thinned_and_ends_with_its_last_tick(tmp_path, monkeypatch):
    monkeypatch.setattr(log_reader, "MAX_TICKS", 100)
    path = tmp_path / "log.jsonl"
    lines = [{"nimg": n, "resolution": 4, "alpha": 1, "d_loss": float(n)} for n in range(1, 1008)]
    lines.insert(500, {"event": "rollback", "at_nimg": 500, "to": 400, "reason": "r"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    log = summarize_log(path)
    assert log.lines == 1007
    assert log.every in (16, 32)
    assert len(log.ticks) < 100
    assert log.ticks[-1].nimg == 1007
    assert len(log.events) == 1
    assert max(b.nimg - a.nimg for a, b in pairwise(log.ticks)) <= 2 * log.every
    with open(path, "a") as file:
        file.write('{"nimg": 10')
    log = summarize_log(path)
    assert (log.torn, log.damaged, log.lines, log.ticks[-1].nimg) == (True, 0, 1007, 1007)


@pytest.mark.long
def test_many_snapshots_of_noise_stay_within_the_bound(tmp_path, monkeypatch):
    # fewer pictures in as much less room: what is tested is that they keep to it
    for name, value in {
        "GRIDS": 6,
        "FRAMES": 8,
        "GRID_BYTES": 30_000,
        "REAL_BYTES": 5_000,
        "LAPSE_BYTES": 16_000,
    }.items():
        monkeypatch.setattr(sample_grids, name, value)
    run = make_run(tmp_path / "run")
    # noise is what compresses least
    add_grid(run, "000000001-4x4.png", 4, 2)
    for nimg in range(2, 240):
        target = run / "samples" / f"{nimg:09d}-{4 if nimg < 120 else 8}x{4 if nimg < 120 else 8}.png"
        target.hardlink_to(run / "samples" / "000000001-4x4.png")
    (run / "samples" / "reals-8x8.png").hardlink_to(run / "samples" / "000000001-4x4.png")
    report = write_report(run)
    assert report.bytes < 4 / 3 * (30_000 + 5_000 + 16_000 + 60_000) + 200_000
    assert 6 <= report.grids <= 8


def test_grids_through_time_are_spread_and_the_last_of_each_phase_is_there(tmp_path):
    folder = tmp_path
    names = [f"{n:09d}-4x4.png" for n in range(50)] + [f"{n:09d}-8x8-fade{n:02d}.png" for n in range(50, 90)]
    names += [f"{n:09d}-8x8.png" for n in range(90, 200)]
    for name in [*names, "notes.png", "000000300-8x4.png", "reals-4x4.png"]:
        (folder / name).write_bytes(b"")
    samples = find_samples(folder)
    assert [sample.path.name for sample in samples] == names
    chosen = [sample.path.name for sample in choose(samples, 24)]
    assert {names[0], names[49], names[89], names[-1]} <= set(chosen)
    assert len(chosen) <= 27
    places = [names.index(name) for name in chosen]
    assert max(b - a for a, b in pairwise(places)) <= 10
    gallery = read_gallery(folder)  # all of them are damaged, each is counted once
    assert gallery.grids == []
    assert FRAMES <= gallery.unreadable <= FRAMES + 28


@pytest.mark.long
@pytest.mark.parametrize("size", [(64, 20_000), (4096, 64), (1, 1), (960, 576)])
def test_encoding_keeps_to_its_allowance_and_shape(size):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    picture = encode(Image.fromarray(noise), 60_000)
    assert len(picture.data) <= 60_000
    assert picture.width <= 960
    assert picture.height <= 3840
    assert abs(picture.width / picture.height - size[0] / size[1]) <= 0.1 * size[0] / size[1] + 1 / picture.height


def test_a_run_that_changed_its_grid_has_a_timelapse_of_the_common_tiles(tmp_path):
    run = make_run(tmp_path / "run")
    add_grid(run, "000000040-4x4.png", 3, 1)
    add_grid(run, "000000080-8x8.png", 5, 4)
    gallery = read_gallery(run / "samples")
    assert gallery.timelapse is not None
    assert (gallery.timelapse.width, gallery.timelapse.height) == (3 * 128, 128 + 28)
    assert (gallery.columns, gallery.rows) == (5, 4)


@given(st.text("<>&\"'a;#\x00\x1f\x85", max_size=20))
def test_text_never_becomes_markup(text):
    escaped = escape(text)
    assert "<" not in escaped
    assert ">" not in escaped
    assert '"' not in escaped
    assert tag("p", text, title=text) == f'<p title="{escaped}">{escaped}</p>'


def test_only_finite_numbers_count_and_each_has_a_short_form():
    assert finite_number(10**400) is None
    assert finite_number(True) is None
    assert finite_number(float("nan")) is None
    assert finite_number("1") is None
    assert finite_number(3) == 3.0
    assert (format_number(None), format_number(-0.5), format_number(123456.0), format_number(0.0)) == (
        "–",
        "−0.5",
        "123,456",
        "0",
    )


def test_numbers_beyond_all_measure_are_damage_or_gaps(tmp_path):
    run = make_run(tmp_path / "run")
    add_lines(run, '{"nimg": 115, "resolution": 8, "alpha": 1, "d_loss": 1' + "0" * 400 + ', "x": NaN, "y": 1e308}\n')
    add_lines(run, '{"nimg": 1e300, "resolution": 8, "alpha": 1}\n', '{"nimg": -1, "resolution": 8, "alpha": 1}\n')
    report = write_report(run)
    assert (report.ticks, report.damaged_lines) == (13, 2)
