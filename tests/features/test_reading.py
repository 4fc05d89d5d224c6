"""What is in image files, by content: how bright white is, what is no image, what Pillow warns of, what is broken."""

import contextlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from features.commands import progress
from features.datasets import ImageFiles, open_dataset
from features.datasets.images import ReadingWarning, read_image
from features.datasets.white import White, real_white, whole_white
from features.errors import UserError

GREY = np.random.default_rng(0).integers(0, 256, (9, 7)).astype(np.uint16)
GREY[0, :2] = 0, 255


def png(pixels, colour_type, extra=b""):
    """A PNG of 16 bits, which Pillow cannot write in colours: uint16 (H, W) or (H, W, C)."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    )


def tiff(pixels, order, packed):
    """A TIFF of 16-bit colours, uint16 (H, W, 3 or 4), in one strip; order: '<' or '>'."""
    height, width, channels = pixels.shape
    data = pixels.astype(order + "u2").tobytes()
    data = zlib.compress(data) if packed else data
    places = 10 + 12 * (10 + (channels == 4)) + 4
    fields = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, places), (259, 3, 1, 8 if packed else 1)]
    fields += [(262, 3, 1, 2), (273, 4, 1, places + 2 * channels), (277, 3, 1, channels), (278, 3, 1, height)]
    fields += [(279, 4, 1, len(data)), (284, 3, 1, 1)] + [(338, 3, 1, 2)] * (channels == 4)
    entries = b"".join(
        struct.pack(order + "HHI", tag, kind, count)
        + (struct.pack(order + "HH", value, 0) if kind == 3 and count == 1 else struct.pack(order + "I", value))
        for tag, kind, count, value in fields
    )
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(fields))
    return start + entries + struct.pack(order + "I", 0) + struct.pack(order + f"{channels}H", *[16] * channels) + data


def stored(pixels, suffix=".png", **options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=Image.registered_extensions()[suffix], **options)
    return stream.getvalue()


def read(content, white=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReadingWarning)
        return read_image(io.BytesIO(content), "it", white or White())


def deep(step, white):
    """The same grey values by steps of so many, in every kind of file that holds more than 8 bits."""
    grey, full = GREY * step, np.full_like(GREY, 65535)
    colours = np.stack([grey] * 3, -1)
    yield "grey PNG", stored(grey)
    yield "grey TIFF, the higher byte first", stored(grey.astype(">u2"), ".tif")
    yield "grey TIFF of 32 bits", stored(grey.astype(np.int32), ".tif")
    yield "grey PNG with alpha", png(np.dstack([grey, full]), 4)
    yield "grey PNG with alpha on the same scale", png(np.dstack([grey, np.full_like(GREY, white)]), 4)
    yield "RGB PNG", png(colours, 2)
    yield "RGBA PNG", png(np.dstack([colours, full]), 6)
    for order in "<>":
        for packed in (False, True):
            yield f"RGB TIFF {order} {packed}", tiff(colours, order, packed)
            yield f"RGBA TIFF {order} {packed}", tiff(np.dstack([colours, full]), order, packed)
    yield "PGM", b"P5 7 9 65535\n" + grey.astype(">u2").tobytes()
    yield "JPEG 2000", stored(grey, ".jp2", irreversible=False)


@pytest.mark.parametrize(("step", "white"), [(1, 255), (4, 1023), (16, 4095), (64, 16383), (257, 65535)])
def test_more_than_8_bits_are_scaled_by_the_fewest_that_hold_them(step, white):
    expected = np.round(GREY * step * 255.0 / white)
    for kind, content in deep(step, white):
        for known in (White(), White(deep=white)):
            pixels = read(content, known)
            grey = pixels if pixels.ndim == 2 else pixels[..., 1]
            assert pixels.dtype == np.uint8 and np.abs(grey - expected).max() <= (step == 257), (kind, known)


def test_a_dark_image_stays_dark_beside_what_is_known_to_be_white():
    assert read(stored(GREY * 16), White(deep=65535)).max() == 16
    assert read(png(np.dstack([GREY * 16] * 3), 2), White(deep=65535)).max() == 15  # as Pillow has it, and 0.1.0 did
    assert read(stored((GREY / 2550).astype(np.float32), ".tif"), White(real=1.0)).max() == 26
    for kind, content in deep(257, 65535):
        with pytest.raises(UserError, match="where 0 is black and 4095 white"):
            read(content, White(deep=4095))
            pytest.fail(kind)


def test_what_0_1_0_trained_is_asked_nothing_that_would_be_nearly_black():
    unknown = White.from_json(None)
    assert np.array_equal(read(stored(GREY * 257), unknown), GREY)
    with pytest.raises(UserError, match="values reach to 4,080 of 65,535, and the model was trained by version 0.1.0"):
        read(stored(GREY * 16), unknown)


def test_an_image_by_itself_says_what_was_taken_for_white():
    with pytest.warns(ReadingWarning, match="more than 8 bits, and nothing says what is white: 4095 is taken for it"):
        read_image(io.BytesIO(stored(GREY * 16)), "it")


@pytest.mark.parametrize("scale", [1 / 255, 1, 16, 257])
def test_floating_point_numbers(scale):
    values = (GREY * scale).astype(np.float32)
    assert np.abs(read(stored(values, ".tif")) - GREY.astype(int)).max() <= 1
    values[3, 3] = np.nan
    with pytest.raises(UserError, match="it holds NaN or infinity"):
        read(stored(values, ".tif"))
    values[3, 3] = -128 * scale
    with pytest.raises(UserError, match="its values reach from -.*, where 0 is black"):
        read(stored(values, ".tif"))


def test_whole_numbers_below_zero_and_beyond_16_bits_are_refused():
    for pixels in (GREY.astype(np.int32) - 5, GREY.astype(np.int32) * 300):
        with pytest.raises(UserError, match="its values reach"):
            read(stored(pixels, ".tif"))


def test_white():
    assert [whole_white(highest) for highest in (0, 1, 16, 64, 255, 256, 4095, 4096, 65535)] == [
        *(255, 1, 16, 255, 255, 1023, 4095, 16383, 65535)
    ]
    assert [real_white(highest) for highest in (0, 0.1, 0.3, 1, 1.5, 200, 300)] == [1, 0.1, 1, 1, 1.5, 255, 1023]
    for white in (White(), White(shallow=1), White(deep=4095, real=0.5), White(deep=65535)):
        assert White.from_json(white.to_json()) == white
    assert White.from_json(None) == White(deep=65535, certain=False)


OTHERS = {
    "it is empty": b"",
    "nothing but zeros": bytes(2000),
    r"a web page \(HTML\)": b"<!DOCTYPE html>\n<html><body>404",
    r"a drawing \(SVG\)": b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'>",
    r"a video \(MP4": b"\0\0\0\x18ftypmp42\0\0\0\0",
    "a PostScript document": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EOF\n",
    "a PDF document": b"%PDF-1.4\n",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "it is JSON": b'{"a": 1}',
    "it is text": b"see the other folder\n",
    "a zip archive": b"PK\x03\x04" + bytes(40),
    "a DICOM file": bytes(128) + b"DICM" + bytes(100),
    "truncated": stored(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8), ".jpg")[:-300],
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_image_is_called_what_it_is(kind):
    with pytest.raises(UserError, match=f"cannot read the image it .*{kind}"):
        read(OTHERS[kind])


@pytest.fixture
def photos(tmp_path, home):
    """Ten noisy images in each of two classes."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 256, (40, 40, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def remarks(folder):
    return "\n".join(open_dataset(f"folder:{folder}").survey().remarks)


