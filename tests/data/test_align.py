"""Face crops by landmarks, against hand-computed squares and drawn faces; and the files that landmarks come in."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from pggan.data.prepare.prepare import PrepareOptions, prepare
from pggan.data.sources import open_source
from pggan.data.sources.aligned import NOTE, AlignedReader, AlignedSource, align_face, crop_square
from pggan.data.sources.base import BadImage, DecodedImage, Reader, Ref, Source
from pggan.data.sources.landmarks import Landmarks
from pggan.data.store.store import Store
from pggan.utils.errors import DataError

UPRIGHT = np.array([[100, 100], [140, 100], [105, 150], [135, 150]], float)
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))


def turned(points, degrees, about):
    """Anticlockwise as seen, as Pillow turns pictures; `about` a pixel's coordinates."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (np.asarray(points) - about) @ turn.T + about


def face(points, size, radius):
    """A shaded ground with a dot of its own colour at each landmark."""
    ramp = np.linspace(60, 180, size)
    ground = np.stack([np.tile(ramp, (size, 1)), np.tile(ramp[:, None], (1, size)), np.full((size, size), 90)], 2)
    picture = Image.fromarray(ground.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for (x, y), colour in zip(points, COLOURS):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return picture


def spot(image, colour):
    """The centre of the pixels of about this colour, as (x, y)."""
    near = np.abs(image.astype(int) - colour).max(2) < 40
    return np.argwhere(near).mean(0)[::-1]


def test_the_square_equals_one_computed_by_hand():
    square = crop_square(UPRIGHT)
    np.testing.assert_allclose(square.centre, [120, 105])  # 0.1 of 50 below the eyes
    np.testing.assert_allclose([square.x_axis, square.y_axis], np.eye(2), atol=1e-12)
    assert square.side == pytest.approx(180)  # 3.6 x 50 is more than 4 x 40
    wide = crop_square([[100, 100], [160, 100], [105, 150], [135, 150]])
    assert wide.side == pytest.approx(240)  # 4 x 60 is more than 3.6 x 50
    # the eye line falls by 45 degrees, the mouth lies straight below: x is the sum of (40, 40) and (60, 0)
    slanted = crop_square([[0, 0], [40, 40], [20, 80], [20, 80]])
    np.testing.assert_allclose(slanted.x_axis, np.array([5, 2]) / np.sqrt(29))
    np.testing.assert_allclose(slanted.y_axis, np.array([-2, 5]) / np.sqrt(29))
    np.testing.assert_allclose(slanted.centre, [20, 26])
    assert slanted.side == pytest.approx(4 * np.hypot(40, 40))


@pytest.mark.parametrize("degrees", [0, 30, -75, 180])
def test_square_turns_with_the_face_and_left_may_be_either(degrees):
    points = turned(UPRIGHT, degrees, (50, 70))
    square = crop_square(points)
    np.testing.assert_allclose(square.centre, turned([[120, 105]], degrees, (50, 70))[0])
    np.testing.assert_allclose(square.x_axis, turned([[1, 0]], degrees, (0, 0))[0], atol=1e-12)
    np.testing.assert_allclose(square.y_axis, turned([[0, 1]], degrees, (0, 0))[0], atol=1e-12)
    for order in ([1, 0, 3, 2], [1, 0, 2, 3], [0, 1, 3, 2]):
        for ours, theirs in zip(crop_square(points[order]), square):
            np.testing.assert_allclose(ours, theirs)


@pytest.mark.parametrize(
    "points",
    [np.full((4, 2), 7.0), [[0, 0]] * 3 + [[0.1, 0]], np.full((4, 2), np.nan), UPRIGHT * 1e6, UPRIGHT * 1e306],
)
def test_points_that_make_no_square_are_refused(points):
    with pytest.raises(BadImage, match=r"^landmarks "):
        crop_square(points)


@pytest.mark.parametrize("degrees", [0, 30, -75, 180])
@pytest.mark.parametrize("side", [64, 128, 300])
def test_landmarks_land_where_they_should(degrees, side):
    size = 600
    points = UPRIGHT + np.array([180, 195])  # the square is at the middle: 210..390
    upright = face(points, size, 8)
    picture = upright.rotate(degrees, Image.Resampling.BICUBIC)
    crop = align_face(np.asarray(picture), turned(points, degrees, (299.5, 299.5)), side)
    assert crop.shape == (side, side, 3)
    scale = side / 180
    for (x, y), colour in zip(points, COLOURS):
        expected = np.array([x + 0.5 - 210.5, y + 0.5 - 210.5]) * scale - 0.5
        np.testing.assert_allclose(spot(crop, colour), expected, atol=0.6 * max(1, scale))
    plain = align_face(np.asarray(upright), points, side)
    assert np.abs(crop.astype(int) - plain).mean() < 1


def square_of(side, left, top):
    """Landmarks whose square is exactly side x side pixels of the picture from (left, top)."""
    x, y = left + side / 2 - 0.5, top + side / 2 - 0.5 - side / 80
    return [[x - side / 8, y], [x + side / 8, y], [x - 3, y + side / 8], [x + 3, y + side / 8]]


def test_unturned_and_of_the_same_size_is_a_plain_crop():
    image = np.random.default_rng(0).integers(0, 256, (200, 160, 3), np.uint8)
    np.testing.assert_array_equal(align_face(image, square_of(64, 50, 90), 64), image[90:154, 50:114])
    np.testing.assert_array_equal(align_face(image[:, :, :1], square_of(64, 50, 90), 64), image[90:154, 50:114, :1])


@pytest.mark.parametrize("degrees", [0, 20])
def test_fine_patterns_are_not_aliased(degrees):
    checks = ((np.indices((1024, 1024)).sum(0) % 2) * 255).astype(np.uint8)[:, :, None]
    points = turned(square_of(512, 256, 256), degrees, (511.5, 511.5))
    for side in (64, 200):
        crop = align_face(checks, points, side).astype(int)
        assert np.abs(crop - 127.5).max() < 6


def test_outside_is_dissolved_and_inside_untouched():
    noise = np.random.default_rng(1).integers(100, 256, (300, 300, 3), np.uint8)
    crop = align_face(noise, square_of(128, -40, -56), 128)
    np.testing.assert_array_equal(crop[56:, 40:], noise[:72, :88])
    assert crop.min() >= 95  # no black
    # a reflection at the very edge, smoother with the distance
    assert np.abs(crop[56:, 39].astype(int) - noise[:72, 0]).mean() < 5
    near, far = crop[60:, 34:39].std(), crop[60:, :5].std()
    assert near > 2 * far
    # a corner far out is the median colour
    corner = align_face(noise, square_of(128, -64, -64), 128)[0, 0]
    assert np.abs(corner - np.median(noise[:64, :64], (0, 1))).max() <= 2


def test_what_lies_mostly_outside_is_refused():
    image = np.zeros((300, 300, 3), np.uint8)
    for points in (square_of(128, -110, -80), square_of(4000, 0, 0), square_of(2e6, 0, 0), square_of(64, 9000, 0)):
        with pytest.raises(BadImage, match="of the crop lies in the picture"):
            align_face(image, points, 64)


def test_a_large_photograph_is_reduced_before_it_is_turned(monkeypatch):
    turned_sizes, transform = [], Image.Image.transform

    def recording(self, *arguments):
        turned_sizes.append(max(self.size))
        return transform(self, *arguments)

    monkeypatch.setattr(Image.Image, "transform", recording)
    image = np.full((6000, 4000, 3), 130, np.uint8)
    crop = align_face(image, turned(square_of(5000, -500, 500), 20, (2000, 3000)), 256)
    assert len(turned_sizes) == 1
    assert turned_sizes[0] < 4 * 256
    assert np.abs(crop.astype(int) - 130).max() <= 1


ANY = st.floats(allow_nan=False, allow_infinity=False) | st.floats(-40, 90) | st.integers(-5, 60)


@pytest.mark.long
def test_any_landmarks_give_a_crop_or_a_report():
    outcomes = set()

    @settings(max_examples=200, deadline=None)
    @given(
        st.lists(ANY, min_size=8, max_size=8) | st.lists(st.floats(5, 40), min_size=8, max_size=8),
        st.sampled_from([1, 3, 8]),
        st.sampled_from([1, 3]),
    )
    def check(numbers, side, channels):
        image = np.full((40, 50, channels), 200, np.uint8)
        try:
            crop = align_face(image, np.array(numbers, float).reshape(4, 2), side)
        except BadImage:
            outcomes.add("report")
            return
        assert crop.shape == (side, side, channels)
        assert crop.dtype == np.uint8
        assert np.abs(crop.astype(int) - 200).max() <= 1
        outcomes.add("crop")

    check()
    assert outcomes == {"crop", "report"}


NAMES = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
ROWS = (
    "000001.jpg 165  184  244  176  196  249  194  271  266  260\n000002.jpg 140 204 220 204 168 249 146 289 226 289.5"
)
EXPECTED = [[165, 184], [244, 176], [194, 271], [266, 260]]
SWAPPED = "000001.jpg 244 176 165 184 196 249 266 260 194 271\n000002.jpg 220 204 140 204 168 249 226 289.5 146 289"
WITHOUT_NOSE = "000001.jpg 165 184 244 176 194 271 266 260\n000002.jpg 140 204 220 204 146 289 226 289.5"
CSV = "image_id," + NAMES.replace(" ", ",") + "\n" + "\n".join(",".join(row.split()) for row in ROWS.split("\n"))
SHUFFLED = (
    "image_id,Nose_X,nose_y,left_mouth_x,left_mouth_y,score,righteye_x,righteye_y,rightmouth_x,rightmouth_y,"
    "lefteye_x,lefteye_y\n000001.jpg,196,249,194,271,high,244,176,266,260,165,184\n"
    "000002.jpg,168,249,146,289,low,220,204,226,289.5,140,204"
)


def written(tmp_path, text):
    path = tmp_path / "landmarks.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize(
    "text",
    [
        f"2\n{NAMES}\n{ROWS}\n",
        f"2\n{NAMES} \n{ROWS}\n".replace("\n", "\r\n"),
        f"{NAMES}\n{ROWS}",
        ROWS,
        f"\ufeff{ROWS}\n\n",
        SWAPPED,
        WITHOUT_NOSE,
        CSV,
        CSV.replace("\n", "\r\n").replace(",", ", "),
        CSV.split("\n", 1)[1],
        SHUFFLED,
    ],
)
def test_every_kind_of_landmark_file_is_read(tmp_path, text):
    landmarks = Landmarks.read(written(tmp_path, text))
    assert len(landmarks) == 2
    np.testing.assert_array_equal(landmarks.get("000001.jpg"), EXPECTED)
    assert landmarks.get("000002.jpg")[3, 1] == 289.5
    np.testing.assert_array_equal(landmarks.get("img_celeba/000001.jpg"), EXPECTED)
    np.testing.assert_array_equal(landmarks.get("faces\\000001.jpg"), EXPECTED)
    assert landmarks.get("000003.jpg") is None


