"""The timeline's film: the latent at any time between keyframes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pggan.generation.latent_walks import slerp
from pggan.utils.errors import UsageError
from pggan.web.session.points import Vector, label_vector, latent_of
from pggan.web.session.screen import MOST_FRAME_SECONDS, MOST_FRAMES, Screen

if TYPE_CHECKING:
    from pggan.web.explorer import Explorer

MOST_SECONDS = MOST_FRAMES * MOST_FRAME_SECONDS


def film_seconds(screen: Screen) -> float:
    """Returns the film's length: the last keyframe's time counts where the film is a loop."""
    frames = screen.frames if screen.loop else screen.frames[:-1]
    return sum(frame.seconds for frame in frames)


def film_at(explorer: Explorer, screen: Screen, time: float) -> tuple[Vector, Vector]:
    """Returns the latent with its codes and the label vector at a time in seconds.

    Raises:
        UsageError: There are fewer than two keyframes.
    """
    frames, count = screen.frames, len(screen.frames)
    if count < 2:
        raise UsageError("a film needs two keyframes at least; add pictures to the timeline")
    time = time % film_seconds(screen) if screen.loop else min(time, film_seconds(screen))
    at = 0
    while at < count - (1 if screen.loop else 2) and time >= frames[at].seconds:
        time -= frames[at].seconds
        at += 1
    share = min(1.0, time / frames[at].seconds)
    near = [at - 1, at, at + 1, at + 2]
    near = [n % count if screen.loop else min(max(n, 0), count - 1) for n in near]
    directions, space = explorer.directions(screen), explorer.space
    rows = [latent_of(frames[n].point, space, directions) for n in near]
    labels = [label_vector(frames[n].point, space) for n in near[1:3]]
    if frames[at].easing == "ease":
        share = share * share * (3 - 2 * share)
    noise = [row[: space.latent_size] for row in rows]
    latent = _spline(noise, share) if frames[at].easing == "spline" else slerp(noise[1], noise[2], share)
    codes = (1 - share) * rows[1][space.latent_size :] + share * rows[2][space.latent_size :]
    return (
        np.concatenate([latent, codes]).astype(np.float32),
        ((1 - share) * labels[0] + share * labels[1]).astype(np.float32),
    )


def _spline(points: list[Vector], t: float) -> NDArray[np.float64]:
    """Catmull and Rom's spline (1974) through unit vectors, put back on the sphere; lengths change linearly."""
    lengths = [float(np.linalg.norm(point)) or 1.0 for point in points]
    a, b, c, d = (point.astype(np.float64) / length for point, length in zip(points, lengths))
    m, n = (c - a) / 2, (d - b) / 2
    t2, t3 = t * t, t * t * t
    row = (2 * t3 - 3 * t2 + 1) * b + (t3 - 2 * t2 + t) * m + (-2 * t3 + 3 * t2) * c + (t3 - t2) * n
    length = (1 - t) * lengths[1] + t * lengths[2]
    return np.asarray(row * length / max(float(np.linalg.norm(row)), 1e-12))
