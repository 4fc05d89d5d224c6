"""What an image may be: of all that Pillow knows, pixels alone; a document under an image's name is run by nobody."""

import io
import re
from pathlib import Path

import pytest
from PIL import Image

from features.datasets.images import ImageFiles, read_image
from features.errors import UserError
from features.sizes import sizes_of

ROOT = Path(__file__).parents[2]
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n(x) run\nshowpage\n%%EOF\n"
# With a header of DOS, and behind other bytes as old printers' files have them.
FORMS = {
    "plain": EPS,
    "dos": b"\xc5\xd0\xd3\xc6" + (30).to_bytes(4, "little") + len(EPS).to_bytes(4, "little") + bytes(18) + EPS,
    "pdf": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n",
    "fits": b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800),
    "wmf": b"\xd7\xcd\xc6\x9a\x00\x00" + bytes(40),
}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".eps", ".tif"])
@pytest.mark.parametrize("form", FORMS)
def test_a_document_is_no_image_whatever_its_name(tmp_path, monkeypatch, form, suffix):
    from PIL import EpsImagePlugin

    for opener in ("Ghostscript", "has_ghostscript"):
        monkeypatch.setattr(EpsImagePlugin, opener, lambda *arguments: pytest.fail("Ghostscript was asked"))
    monkeypatch.setattr("subprocess.Popen", lambda *arguments, **options: pytest.fail("a program was started"))
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(FORMS[form])
    with pytest.raises(UserError, match=f"photo{suffix}"):
        read_image(path)
    with pytest.raises(UserError, match="standard input"):
        read_image(io.BytesIO(FORMS[form]), "standard input")
    assert list(sizes_of(ImageFiles((path,)))) == [(0, 0)]


def test_every_image_is_opened_in_one_place():
    sources = [path for room in ("features", "extract", "classify") for path in (ROOT / room).rglob("*.py")]
    opening = [path.name for path in sources if re.search(r"\bImage\.open\(", path.read_text("utf-8"))]
    assert opening == ["images.py"]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO"])
def test_pixels_are_read_in_every_usual_format(form):
    stream = io.BytesIO()
    Image.linear_gradient("L").resize((32, 32)).convert("RGB").save(stream, form)
    assert read_image(stream, "it").shape[:2] == (32, 32)