def test_all_that_is_broken_is_named_at_once_and_can_be_left_out(photos):
    whole = open_dataset(f"folder:{photos}")
    assert whole.readable() is whole
    fingerprint = whole.fingerprint()
    for number, content in ((3, b""), (5, b"<html>"), (7, (photos / "cat/7.png").read_bytes()[:-600])):
        (photos / "cat" / f"{number}.png").write_bytes(content)
    (photos / "dog" / "8.png").unlink()
    (photos / "dog" / "8.png").symlink_to(photos / "nowhere.png")
    for ask in ("fingerprint", "survey"):
        with pytest.raises(UserError) as caught:
            getattr(open_dataset(f"folder:{photos}"), ask)()
        broken = ("cat/3.png", "cat/5.png", "cat/7.png", "dog/8.png")
        assert all(name in str(caught.value) for name in broken)
        assert "4 images" in str(caught.value) and "--skip-unreadable" in str(caught.value)
    readable = open_dataset(f"readable:folder:{photos}")
    assert readable.name == whole.name and open_dataset(readable.spec).fingerprint() == readable.fingerprint()
    assert readable.fingerprint() != fingerprint
    assert len(readable.load("train").labels) + len(readable.load("test").labels) == 16
    assert "4 unreadable images are left out (dog/8.png" in "\n".join(readable.survey().remarks)
    assert len(open_dataset(f"readable:folder:{photos}[dog,cat]").load("test").labels) == 3
    for path in (photos / "dog").iterdir():
        path.unlink()
        path.write_bytes(b"gone")
    with pytest.raises(UserError, match="no readable image of class 'dog'; add some, or leave the class out"):
        open_dataset(f"readable:folder:{photos}")


