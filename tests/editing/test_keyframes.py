"""Keyframes: times, easing, paths on the sphere against second computations, files hostile."""

import json

import numpy as np
import pytest

from pggan.editing.keyframes import EASINGS, Keyframes, keyframe_video, read_keyframes
from pggan.editing.latents_file import LatentSet
from pggan.editing.sphere import angle
from pggan.editing.task import Task
from pggan.utils.errors import PgganError, UsageError
from tests.helpers.editing_models import KINDS, loaded_kind


def test_keyframes_are_reached_at_their_times(tmp_path):
    model = loaded_kind("plain", tmp_path)
    latents = LatentSet.of_seeds(model, [1, 2, 3])
    for path in ("slerp", "spline"):
        keys = Keyframes(latents, (1.0, 3.0, 2.0), ("linear", "smooth", "hold"), path)
        assert keys.frames(10) == 60
        for frame, row in ((0, 0), (10, 1), (40, 2), (60, 0)):
            assert keys.at(frame % 60, 10)[0][0] == pytest.approx(latents.z[row], abs=1e-5)
        assert keys.position(25, 10) == (1, pytest.approx(0.5))
        assert keys.position(55, 10) == (2, 0.0)  # it holds
        ended = Keyframes(latents, (1.0, 3.0, 2.0), ("linear",) * 3, path, loop=False)
        assert ended.frames(10) == 40
        assert ended.at(39, 10)[0][0] == pytest.approx(latents.z[2], abs=1e-5)


def test_an_arc_has_an_even_speed_and_a_spline_turns_smoothly(tmp_path):
    model = loaded_kind("plain", tmp_path)
    latents = LatentSet.of_seeds(model, [1, 2, 3, 4])
    turns = {}
    for path in ("slerp", "spline"):
        keys = Keyframes.evenly(latents, 4, path=path)
        z = np.concatenate([keys.at(frame, 50)[0] for frame in range(200)]).astype(np.float64)
        steps = angle(z[1:], z[:-1])
        unit = z / np.linalg.norm(z, axis=1, keepdims=True)
        turns[path] = np.linalg.norm(unit[2:] - 2 * unit[1:-1] + unit[:-2], axis=1).max()
        if path == "slerp":
            assert steps[1:49] == pytest.approx(np.full(48, steps[1]), rel=1e-3)
            assert steps[:50].sum() == pytest.approx(float(angle(z[0], z[50])), rel=1e-3)
    assert turns["spline"] < turns["slerp"] / 3  # no corner at the keyframes


@pytest.mark.parametrize("easing", EASINGS)
def test_easings_go_from_0_and_stay_within_1(easing):
    values = [EASINGS[easing](t) for t in np.linspace(0, 1, 50)]
    assert values[0] == 0
    assert all(0 <= value <= 1 for value in values)
    assert values == sorted(values)
    assert easing == "hold" or values[-1] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_seeds_and_latents_becomes_a_video(tmp_path, kind):
    model = loaded_kind(kind, tmp_path)
    LatentSet.of_seeds(model, [5, 6]).save(tmp_path / "l.safetensors")
    entries = [
        {"seed": 1, "seconds": 0.2, "easing": "in"},
        {"latents": "l.safetensors", "name": "seed0000000006", "seconds": 0.1},
    ]
    (tmp_path / "k.json").write_text(json.dumps({"format": 1, "keyframes": entries, "path": "spline"}))
    keys = read_keyframes(tmp_path / "k.json", model)
    assert keys.easings == ("in", "smooth")
    assert keys.loop
    counted = []
    written = keyframe_video(model, tmp_path / "v.gif", keys, 20, task=Task(counted.append))
    assert written["frames"] == 6
    assert sum(counted) == 6
    inputs, labels = keys.at(0, 20)
    assert (model.images(inputs, labels) == model.generate([1])).all()


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", '{"keyframes": []}', '{"format": 2, "keyframes": [{"seed": 1}, {"seed": 2}]}',
        '{"format": 1, "keyframes": [{"seed": 1}]}',
        '{"format": 1, "keyframes": [{"seed": "1"}, {"seed": 2}]}',
        '{"format": 1, "keyframes": [{"seed": -1}, {"seed": 2}]}',
        '{"format": 1, "keyframes": [{"seed": 1, "seconds": NaN}, {"seed": 2}]}',
        '{"format": 1, "keyframes": [{"seed": 1, "seconds": -1}, {"seed": 2}]}',
        '{"format": 1, "keyframes": [{"seed": 1, "easing": "bounce"}, {"seed": 2}]}',
        '{"format": 1, "keyframes": [{"seed": 1, "easing": []}, {"seed": 2}]}',
        '{"format": 1, "keyframes": [{"latents": "none"}, {"seed": 2}]}',
        '{"format": 1, "keyframes": [{"x": 1}, {"seed": 2}]}',
        '{"format": 1, "keyframes": [7, {"seed": 2}]}',
        '{"format": 1, "keyframes": [{"seed": 1, "secs": 3}, {"seed": 2}]}',
        '{"format": 1, "lop": false, "keyframes": [{"seed": 1}, {"seed": 2}]}',
        '{"format": 1, "path": "bezier", "keyframes": [{"seed": 1}, {"seed": 2}]}',
        "[" * 100_000,
    ],
)  # fmt: skip
def test_a_hostile_file_is_refused_in_one_line(tmp_path, text):
    model = loaded_kind("plain", tmp_path)
    (tmp_path / "k.json").write_text(text)
    with pytest.raises(PgganError) as caught:
        read_keyframes(tmp_path / "k.json", model)
    assert len(str(caught.value).splitlines()) == 1


def test_ways_that_go_nowhere_are_refused(tmp_path):
    latents = LatentSet.of_seeds(loaded_kind("plain", tmp_path), [1, 2])
    with pytest.raises(UsageError, match="two keyframes at least"):
        Keyframes.evenly(latents.select([0]), 1)
    with pytest.raises(UsageError, match="not all of them 0"):
        Keyframes.evenly(latents, 0)