def test_names_with_spaces_and_folders_are_found(tmp_path):
    text = "my face.jpg,165,184,244,176,194,271,266,260\na/x.jpg,1,1,9,1,1,9,9,9\nx.jpg,2,2,8,2,2,8,8,8"
    landmarks = Landmarks.read(written(tmp_path, text))
    np.testing.assert_array_equal(landmarks.get("photos/my face.jpg"), EXPECTED)
    assert landmarks.get("a/x.jpg")[0, 0] == 1
    assert landmarks.get("b/x.jpg")[0, 0] == 2


@pytest.mark.parametrize(
    "text, line, why",
    [
        ("", 1, "no landmarks in this file"),
        ("\n\n", 1, "no landmarks in this file"),
        (f"2\n{NAMES}\n", 2, "no landmarks in this file"),
        (f"3\n{NAMES}\n{ROWS}", 1, "says 3 rows, but there are 2"),
        (ROWS + " 7", 2, "11 numbers in place of 10 as before"),
        ("a.jpg 1 2 3", 1, "3 numbers in place of 10 or 8"),
        ("image_id x_1 y_1 width height\na.jpg 1 2 3 4", 1, "4 numbers in place of 10 or 8"),
        (ROWS.replace("289.5", "inf"), 2, "'inf' is not a number"),
        (ROWS.replace("289.5", "nan"), 2, "'nan' is not a number"),
        (ROWS.replace("184", "?"), 1, r"'\?' is not a number"),
        (f"2\n{NAMES}\n{ROWS}".replace("000002", "000001"), 4, "'000001.jpg' comes twice"),
        (CSV.replace("000002.jpg", ""), 3, "no name"),
        (CSV.replace("leftmouth_x", "chin_x"), 1, "no column, or several, of the name leftmouth_x"),
        (b"\x89PNG\r\n\x1a\n\0\0", 1, "not text"),
        (ROWS.encode() + b"\n\xff\xfe", 3, "not text"),
        (b"a" * 10**6, 1, "not text"),
        (ROWS.replace(" ", ",").replace("\n", "\r"), 1, "numbers in place of"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, text, line, why):
    path = written(tmp_path, text)
    with pytest.raises(DataError, match=why) as caught:
        Landmarks.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line {line}: ")
    assert "\n" not in message


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        Landmarks.read(str(tmp_path / "none.txt"))


@pytest.mark.long
def test_two_hundred_thousand_landmarks_take_little_memory(tmp_path):
    text = "\n".join(f"{i:06}.jpg 165 184 244 176 196 249 194 271 266 260" for i in range(200_000))
    assert len(pickle.dumps(Landmarks.read(written(tmp_path, text)))) < 20e6


class _Reader(Reader):
    def read(self, ref, channels):
        return DecodedImage(np.full((400, 400, channels), ref.payload, np.uint8), ("palette",), (3,))

    def size(self, ref):
        raise AssertionError("the crop's size is known without the picture")


class _Source(Source):
    label_columns = ("a column",)
    attribution = "someone"

    @staticmethod
    def sniff(spec):
        return True

    def __len__(self):
        return 3

    def refs(self):
        return [Ref(f"in/00000{i}.jpg", i) for i in (1, 2, 3)]

    def sample(self, count, among):
        return iter([Ref("sampled", 0)])

    def reader(self, resolution, seed):
        return _Reader()


def test_the_aligned_reader_crops_another_reader_s_pictures(tmp_path):
    source = AlignedSource(_Source(), written(tmp_path, ROWS))
    assert not AlignedSource.sniff(str(tmp_path))
    assert len(source) == 3
    assert source.label_columns == ("a column",)
    assert source.attribution == "someone"
    assert [ref.name for ref in source.sample(1, 1)] == ["sampled"]
    refs = list(source.refs())
    side = round(crop_square(EXPECTED).side)
    for resolution in (64, 512):
        reader = pickle.loads(pickle.dumps(source.reader(resolution, 0)))
        assert isinstance(reader, AlignedReader)
        assert reader.size(refs[0]) == (side, side)
        picture = reader.read(refs[0], 1)
        assert picture.image.shape == (min(resolution, side), min(resolution, side), 1)
        assert (picture.image == 1).all()
        assert picture.labels == (3,)
        assert picture.notes == ("palette", NOTE)
        for call in (reader.size, lambda ref, reader=reader: reader.read(ref, 3)):
            with pytest.raises(BadImage, match="no landmarks"):
                call(refs[2])


def test_aligned_faces_become_a_store(tmp_path):
    """Through prepare, as a person does it: two turned pictures, one without landmarks, one too small a face."""
    pictures, lines = tmp_path / "pictures", []
    pictures.mkdir()
    for name, scale in (("a.png", 1.0), ("b.png", 1.0), ("none.png", 1.0), ("small.png", 0.1)):
        Image.fromarray(np.full((200, 200, 3), 90, np.uint8)).save(pictures / name)
        points = (100 + scale * (np.array([[-15, -10], [15, -10], [0, 0], [-12, 20], [12, 20]]))).ravel()
        if name != "none.png":
            lines.append(f"{name} " + " ".join(f"{value:g}" for value in points))
    (tmp_path / "landmarks.txt").write_text("\n".join(lines))
    report = prepare(
        str(pictures), tmp_path / "store", PrepareOptions(max_res=64, align=str(tmp_path / "landmarks.txt"))
    )
    assert report.count == 2
    assert report.left_out == {"bad": 1, "too small": 1}
    assert report.bad[0]["name"] == "none.png"
    assert report.converted[NOTE] == 2
    with Store(tmp_path / "store") as store:
        assert (store.read(64, [0, 1]) == 90).all()


def test_faces_of_grey_pictures_become_a_grey_store(tmp_path):
    np.savez(tmp_path / "grey.npz", images=np.full((2, 200, 200, 1), 90, np.uint8))
    source = open_source(str(tmp_path / "grey.npz"))
    points = " ".join(str(value) for value in UPRIGHT.astype(int).ravel())
    text = "\n".join(f"{ref.name},{points.replace(' ', ',')}" for ref in source.refs())
    aligned = AlignedSource(source, written(tmp_path, text))
    assert source.channels == aligned.channels == 1
    prepare(str(tmp_path / "grey.npz"), tmp_path / "store", PrepareOptions(max_res=16, align=written(tmp_path, text)))
    with Store(tmp_path / "store") as store:
        assert store.manifest.channels == 1