def test_images_by_other_suffixes_and_by_their_content(photos):
    before = open_dataset(f"folder:{photos}")
    assert remarks(photos) == ""
    pixels = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 40, 3)).astype(np.uint8))
    for name, kind in (("a.jfif", "JPEG"), ("b.jpe", "JPEG"), ("c.avif", "AVIF"), ("d.jp2", "JPEG2000")):
        pixels.save(photos / "cat" / name, format=kind)
    for name in ("no-suffix", "photo.jpg?width=40"):
        pixels.save(photos / "cat" / name, format="PNG")
    for name in ("a.mp4", "b.mp4", "notes.txt", "raw.nef", "Thumbs.db", ".hidden.png"):
        (photos / "dog" / name).write_bytes(b"II*\0" if name == "raw.nef" else b"any")
    after = open_dataset(f"folder:{photos}")
    assert len(after.files()) == len(before.files()) + 6 and after.survey().rule == 2
    assert "images by their content alone are read as such (cat/no-suffix, cat/photo.jpg?width=40)" in remarks(photos)
    assert "4 files are no images and skipped (2 .mp4, 1 .nef, 1 .txt)" in remarks(photos)


def test_a_data_set_says_what_is_white_in_it(photos):
    eight_bits = open_dataset(f"folder:{photos}")
    assert eight_bits.survey().white == White() and eight_bits.survey().rule == 1
    for path in sorted(photos.glob("*/*.png")):
        Image.fromarray(np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16).save(path)
    dataset = open_dataset(f"folder:{photos}")
    assert dataset.survey().white == White(deep=4095) and dataset.survey().rule == 2
    assert "no image of more than 8 bits holds numbers beyond 4,095, which is taken for white" in remarks(photos)
    images = dataset.load("test").images
    assert images.white == White(deep=4095) and images.take(np.array([1])).read(0).max() > 200
    # The same file in a data set of 16 bits is another image, so that the fingerprint has to say which.
    fingerprint = dataset.fingerprint()
    Image.fromarray(np.full((40, 40), 65535, np.uint16)).save(photos / "dog" / "9.png")
    brighter = open_dataset(f"folder:{photos}")
    assert brighter.load("test").images.read(0).max() <= 16 and brighter.fingerprint() != fingerprint
    assert brighter.survey().rule == 1  # as version 0.1.0 read it
    assert "19 images are nearly black" in remarks(photos) and "1 image is of one colour" in remarks(photos)


