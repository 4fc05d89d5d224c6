"""What a command writes where a user says: it takes the place of nothing that is read, kept or somebody's own."""

import argparse
import errno
import json
import os
import shlex
import stat
from pathlib import Path

import numpy as np
import pytest

from classify.commands.outputs import check_output, check_outputs, say_next
from classify.commands.run import _parser
from classify.measure.metrics import measure
from classify.measure.results import Predictions, Result
from classify.measure.saving import save_result
from features.errors import UserError
from features.whole import whole, write_whole
from features.written import is_as_written, text_written


@pytest.fixture
def here(home, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def _options(**given):
    blank = {"json": None, "csv": None, "markdown": None, "overwrite": False, "images": []}
    return argparse.Namespace(**{**blank, **given})


def _write(path, text):
    with text_written(Path(path)) as stream:
        stream.write(text)


def test_a_forgotten_name_costs_no_photo(here):
    # predict --csv *.png
    for name in ("a.png", "b.png"):
        Path(name).write_bytes(b"\x89PNG the one photo of her")
    for overwrite in (False, True):
        options = _options(csv="a.png", images=["a.png", "b.png"], overwrite=overwrite)
        with pytest.raises(UserError, match=r"--csv a\.png: this command reads it"):
            check_outputs(options, "json", "csv")
    with pytest.raises(UserError, match="--overwrite"):
        check_outputs(_options(csv="a.png", images=["b.png"]), "json", "csv")
    check_outputs(_options(csv="a.png", images=["b.png"], overwrite=True), "json", "csv")


@pytest.mark.parametrize("overwrite", [False, True])
def test_no_result_is_written_over_whatever_is_said(here, overwrite):
    labels = np.arange(4) % 2
    result = Result({"dataset": "digits"}, measure(labels, labels))
    saved = save_result("results", result, Predictions(np.arange(4), labels, labels))
    for path in (saved.path, saved.path.with_suffix(".npz")):
        with pytest.raises(UserError, match="part of a result"):
            check_outputs(_options(json=str(path), overwrite=overwrite))


def test_two_outputs_are_two_files(here):
    (here / "sub").mkdir()
    for other in ("x", "./x", "sub/../x", str(here / "x")):
        with pytest.raises(UserError, match="file for each"):
            check_outputs(_options(csv="x", json=other))
    Path("y").write_text("")
    os.link("y", "z")
    with pytest.raises(UserError, match="file for each"):
        check_outputs(_options(csv="y", json="z", overwrite=True))
    check_outputs(_options(csv="/dev/stdout", json="/dev/stdout"))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("dataset", "csv:mine"),
        ("dataset", "readable:csv:mine?path=a"),
        ("dataset", "transfer:folder->mine"),
        ("weights", "mine"),
        ("others", ["digits", "npz:mine"]),
        ("source", "mine"),
        ("config", "mine"),
        ("images", ["folder/", "mine"]),
        ("images", ["."]),
    ],
)
def test_what_a_command_reads_is_not_written_over(here, option, value):
    Path("mine").write_text("years of labels")
    with pytest.raises(UserError, match="this command reads it"):
        check_outputs(_options(csv="mine", overwrite=True, **{option: value}))


def test_what_was_written_is_replaced_and_what_was_changed_since_is_not(here):
    _write("out.csv", "a\n")
    assert is_as_written(Path("out.csv"))
    check_outputs(_options(csv="out.csv"))
    # In a folder that is read, too.
    check_outputs(_options(csv="out.csv", images=["."]))
    _write("out.csv", "b\n")
    assert Path("out.csv").read_text() == "b\n"
    check_outputs(_options(csv="out.csv"))
    with Path("out.csv").open("a") as stream:
        stream.write("a note by hand\n")
    with pytest.raises(UserError, match="changed since.*--overwrite"):
        check_outputs(_options(csv="out.csv"))
    check_outputs(_options(csv="out.csv", overwrite=True))


def test_links_are_replaced_and_never_followed(here):
    Path("precious").write_text("precious")
    Path("out").symlink_to("precious")
    with pytest.raises(UserError, match="--overwrite"):
        check_outputs(_options(csv="out"))
    _write("out", "new")
    assert Path("precious").read_text() == "precious" and not Path("out").is_symlink()
    Path("dangling").symlink_to("planted")
    with pytest.raises(UserError, match="--overwrite"):
        check_output(Path("dangling"), "dangling")
    _write("dangling", "new")
    assert not Path("planted").exists()


def test_a_folder_or_an_absent_one_is_no_place(here):
    (here / "sub").mkdir()
    with pytest.raises(UserError, match="a folder is there"):
        check_outputs(_options(csv="sub"))
    with pytest.raises(UserError, match="no folder"):
        check_outputs(_options(csv="none/out"))


def _full(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_what_was_there_and_names_it(here, monkeypatch):
    _write("page.html", "old")
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(OSError, match="No space") as caught:
        _write("page.html", "new")
    assert caught.value.filename.endswith("page.html")
    assert Path("page.html").read_text() == "old" and is_as_written(Path("page.html"))
    assert os.listdir() == ["page.html"]  # noqa: PTH208


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_what_the_system_refuses_in_the_middle_is_named(here, monkeypatch):
    import features.whole

    monkeypatch.setattr(features.whole.NewFile, "write", lambda self, data: _full())
    with pytest.raises(OSError, match="No space"):
        write_whole(here / "x", bytes(1 << 20))
    assert not list(here.iterdir())


def test_what_ctrl_c_ends_is_kept_and_what_fails_is_not(here):
    def stopped(error):
        with text_written(Path("out.csv")) as stream:
            stream.write("half\n")
            raise error

    with pytest.raises(KeyboardInterrupt):
        stopped(KeyboardInterrupt())
    assert Path("out.csv").read_text() == "half\n" and is_as_written(Path("out.csv"))
    with pytest.raises(ValueError, match="broken"):
        stopped(ValueError("broken"))
    assert Path("out.csv").read_text() == "half\n"


def test_what_is_written_follows_the_umask(here):
    before = os.umask(0o002)
    try:
        _write("out.csv", "a")
        write_whole(here / "note", b"b")
    finally:
        os.umask(before)
    for name in ("out.csv", "note"):
        assert stat.S_IMODE(Path(name).stat().st_mode) == 0o664


def test_the_longest_name_can_be_written(here):
    write_whole(here / ("é" * 127), b"x")
    with whole(here / "y") as stream:
        stream.write(b"y")
    assert sorted(len(path.name) for path in here.iterdir()) == [1, 127]


def test_json_of_a_command_is_what_it_was(here):
    from classify.commands.outputs import write_outputs

    class Outcome:
        def to_json(self):
            return {"b": 1, "a": [0.5]}

        def to_csv(self):
            return "a,b\n"

        to_markdown = to_csv

    write_outputs(_options(json="out.json"), Outcome(), print)
    assert json.loads(Path("out.json").read_text()) == {"b": 1, "a": [0.5]}


def test_the_next_command_is_about_the_same_images_prepared_alike(capsys):
    typed = ["--dataset", "csv:dogs.csv", "--label-column", "dog breed", "--skip-unreadable", "--crop-mode", "pad"]
    typed += ["--mean", "0.5", "0.4", "0.3"]
    options = _parser().parse_args([*typed, "--layer", "layer3", "--model", "svm"])
    say_next(options, layers=True)
    assert capsys.readouterr().out == f"next: python -m classify probe --quick {shlex.join(typed)}\n"
