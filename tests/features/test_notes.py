"""Notes: one file each, whole or not there, shared by users and processes; those of version 0.1.0 are honoured."""

import hashlib
import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from extract.cost import seconds_to_extract
from features import digests, first_use, notes
from features.commands.cache import main
from features.errors import UserError
from features.notes import Notes, remembered_answer
from tests.features.store_cases import key

FILES = 12


def _files(folder):
    return [folder / f"{number}.bin" for number in range(FILES)]


def _note_a_lot(number, folder):
    for question in range(25):
        remembered_answer(f"question {question} of {number}", lambda: "an answer")
        first_use.recognise(f"npz:/data/{number}-{question}.npz", f"{number:064d}")
    # Each reads its own part of a data set, and one file that all read.
    digests.sha256_files([*_files(folder)[number:], _files(folder)[-1]], together=folder)
    digests.sha256_file(_files(folder)[0])


def test_eight_processes_that_note_at_once_lose_nothing(home, tmp_path, monkeypatch):
    for path in _files(tmp_path):
        path.write_text(path.name)
    os.utime(tmp_path)
    time.sleep(0.05)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_note_a_lot, args=(number, tmp_path)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    for number in range(8):
        for question in range(25):
            asked = f"question {question} of {number}"
            assert remembered_answer(asked, lambda: pytest.fail("forgotten")) == "an answer"
            with pytest.raises(UserError, match="is not what it was"):
                first_use.recognise(f"npz:/data/{number}-{question}.npz", "another")
    monkeypatch.setattr(digests, "_read_digest", lambda path: pytest.fail(f"{path} was forgotten"))
    assert len(digests.sha256_files(_files(tmp_path), together=tmp_path)) == FILES
    digests.sha256_file(_files(tmp_path)[0])
    # However many they left, the next reader made one of them.
    digests.sha256_files(_files(tmp_path), together=tmp_path)
    assert len(list((home / "notes" / "digests").glob("*/*.json"))) == 1


def test_a_kill_leaves_whole_notes(home):
    script = (
        "from features.notes import Notes\n"
        "for number in range(10**9):\n"
        "    Notes('killed', vital=True).put(str(number % 5), [number] * 20_000)\n"
    )
    for attempt in range(5):
        child = subprocess.Popen([sys.executable, "-c", script])
        while not (home / "notes" / "killed").exists():
            time.sleep(0.005)
        time.sleep(0.02 * attempt)
        child.send_signal(signal.SIGKILL)
        child.wait()
        found = dict(Notes("killed", vital=True).items())
        assert all(len(set(answer)) == 1 and len(answer) == 20_000 for answer in found.values())


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_notes_may_be_read_by_whom_the_umask_lets(home, mask, mode):
    before = os.umask(mask)
    try:
        remembered_answer("how many?", lambda: "three")
        notes.write_json(home / "ranges" / "some.json", {})
    finally:
        os.umask(before)
    (note,) = (home / "notes" / "answers").iterdir()
    for path in (note, home / "ranges" / "some.json"):
        assert stat.S_IMODE(path.stat().st_mode) == mode
    assert stat.S_IMODE(note.parent.stat().st_mode) == 0o777 & ~mask


def test_a_damaged_note_is_as_good_as_none_but_of_a_first_use_it_is_an_error(home, capsys):
    remembered_answer("how many?", lambda: "three")
    first_use.recognise("npz:/data/mine.npz", "a" * 64)
    for path in (home / "notes").rglob("*.json"):
        text = path.read_text()
        path.write_text(text.replace("three", "throe").replace("aaaa", "aaab"))
    assert remembered_answer("how many?", lambda: "four") == "four"
    with pytest.raises(
        UserError, match=r"notes/known/.* cannot be read \(it is damaged\); make it readable, or delete"
    ):
        first_use.recognise("npz:/data/mine.npz", "a" * 64)
    (note,) = (home / "notes" / "known").iterdir()
    note.unlink()
    first_use.recognise("npz:/data/mine.npz", "a" * 64)


@pytest.mark.parametrize("place", ["notes/known", "known.json"])
def test_what_may_not_be_read_is_not_taken_for_unknown(home, place):
    # A folder stands for what another user's umask keeps to himself: root could read that.
    first_use.recognise("npz:/data/mine.npz", "a" * 64)
    (note,) = (home / "notes" / "known").iterdir()
    note.unlink()
    (note if place == "notes/known" else home / place).mkdir()
    with pytest.raises(UserError, match=f"{place}.* cannot be read"):
        first_use.recognise("npz:/data/mine.npz", "a" * 64)


