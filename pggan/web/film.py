"""The timeline's film: keyframes of the page as those of `pggan.editing.keyframes`, at any time, and as a file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from pggan.editing.keyframes import FORMAT, Keyframes
from pggan.utils.errors import UsageError
from pggan.web.latent_sets import latent_set
from pggan.web.rendering.drawing import Latent
from pggan.web.session.screen import MOST_FRAME_SECONDS, MOST_FRAMES, Screen

if TYPE_CHECKING:
    from pggan.web.explorer import Explorer

MOST_SECONDS = MOST_FRAMES * MOST_FRAME_SECONDS
# Moments a second that a preview tells apart.
MOMENTS = 100_000
LATENTS_NAME, JSON_NAME = "keyframes.safetensors", "keyframes.json"


def keyframes_of(explorer: Explorer, screen: Screen) -> Keyframes:
    """Returns the keyframes of a screen. Raises `UsageError` for fewer than two."""
    frames = screen.frames
    if len(frames) < 2:
        raise UsageError("a film needs two keyframes at least; add pictures to the timeline")
    points = [(frame.point, screen, f"keyframe{number + 1:02d}") for number, frame in enumerate(frames)]
    seconds, easings = tuple(frame.seconds for frame in frames), tuple(frame.easing for frame in frames)
    return Keyframes(latent_set(explorer, points), seconds, easings, screen.path, screen.loop)


def film_at(explorer: Explorer, screen: Screen, time: float) -> Latent:
    """Returns the latent at a time in seconds.

    Raises:
        UsageError: There are fewer than two keyframes.
    """
    keyframes = keyframes_of(explorer, screen)
    last = keyframes.frames(MOMENTS)
    share = time / keyframes.length
    moment = round(share * last) % last if screen.loop else round(min(share, 1.0) * (last - 1))
    rows, labels = keyframes.at(moment, MOMENTS)
    return explorer.latent_of_row(rows[0], None if labels is None else labels[0])


def write_keyframes(explorer: Explorer, screen: Screen, path: Path, scratch: Path) -> None:
    """Writes a zip of the files that `pggan interpolate --keyframes keyframes.json` plays; `scratch`: a free path."""
    keyframes = keyframes_of(explorer, screen)
    entries = [
        {"latents": LATENTS_NAME, "name": name, "seconds": seconds, "easing": easing}
        for name, seconds, easing in zip(keyframes.latents.names, keyframes.seconds, keyframes.easings)
    ]
    about = {"format": FORMAT, "path": keyframes.path, "loop": keyframes.loop, "keyframes": entries}
    try:
        keyframes.latents.save(scratch)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
            file.writestr(JSON_NAME, json.dumps(about, indent=2) + "\n")
            file.write(scratch, LATENTS_NAME)
    finally:
        scratch.unlink(missing_ok=True)
