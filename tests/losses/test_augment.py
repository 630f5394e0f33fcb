"""Augmentations against second computations of the same thing, their gradients, and how strong and how frequent."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.losses.augment import ada, blitting, colour, diffaugment, geometry
from pggan.losses.augment.draws import Draws

F64 = torch.float64
FILTER = geometry.lowpass(dtype=F64)


def pictures(n=3, c=3, side=8, seed=0):
    return torch.rand(n, c, side, side, dtype=F64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def noise(n, seed=0, dtype=F64):
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(n, len(ada.UNIFORMS), dtype=dtype, generator=generator)
    return uniform, torch.randn(n, len(ada.NORMALS), dtype=dtype, generator=generator)


def each(value, n=3):
    return torch.full((n,), float(value), dtype=F64)


def strength(p):
    return torch.tensor(p, dtype=F64)


# --- identity


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("side", [4, 8, 32])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_p_0_leaves_every_bit_of_an_image(channels, side, dtype):
    x = pictures(5, channels, side).to(dtype)
    assert torch.equal(ada.ada(x, torch.tensor(0.0), *noise(5, dtype=dtype), FILTER.to(dtype)), x)


@pytest.mark.parametrize("side", [4, 8, 16, 64])
def test_everything_at_p_1_is_finite_at_every_size(side):
    x = pictures(4, 3, side)
    y = ada.ada(x, torch.tensor(1.0), *noise(4), FILTER)
    assert y.shape == x.shape
    assert y.isfinite().all()
    assert not torch.allclose(y, x)
    assert diffaugment.diffaugment(x, torch.rand(4, 7, dtype=F64)).isfinite().all()


# --- pixel blitting, exactly


@settings(max_examples=60, deadline=None)
@given(
    side=st.sampled_from([4, 5, 8]), flip=st.booleans(), turns=st.integers(0, 7),
    dx=st.integers(-20, 20), dy=st.integers(-20, 20),
)  # fmt: skip
def test_blits_are_flip_rot90_and_shift(side, flip, turns, dx, dy):
    x = pictures(2, 3, side)
    n = len(x)
    result = blitting.blit(x, torch.full((n,), flip), each(turns, n), each(dx, n), each(dy, n))
    expected = np.rot90(x.flip(3).numpy() if flip else x.numpy(), turns % 4, axes=(2, 3))
    pad = 24  # numpy's own mirroring, then a plain shift
    wide = np.pad(expected, ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="symmetric")
    expected = np.roll(wide, (dy, dx), axis=(2, 3))[:, :, pad:-pad, pad:-pad]
    np.testing.assert_array_equal(result.numpy(), expected)


def test_samples_are_moved_each_its_own_way():
    x = pictures(4)
    result = blitting.blit(x, torch.tensor([True, False, False, False]), torch.tensor([0, 1, 3, 2]), *[each(0, 4)] * 2)
    for got, expected in zip(
        result, (x[0].flip(2), x[1].rot90(1, (1, 2)), x[2].rot90(3, (1, 2)), x[3].rot90(2, (1, 2)))
    ):
        assert torch.equal(got, expected)


@given(dx=st.integers(-9, 9), dy=st.integers(-9, 9))
@settings(max_examples=40, deadline=None)
def test_translation_fills_with_zeros(dx, dy):
    x = pictures(2)
    result = blitting.shift_into_zeros(x, each(dx, 2), each(dy, 2))
    wide = torch.nn.functional.pad(x, (10, 10, 10, 10))
    assert torch.equal(result, wide.roll((dy, dx), (2, 3))[:, :, 10:-10, 10:-10])


# --- geometry


def test_the_filter_doubles_and_halves_a_picture_back():
    x = pictures(2, 3, 16)
    eye = torch.eye(3, dtype=F64).expand(2, 3, 3)
    assert (geometry.resample(x, eye, FILTER) - x).std() < 0.005 * x.std()
    flat = torch.full((1, 1, 8, 8), 0.3, dtype=F64)
    turned = geometry.resample(flat, geometry.rotation(each(0.7, 1)), FILTER)
    assert torch.allclose(turned, flat, atol=1e-12)  # what is even stays even, at the edges too
    assert geometry.upsample(x, FILTER).shape == (2, 3, 32, 32)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_resampled_quarter_turns_and_mirroring(turns):
    x = pictures(3, 3, 8)
    turned = geometry.resample(x, geometry.rotation(each(math.pi / 2 * turns)), FILTER)
    assert (turned - x.rot90(turns, (2, 3))).abs().max() < 0.02
    flipped = geometry.resample(x, geometry.scaling(each(-1), each(1)), FILTER)
    assert (flipped - x.flip(3)).abs().max() < 0.02


@pytest.mark.parametrize("angle,scale,move", [(0.4, 1.0, 0.0), (0.0, 0.85, 0.1), (-1.1, 1.2, 0.05)])
def test_smooth_pictures_are_read_where_the_matrix_says(angle, scale, move):
    side = 32
    at = (torch.arange(side, dtype=F64) + 0.5) / side * 2 - 1

    def wave(x, y):
        return torch.cos(5 * x + 1) * torch.sin(4 * y - 0.5)

    picture = wave(at[None, :], at[:, None])[None, None]
    source = geometry.product(
        geometry.scaling(each(scale, 1), each(scale, 1)),
        geometry.rotation(each(angle, 1)),
        geometry.translation(each(move, 1), each(-move, 1)),
    )
    result = geometry.resample(picture, source, FILTER)[0, 0]
    grid = torch.stack(torch.meshgrid(at, at, indexing="xy"), 0).reshape(2, -1)
    x, y = (source[0, :2, :2] @ grid + source[0, :2, 2:]).reshape(2, side, side)
    inside = (x.abs() < 0.8) & (y.abs() < 0.8)
    assert inside.sum() > 200
    assert (result - wave(x, y))[inside].abs().max() < 0.03


def test_shrinking_does_not_alias():
    """A pattern finer than the result can show becomes grey instead of another pattern."""
    at = torch.arange(32)
    stripes = ((at % 2) * 2 - 1).to(F64).expand(1, 1, 32, 32)
    small = geometry.resample(stripes, geometry.scaling(each(1.5, 1), each(1, 1)), FILTER)
    nearest = torch.nn.functional.grid_sample(
        stripes, torch.nn.functional.affine_grid(torch.tensor([[[1.5, 0, 0], [0, 1, 0]]], dtype=F64), (1, 1, 32, 32),
        align_corners=False), padding_mode="reflection", align_corners=False)  # fmt: skip
    assert small.std() < 0.5 * nearest.std()


def test_matrices_are_the_published_composition():
    """The transforms' inverses multiplied one by one, in numpy."""
    uniform, normal = noise(6, 3)
    drawn = Draws(uniform, normal, ada.UNIFORMS, ada.NORMALS)
    result, touched = ada.inverse_transforms(strength(0.6), drawn)
    rotated = 1 - math.sqrt(0.4)
    for n in range(6):
        u = dict(zip(ada.UNIFORMS, uniform[n].tolist()))
        v = dict(zip(ada.NORMALS, normal[n].tolist()))
        forward, any_done = np.eye(3), False
        for name in ("scale", "before", "stretch", "after", "move"):
            if u[name + "?"] >= (rotated if name in ("before", "after") else 0.6):
                continue
            any_done = True
            if name == "scale":
                step = np.diag([2 ** (0.2 * v["scale"])] * 2 + [1])
            elif name == "stretch":
                step = np.diag([2 ** (0.2 * v["stretch"]), 2 ** (-0.2 * v["stretch"]), 1])
            elif name == "move":
                step = np.array([[1, 0, 0.25 * v["move_x"]], [0, 1, 0.25 * v["move_y"]], [0, 0, 1]])
            else:
                angle = (2 * u[name] - 1) * math.pi
                cos, sin = math.cos(angle), math.sin(angle)
                step = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
            forward = step @ forward
        np.testing.assert_allclose(result[n].numpy(), np.linalg.inv(forward), atol=1e-12)
        assert bool(touched[n]) == any_done
    assert touched.any()