def test_a_home_that_takes_no_notes_only_costs_the_work_again(home, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(30, "Read-only file system")

    first_use.recognise("npz:/data/mine.npz", "a" * 64)
    with pytest.raises(UserError, match="is not what it was"):
        first_use.recognise("npz:/data/mine.npz", "b" * 64)
    monkeypatch.setattr(notes, "write_whole", refuse)
    with pytest.raises(UserError, match="notes/known takes no note of it"):
        first_use.accept("npz:/data/mine.npz")
    (tmp_path / "file").write_bytes(b"content")
    for _ in range(2):
        assert digests.sha256_file(tmp_path / "file") == digests.sha256_file(tmp_path / "file", fresh=True)
        assert digests.sha256_files([tmp_path / "file"], together=tmp_path)
        assert remembered_answer("how many?", lambda: "three") == "three"
    assert {path.name for path in (home / "notes").iterdir()} == {"known", "refused"}


def test_an_answer_is_worked_out_once_and_a_failure_never_kept(home):
    with pytest.raises(ZeroDivisionError):
        remembered_answer("how many?", lambda: str(1 // 0))
    assert remembered_answer("how many?", lambda: "three") == "three"
    assert remembered_answer("how many?", lambda: pytest.fail("asked again")) == "three"
    assert remembered_answer("\udcff how many?", lambda: "five") == "five"


@pytest.fixture
def old(home, tmp_path):
    """A home as version 0.1.0 left it, and files that it knew."""
    paths = _files(tmp_path)
    for path in paths:
        path.write_text(path.name)
    seen = {str(path): [*digests.witness(path), f"{number:064d}"] for number, path in enumerate(paths)}
    group = home / "digests" / f"{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:16]}.json"
    known = {
        "npz:/data/mine.npz": {"sha256": "a" * 64, "seen": 1},
        "/data/mine.pth": {"sha256": "b" * 64, "seen": 1, "refused": "c" * 64},
    }
    contents = {
        home / "answers.json": {"how many?": "three"},
        home / "digests.json": seen,
        home / "known.json": known,
        home / "features" / "seconds.json": {key().digest: {"seconds": 6.0, "images": 3, "layers": 1}},
        group: seen,
    }
    for path, content in contents.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=1))
        path.chmod(0o600)
    yield paths
    for path, content in contents.items():
        assert json.loads(path.read_text()) == content


def test_what_version_0_1_0_knew_is_not_worked_out_again(old, monkeypatch):
    assert remembered_answer("how many?", lambda: pytest.fail("asked again")) == "three"
    assert seconds_to_extract(key(), 5) == 10
    with monkeypatch.context() as patch:
        patch.setattr(digests, "_read_digest", lambda path: pytest.fail(f"{path} was read again"))
        assert digests.sha256_file(old[3]) == f"{3:064d}"
        assert digests.sha256_files(old, together=old[0].parent) == [f"{number:064d}" for number in range(FILES)]
    # What changed since is read and noted, and the rest is taken along.
    old[3].write_text("changed")
    found = digests.sha256_files(old, together=old[0].parent)
    assert found[2] == f"{2:064d}" and found[3] != f"{3:064d}"
    monkeypatch.setattr(digests, "_read_digest", lambda path: pytest.fail(f"{path} was read again"))
    assert digests.sha256_files(old, together=old[0].parent) == found


def test_what_version_0_1_0_accepted_need_not_be_accepted_again_and_what_it_refused_can_be(old, capsys):
    first_use.recognise("npz:/data/mine.npz", "a" * 64)
    with pytest.raises(UserError, match="aaaaaaaa then, dddddddd now"):
        first_use.recognise("npz:/data/mine.npz", "d" * 64)
    with pytest.raises(UserError, match="bbbbbbbb then, cccccccc now"):
        first_use.recognise("/data/mine.pth", "c" * 64)
    with pytest.raises(UserError, match=r"what was refused: /data/mine.pth, npz:/data/mine.npz$"):
        first_use.accept("another")
    for name, digest in (("npz:/data/mine.npz", "d" * 64), ("/data/mine.pth", "c" * 64)):
        assert main(["accept", name]) == 0
        assert f"accepted {name}: SHA-256 {digest}" in capsys.readouterr().out
        first_use.recognise(name, digest)
        with pytest.raises(UserError, match="none to accept"):
            main(["accept", name])
    with pytest.raises(UserError, match="nothing was refused so far"):
        main(["accept", "another"])
