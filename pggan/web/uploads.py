"""Pictures that were dropped on the page: one of pggan's brings its state back, any other one is a photograph."""

from __future__ import annotations

import base64
import io
import secrets
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pggan.data.sources.base import BadImage
from pggan.data.sources.image_io import read_image
from pggan.editing.faces.face_points import corners, face_points, why_no_faces
from pggan.editing.latent_sources import label_and_codes, latents_of_entry
from pggan.generation.images import read_metadata
from pggan.utils.errors import DataError, PgganError, UsageError
from pggan.utils.untrusted import reading
from pggan.web.latent_sets import point_of, restored
from pggan.web.session.points import Point, classes_of, parse_point
from pggan.web.session.screen import changed

if TYPE_CHECKING:
    from pggan.web.explorer import Explorer

MOST_UPLOAD_BYTES = 25 << 20
# Photographs in memory; the oldest one goes first. Larger ones are reduced to this side.
MOST_PHOTOGRAPHS, MOST_SIDE = 4, 1600


class Photographs:
    """Photographs by id, in memory alone."""

    def __init__(self) -> None:
        self._images: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()

    def add(self, image: NDArray[np.uint8]) -> str:
        key = secrets.token_hex(8)
        self._images[key] = image
        while len(self._images) > MOST_PHOTOGRAPHS:
            self._images.popitem(last=False)
        return key

    def find(self, key: str) -> NDArray[np.uint8]:
        """Returns a photograph (H, W, C). Raises `UsageError` where it is gone."""
        if key not in self._images:
            raise UsageError("the photograph is gone; drop it again")
        return self._images[key]


def accept(data: bytes, explorer: Explorer) -> dict[str, Any]:
    """Reads a picture: its state if pggan made it, else its id as a photograph.

    Raises:
        UsageError: It is no picture.
    """
    try:
        image, _ = read_image(data, explorer.model.channels)
    except BadImage as error:
        raise UsageError(f"{error}; PNG, JPEG, WebP, BMP and TIFF can be read") from None
    try:
        entry = read_metadata(io.BytesIO(data))
    except DataError:
        entry = {}
    if (screen := _screen_of(entry, explorer)) is not None:
        return {"kind": "state", "screen": screen, "difference": _difference(entry, screen, explorer)}
    height, width = image.shape[:2]
    factor = -(-max(height, width) // MOST_SIDE)
    small = np.ascontiguousarray(image[::factor, ::factor])
    why = why_no_faces()
    points = None if why else face_points(small)
    return {
        "kind": "photograph",
        "key": explorer.photographs.add(small),
        "width": small.shape[1],
        "height": small.shape[0],
        "points": None if points is None else (corners(points) + 0.5).tolist(),
        "why": why or ("" if points is not None else "no face was found in it"),
    }


def _difference(entry: dict[str, Any], screen: dict[str, Any], explorer: Explorer) -> str:
    """Returns why a PNG's entry shows another picture on this page, in a sentence; empty: it shows the same one."""
    shown, known = "Its seed or latent is shown, and looks different", True
    try:
        own_screen = changed(explorer.first_screen(), screen, explorer.space)
        known = explorer.directions(own_screen).keys() >= dict(own_screen.stage.moves).keys()
        loaded = explorer.shelf.loaded(own_screen.snapshot)
    except PgganError:
        loaded = explorer.shelf.loaded("")
    model, own = loaded.model, loaded.about
    if entry.get("sha256") not in (None, own["sha256"]):
        return f"Another model made this picture: {str(entry.get('model'))[:80]}. {shown} with this one."
    if bool(entry.get("raw")) != model.file.raw:
        return f"This picture is of the generator itself (--raw). {shown} with its average."
    truncation = entry.get("truncation", 1.0)
    if truncation != model.truncation:
        return f"This picture was made with a truncation of {str(truncation)[:8]}. {shown} with {model.truncation:g}."
    if not known:
        return "Directions of its sliders are gone. It is shown without their moves; find them again under Sliders."
    return ""


def _seed(entry: dict[str, Any], explorer: Explorer) -> Point:
    """Returns the point of an entry's seed, with the class and the codes of its picture where the model has those."""
    seed, space = Point(seed=entry["seed"]), explorer.space
    try:
        with reading("the picture", DataError, "drop another one"):
            label, codes = label_and_codes(entry)
            classes = () if label is None else space.labels.choose(label)
            if classes == classes_of(seed, space):
                classes = ()  # the seed's own
            return parse_point(replace(seed, classes=classes, codes=tuple(codes.items())).to_json(), space)
    except PgganError:
        return seed  # of a model with other labels or codes


def _own_screen(entry: dict[str, Any], explorer: Explorer) -> dict[str, Any]:
    """Returns the explorer's own screen of an entry; its latent replaces moves whose directions are gone."""
    try:
        with reading("the picture", DataError, "drop another one"):
            screen = changed(explorer.first_screen(), entry["explore"], explorer.space)
            parts = entry.get("moved_latent") or entry.get("latent") or {}
            latent = b"".join(base64.b64decode(parts[name]) for name in ("w", "z", "codes") if name in parts)
            if len(latent) == 4 * explorer.space.width:
                return {**entry["explore"], "stage": restored(explorer, screen.stage, latent, screen).to_json()}
    except PgganError:
        pass  # of another model: the page says what does not fit
    return dict(entry["explore"])


def _screen_of(entry: dict[str, Any], explorer: Explorer) -> dict[str, Any] | None:
    """Returns the screen of a PNG's entry: the explorer's own, or that of a seed or latent; None without those."""
    if isinstance(entry.get("explore"), dict):
        return _own_screen(entry, explorer)
    if type(entry.get("seed")) is int:
        return {"stage": _seed(entry, explorer).to_json()}
    if not isinstance(entry.get("latent"), dict):
        return None
    try:
        with reading("the picture", DataError, "drop another one"):
            latents = latents_of_entry(entry, Path("picture.png"), explorer.model).check_model(explorer.model)
    except PgganError:
        return None  # of a model with other latents
    return {"stage": point_of(explorer, latents).to_json()}