# --- colour


def test_hue_and_saturation_turn_about_the_grey_axis():
    angles = torch.tensor([0.3, -2.0, math.pi], dtype=F64)
    matrices = colour.hue_rotation(angles)
    axis = np.ones(3) / math.sqrt(3)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    for matrix, a in zip(matrices, angles.tolist()):  # Rodrigues' formula
        expected = np.eye(3) + math.sin(a) * cross + (1 - math.cos(a)) * cross @ cross
        np.testing.assert_allclose(matrix.numpy(), expected, atol=1e-12)
    outer = np.outer(axis, axis)
    for factor, matrix in zip((0.0, 0.5, 2.0), colour.saturation(torch.tensor([0.0, 0.5, 2.0], dtype=F64))):
        np.testing.assert_allclose(matrix.numpy(), outer + (np.eye(3) - outer) * factor, atol=1e-12)
    flip = colour.luma_flip(torch.tensor([True, False]), angles)
    np.testing.assert_allclose(flip[0].numpy(), np.eye(3) - 2 * outer, atol=1e-12)
    np.testing.assert_array_equal(flip[1].numpy(), np.eye(3))


def test_a_third_of_a_turn_moves_red_to_green():
    red = torch.tensor([1.0, 0.0, 0.0], dtype=F64).reshape(1, 3, 1, 1)
    turned = colour.apply(red, colour.hue_rotation(each(2 * math.pi / 3, 1))).flatten()
    assert torch.allclose(turned, torch.tensor([0.0, 1.0, 0.0], dtype=F64), atol=1e-12)
    assert colorsys.rgb_to_hsv(*turned.clamp(0, 1).tolist())[0] == pytest.approx(1 / 3)


