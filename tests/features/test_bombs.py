"""Archives that would unpack to gigabytes are refused before they do, and headers cut anywhere are no crash."""

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
import torch

from features.bombs import refuse_bomb
from features.datasets import open_dataset
from features.datasets.idx import read_idx
from features.errors import UserError
from features.weights import read_state_dict
from tests.fuzz.seeds import zip_bomb
from tests.fuzz.targets import TARGETS


def test_what_packs_as_images_do_is_let_through(tmp_path):
    refuse_bomb(tmp_path, 10_000_000, 1_000_000_000)
    refuse_bomb(tmp_path, 50_000_000, 9_000_000_000)
    with pytest.raises(UserError, match="would unpack from 1,000,000 to 1,000,000,001 bytes"):
        refuse_bomb(tmp_path, 1_000_000, 1_000_000_001)


def test_azip_bomb_as_weights_or_data_is_not_unpacked(tmp_path, monkeypatch):
    (tmp_path / "net.pth").write_bytes(zip_bomb("net/data.pkl"))
    monkeypatch.setattr(zipfile.ZipFile, "testzip", lambda archive: pytest.fail("it was unpacked"))
    with pytest.raises(UserError, match="is refused"):
        read_state_dict(tmp_path / "net.pth")
    (tmp_path / "data.npz").write_bytes(zip_bomb("images.npy"))
    with pytest.raises(UserError, match="is refused"):
        open_dataset(f"npz:{tmp_path / 'data.npz'}")


@pytest.mark.parametrize(("kind", "member"), [("head", "schema.json"), ("predictions", "predicted.npy")])
def test_a_zip_bomb_as_head_or_predictions_is_not_unpacked(tmp_path, monkeypatch, kind, member):
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *arguments: pytest.fail("it was unpacked"))
    with pytest.raises(UserError, match="is refused"):
        TARGETS[kind].read(zip_bomb(member), tmp_path)


def test_a_packed_idx_file_is_unpacked_as_far_as_its_header_says(tmp_path):
    array = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    sound = struct.pack(">HBB3I", 0, 8, 3, *array.shape) + array.tobytes()
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(sound))
    assert np.array_equal(read_idx(path), array)
    path.write_bytes(gzip.compress(sound) + gzip.compress(bytes(1 << 20)) * 100)
    with pytest.raises(UserError, match="promises 76 bytes and it has more than that"):
        read_idx(path)
    path.write_bytes(gzip.compress(struct.pack(">HBB1I", 0, 8, 1, 2**32 - 1) + bytes(1000)))
    with pytest.raises(UserError, match="is refused"):
        read_idx(path)
    for length in range(len(sound)):
        path.write_bytes(gzip.compress(sound[:length]))
        with pytest.raises(UserError, match="cut short or altered"):
            read_idx(path)


def test_weights_that_torch_wrote_are_let_through(tmp_path):
    torch.save({"weight": torch.zeros(1000, 1000)}, tmp_path / "net.pth")
    assert read_state_dict(tmp_path / "net.pth")["weight"].shape == (1000, 1000)


def test_an_image_that_asks_for_too_much_memory_is_named(tmp_path, monkeypatch):
    from PIL import Image

    from features.datasets import ImageFiles

    def greedy(source, formats):
        raise MemoryError

    (tmp_path / "tiny.png").write_bytes(b"any")
    monkeypatch.setattr(Image, "open", greedy)
    with pytest.raises(UserError, match=r"cannot read the image .*tiny.png \(it asks for more memory than there is\)"):
        ImageFiles((tmp_path / "tiny.png",)).read(0)


def _archive(name, content, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def _with(packed, **changes):
    """An archive of one member with two-byte fields of both its headers changed, by their places in the local one."""
    places = {"flags": 6, "method": 8}
    data, central = bytearray(packed), packed.rindex(b"PK\1\2")
    for field, value in changes.items():
        for start in (places[field], central + places[field] + 2):
            data[start : start + 2] = struct.pack("<H", value)
    return bytes(data)


def _garbled(packed, name):
    start = 30 + len(name)
    return packed[:start] + b"\xff" * 8 + packed[start + 8 :]


DAMAGES = {
    "encrypted": lambda name, content: _with(_archive(name, content), flags=1),
    "deflated badly": lambda name, content: _garbled(_archive(name, content), name),
    "bzip2 badly": lambda name, content: _garbled(_archive(name, content, zipfile.ZIP_BZIP2), name),
    "lzma badly": lambda name, content: _garbled(_archive(name, content, zipfile.ZIP_LZMA), name),
    "unknown method": lambda name, content: _with(_archive(name, content), method=77),
    "stored, and said to be lzma": lambda name, content: _with(_archive(name, content, 0), method=zipfile.ZIP_LZMA),
    "line breaks in a name": lambda name, content: _garbled(
        _archive(f"a\nb\u2028{name}", content, 0), f"a\nb   {name}"
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_an_archive_damaged_in_any_way_is_told_in_a_line(home, tmp_path, damage):
    content = np.random.default_rng(0).bytes(200)
    (tmp_path / "net.pth").write_bytes(damage("archive/data.pkl", content))
    with pytest.raises(UserError, match=r"net\.pth is damaged") as told:
        read_state_dict(tmp_path / "net.pth")
    assert len(str(told.value).splitlines()) == 1
    stream = io.BytesIO(damage("y_train.npy", content))
    with zipfile.ZipFile(stream, "a") as archive:
        for name in ("x_train.npy", "x_test.npy", "y_test.npy"):
            archive.writestr(name, content)
    (tmp_path / "data.npz").write_bytes(stream.getvalue())
    with pytest.raises(UserError, match=r"data\.npz") as told:
        _ = open_dataset(f"npz:{tmp_path / 'data.npz'}").classes
    assert len(str(told.value).splitlines()) == 1
