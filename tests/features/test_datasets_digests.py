"""Digests of many files and remembered answers: read once, kept through an interruption, never out of date."""

import hashlib
import os

import pytest

from features import digests, notes
from features.home import home


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(30):
        (folder / str(number)).write_text(f"content {number % 20}")
    return sorted(folder.iterdir())


def expected(paths):
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def test_many_files_are_read_once_and_written_down_once(files, monkeypatch):
    written = []
    put = notes.Notes.put
    monkeypatch.setattr(notes.Notes, "put", lambda *arguments: (written.append(1), put(*arguments))[1])
    assert digests.sha256_files(files, together=files[0].parent) == expected(files)
    assert len(written) == 1
    monkeypatch.setattr(digests, "_read_digest", lambda path: pytest.fail(f"{path} was read again"))
    assert digests.sha256_files([*files, files[3]], together=files[0].parent) == expected([*files, files[3]])
    assert len(written) == 1


def test_a_changed_file_is_read_again(files):
    digests.sha256_files(files, together=files[0].parent)
    before = files[5].stat()
    files[5].write_text("CONTENT 5"[: before.st_size])
    os.utime(files[5], ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert digests.sha256_files(files, together=files[0].parent) == expected(files)


def test_fresh_readings_trust_nothing(files):
    before = files[5].stat()
    digests.sha256_file(files[5])
    files[5].write_bytes(b"x" * before.st_size)
    os.utime(files[5], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [digests.sha256_file(files[5], fresh=True)] == expected([files[5]])


def test_an_interruption_keeps_what_was_read(files, monkeypatch):
    read = digests._read_digest

    def interrupted(path):
        if path == str(files[20]):
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(digests, "_read_digest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        digests.sha256_files(files, together=files[0].parent)
    again = []
    monkeypatch.setattr(digests, "_read_digest", lambda path: (again.append(path), read(path))[1])
    assert digests.sha256_files(files, together=files[0].parent) == expected(files)
    assert str(files[0]) not in again and str(files[20]) in again


def test_a_missing_file_is_named(files):
    with pytest.raises(FileNotFoundError) as caught:
        digests.sha256_files([*files, files[0].parent / "gone"], together=files[0].parent)
    assert caught.value.filename.endswith("gone")


def test_a_note_that_is_no_note_is_as_good_as_none(files):
    digests.sha256_file(files[0])
    (place,) = (home() / "notes" / "digests").glob("*.json")
    for text in ("[1, 2", "[1, 2]", place.read_text().replace("0", "1")):
        place.write_text(text)
        assert digests.sha256_file(files[0]) == expected([files[0]])[0]