def test_grey_pictures_have_the_colours_that_make_sense():
    """As three equal channels would come out, hue and saturation changing nothing of them."""
    uniform, normal = noise(40, 7)
    grey = pictures(40, 1)
    drawn = Draws(uniform, normal, ada.UNIFORMS, ada.NORMALS)
    one = ada.colours(grey, strength(0.7), drawn)
    three = ada.colours(grey.expand(-1, 3, -1, -1), strength(0.7), drawn)
    assert torch.allclose(one.expand_as(three), three, atol=1e-12)
    assert (one.mean() - grey.mean()).abs() > 1e-3


def test_diffaugment_by_its_formulas():
    x, uniform = pictures(5), torch.rand(5, 7, dtype=F64, generator=torch.Generator().manual_seed(1))
    result = diffaugment.diffaugment(x, uniform).numpy()
    for n in range(5):
        u = dict(zip(diffaugment.UNIFORMS, uniform[n].tolist()))
        y = x[n].numpy() + u["brightness"] - 0.5
        grey = y.mean(axis=0)
        y = grey + (y - grey) * 2 * u["saturation"]
        y = y.mean() + (y - y.mean()) * (u["contrast"] + 0.5)
        dx, dy = (math.floor(u[name] * 3) - 1 for name in ("shift_x", "shift_y"))
        y = np.roll(np.pad(y, ((0, 0), (2, 2), (2, 2))), (dy, dx), axis=(1, 2))[:, 2:-2, 2:-2].copy()
        top, left = (math.floor(u[name] * 9) - 2 for name in ("cut_y", "cut_x"))
        y[:, max(top, 0) : max(top + 4, 0), max(left, 0) : max(left + 4, 0)] = 0
        np.testing.assert_allclose(result[n], y, atol=1e-12)


def test_diffaugment_takes_grey_images():
    x = pictures(3, 1)
    assert diffaugment.diffaugment(x, torch.full((3, 7), 0.5, dtype=F64)).shape == x.shape


# --- gradients


def gradients_hold(function, x):
    assert torch.autograd.gradcheck(function, (x.clone().requires_grad_(),))


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    ["blits", "transform", "colours", "diff_colours", "translate", "cutout", "whole", "whole_grey", "diff_whole"],
)
def test_every_augmentation_has_correct_gradients(name):
    x = pictures(2, 1 if name == "whole_grey" else 3, 4)
    uniform, normal = noise(2, 5)
    drawn = Draws(uniform, normal, ada.UNIFORMS, ada.NORMALS)
    other = torch.rand(2, 7, dtype=F64, generator=torch.Generator().manual_seed(2))
    diff = Draws(other, None, diffaugment.UNIFORMS)
    p = strength(0.9)
    functions = {
        "blits": lambda y: ada.blits(y, p, drawn),
        "transform": lambda y: ada.transform(y, p, drawn, FILTER),
        "colours": lambda y: ada.colours(y, p, drawn),
        "diff_colours": lambda y: diffaugment.colours(y, diff),
        "translate": lambda y: diffaugment.translate(y, diff),
        "cutout": lambda y: diffaugment.cutout(y, diff),
        "whole": lambda y: ada.ada(y, p, uniform, normal, FILTER),
        "whole_grey": lambda y: ada.ada(y, p, uniform, normal, FILTER),
        "diff_whole": lambda y: diffaugment.diffaugment(y, other),
    }
    gradients_hold(functions[name], x)


# --- how often and how much