def test_images_in_which_nothing_can_be_seen_are_named(photos):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3))
    Image.fromarray((pixels // 100).astype(np.uint8)).save(photos / "cat" / "1.png")
    Image.fromarray((pixels // 20).astype(np.uint8)).save(photos / "cat" / "2.png")
    Image.fromarray(np.full((300, 200, 3), (250, 9, 80), np.uint8)).save(photos / "dog" / "3.jpg")
    Image.fromarray(np.full((300, 200, 3), 250, np.uint8)).save(photos / "dog" / "4.gif")
    said = remarks(photos)
    assert "3 images are of one colour, or all but (" in said
    assert all(name in said.split("of one colour")[1] for name in ("cat/1.png", "dog/3.jpg", "dog/4.gif"))
    assert "1 image is nearly black (cat/2.png)" in said


def test_what_pillow_warns_of_is_told_with_the_files_name(photos, recwarn):
    pixels = Image.fromarray(np.random.default_rng(1).integers(0, 256, (80, 80, 3)).astype(np.uint8))
    pixels.save(photos / "cat" / "x.jpg")
    content = (photos / "cat" / "x.jpg").read_bytes()
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0"
    (photos / "cat" / "x.jpg").write_bytes(
        content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:]
    )
    assert "cat/x.jpg was read with a warning: Corrupt EXIF data." in remarks(photos)
    assert remarks(photos).count("Corrupt EXIF") == 1 and not recwarn.list


def test_what_files_hold_is_found_out_once(photos, monkeypatch):
    expected = open_dataset(f"folder:{photos}").survey()
    monkeypatch.setattr("features.datasets.survey.opened", lambda path: pytest.fail(f"{path} was read again"))
    assert open_dataset(f"folder:{photos}").survey() == expected


def test_photographs_of_a_phone(photos):
    heif = pytest.importorskip("pillow_heif")
    ramp = np.arange(0, 256, 4).astype(np.uint8)
    pixels = np.stack([np.tile(ramp, (64, 1)), np.tile(ramp[:, None], (1, 64)), np.full((64, 64), 90)], axis=-1)
    heif.from_pillow(Image.fromarray(pixels.astype(np.uint8))).save(photos / "cat" / "x.heic", quality=95)
    read_again = ImageFiles((photos / "cat" / "x.heic",)).read(0).astype(int)
    assert read_again.shape == (64, 64, 3) and np.abs(read_again - pixels).mean() < 8
    assert Path(photos / "cat" / "x.heic") in open_dataset(f"folder:{photos}").files()


@pytest.mark.parametrize(("slow", "many"), [(-1, 4096), (-1, 4), (1e9, 4096)])
def test_a_first_look_at_many_images_has_a_bar_where_it_takes_its_time(home, tmp_path, monkeypatch, slow, many):
    shown = []

    @contextlib.contextmanager
    def bar():
        yield lambda *state: shown.append(state)

    monkeypatch.setattr(progress, "row_progress", bar)
    monkeypatch.setattr(progress, "_SLOW", slow)
    monkeypatch.setattr("features.datasets.survey._MANY", many)
    for number in range(6):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 9), 10 * number).save(folder / f"{number}.png")
    open_dataset(f"folder:{tmp_path / 'photos'}").fingerprint()
    expected = [(what, done, 6) for what in ("read", "looked at") for done in range(1, 7)]
    assert shown == (expected if slow < 0 else [])
    open_dataset(f"folder:{tmp_path / 'photos'}").fingerprint()
    assert shown == (expected if slow < 0 else [])


@pytest.mark.parametrize(
    ("pixels", "reach"),
    [
        (np.linspace(-1000, 2000, 63).astype(np.int32), "from -1000 to 2000, where 0 is black and 4095 white"),
        (np.linspace(-1, 1, 63).astype(np.float32), "from -1 to 1, where 0 is black and 1 white"),
    ],
)
def test_numbers_below_black_are_named_before_anything_is_computed(home, tmp_path, pixels, reach):
    for number in range(8):
        folder = tmp_path / "scans" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        own = np.roll(pixels, number).reshape(9, 7)
        Image.fromarray(own if number < 2 else np.abs(own)).save(folder / f"{number}.tif")
    dataset = open_dataset(f"folder:{tmp_path / 'scans'}")
    with pytest.raises(UserError, match=rf"cannot read 2 images: .*0\.tif \(its values reach {reach}"):
        dataset.survey()
    readable = open_dataset(f"readable:folder:{tmp_path / 'scans'}")
    assert len(readable.files()) == 6 and readable.load("train").images.read(0).mean() > 40