def test_augmentations_come_as_often_and_as_strong_as_published():
    """Of 20,000 draws at p 0.4; four standard errors of room."""
    n, p = 20_000, 0.4
    uniform, normal = noise(n, 11)
    drawn = Draws(uniform, normal, ada.UNIFORMS, ada.NORMALS)

    def near(values, expected):
        share = values.double().mean().item()
        assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / n), (share, expected)

    marker = torch.arange(16, dtype=F64).reshape(1, 1, 4, 4).expand(n, 1, 4, 4)
    only = Draws(
        torch.where(torch.tensor([u.startswith("shift") for u in ada.UNIFORMS]), 1.0, uniform), normal,
        ada.UNIFORMS, ada.NORMALS,
    )  # fmt: skip
    moved = ada.blits(marker, strength(p), only)
    forms = {tuple(f.flatten().int().tolist()): 0 for f in moved[:400]}
    assert len(forms) == 8  # flips and quarter turns, all of them
    # neither mirrored nor turned: (1 - p/2) (1 - 3p/4); mirrored along with half a turn or without, p/8 a kind of turn
    near((moved == marker).all(dim=(1, 2, 3)), (1 - p / 2) * (1 - 3 * p / 4))
    _, touched = ada.inverse_transforms(strength(p), drawn)
    near(touched, 1 - (1 - p) ** 3 * (1 - p))  # scale, stretch, move, and two rotations that together leave 1 - p
    grey = torch.zeros(n, 1, 1, 1, dtype=F64)
    bright = ada.colours(grey, strength(p), drawn).flatten()
    near(bright != 0, p)
    dot = torch.full((n, 1, 1, 1), 1.0, dtype=F64)
    only_contrast = Draws(
        torch.where(torch.tensor([u == "brightness?" for u in ada.UNIFORMS]), 1.0, uniform), normal,
        ada.UNIFORMS, ada.NORMALS,
    )  # fmt: skip
    contrast = ada.colours(dot, strength(p), only_contrast).flatten()
    near(contrast < 0, p / 2)
    logs = contrast.abs().log2()
    near(logs != 0, p)
    assert logs[logs != 0].std() == pytest.approx(0.5, rel=0.03)
    assert bright.std().item() > 0


def test_noise_of_another_width_is_refused():
    with pytest.raises(ValueError, match="columns"):
        Draws(torch.rand(2, 6), None, diffaugment.UNIFORMS)


def test_float32_augmentation_is_near_float64():
    """bf16 pictures are augmented as float32."""
    x = pictures(2).bfloat16()
    uniform, normal = noise(2, dtype=torch.float32)
    result = ada.ada(x.float(), torch.tensor(0.8), uniform, normal, geometry.lowpass())
    again = ada.ada(x.double(), torch.tensor(0.8), uniform.double(), normal.double(), FILTER)
    assert (result - again).abs().max() < 1e-4


# --- transparency


def premultiplied(n=3, side=8):
    """RGBA in [-1, 1] whose colours are multiplied by alpha, and its straight colours and alpha in [0, 1]."""
    x = (pictures(n, 4, side) + 1) / 2
    colour, alpha = x[:, :3], x[:, 3:].clone()
    alpha[:, :, : side // 2] = 1.0
    alpha[:, :, 0] = 0.0
    return torch.cat([colour * alpha, alpha], dim=1) * 2 - 1, colour * 2 - 1, alpha


def test_adas_colours_are_those_of_the_opaque_picture_and_leave_alpha():
    x, colours, alpha = premultiplied()
    p, draws = strength(1.0), Draws(*noise(3), ada.UNIFORMS, ada.NORMALS)
    changed = colour.beside_alpha(x, lambda q, a: ada.colours(q, p, draws, a))
    expected = (ada.colours(colours, p, draws) + 1) / 2 * alpha * 2 - 1
    assert torch.allclose(changed[:, :3], expected)
    assert torch.equal(changed[:, 3:], x[:, 3:])
    assert not torch.allclose(changed[:, :3], x[:, :3])


def test_diffaugments_colours_leave_alpha_and_what_is_filled_in_is_transparent():
    x, _, alpha = premultiplied()
    draws = Draws(torch.rand(3, 7, dtype=F64), None, diffaugment.UNIFORMS)
    changed = colour.beside_alpha(x, lambda q, a: diffaugment.colours(q, draws, a))
    assert torch.equal(changed[:, 3:], x[:, 3:])
    hidden = (alpha == 0).expand(-1, 3, -1, -1)
    assert torch.allclose(changed[:, :3][hidden], torch.tensor(-1.0, dtype=F64))
    opaque = torch.full((1, 4, 8, 8), 1.0, dtype=F64)
    uniform = torch.full((1, 7), 0.5, dtype=F64)
    cut = diffaugment.diffaugment(opaque, uniform)[0]
    assert torch.allclose(cut[:, 4, 4], torch.tensor(-1.0, dtype=F64))
    assert cut[3, 0, 0] == 1.0
