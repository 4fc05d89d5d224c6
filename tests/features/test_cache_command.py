"""`python -m features`: what it lists, verifies and removes, and what it leaves alone."""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from features import store
from features.commands.cache import main
from features.commands.options import run_command
from features.datasets import open_dataset
from features.errors import UserError
from features.first_use import recognise
from features.key import About
from tests.features.store_cases import ABOUT, begin, carry_on, key, make, numbers, partial_records


@pytest.fixture
def folder(home):
    """A cache of two complete files and one of which a third is done."""
    make(key(), numbers((90, 4)))
    make(key(layer="layer3"), numbers((90, 4)), about=About("usps", "layer3", (), "random"))
    file = begin(key(layer="layer2"), (90, 4), about=About("mnist", "layer2", (), "a stand-in"))
    carry_on(file, numbers((90, 4)), until=30)
    file.close()
    return home / "features"


def _names(folder):
    return {path.name.partition(".")[0] for path in folder.iterdir()}


def test_an_empty_cache_says_how_to_fill_it(home, capsys):
    assert main([]) == 0
    assert "is empty; `python -m extract` fills it" in capsys.readouterr().out


def test_the_list_shows_what_there_is(folder, capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "2 complete, 1 not" in lines[-1]
    (row,) = [line for line in lines if "avgpool" in line]
    for text in ("mnist", "train", "resnet18", "a stand-in", "avgpool (layer4)", "avg", "224", "float32", "90 x 4"):
        assert text in row
    assert "complete" in row and key().digest[:8] in row
    (partial,) = [line for line in lines if "layer2" in line]
    assert "33 %" in partial


def test_damage_is_listed_verified_and_can_be_removed(folder, capsys):
    assert main(["verify"]) == 0
    assert "2 of 2 files are sound" in capsys.readouterr().out
    path = store.find(key()).path
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    assert main(["verify"]) == 1
    out = capsys.readouterr().out
    assert f"DAMAGED  {path}" in out and "features of rows 0 to 89" in out and "1 of 2 files are sound" in out
    assert main(["verify", key(layer="layer3").digest[:8]]) == 0
    data[3] ^= 1
    path.write_bytes(data)
    assert main(["verify", path.name]) == 1
    assert main([]) == 0
    assert "damaged" in capsys.readouterr().out
    assert main(["remove", path.name]) == 0
    assert f"removed {path.stem} (damaged, " in capsys.readouterr().out
    assert not path.exists() and len(_names(folder)) == 2


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--dataset", "mnist"], {"usps"}),
        (["--layer", "avgpool"], {"usps", "layer2"}),
        (["--layer", "layer4"], {"usps", "layer2"}),
        (["--dataset", "usps", "--layer", "avgpool"], {"usps", "layer2", "avgpool"}),
        (["--partial"], {"usps", "avgpool"}),
        (["--partial", "--dataset", "usps"], {"usps", "layer2", "avgpool"}),
        (["--all"], set()),
        ([key().digest[:6]], {"usps", "layer2"}),
        ([store.feature_path(key(), ABOUT).name], {"usps", "layer2"}),
    ],
)
def test_remove_takes_what_is_named_and_says_the_bytes(folder, capsys, arguments, left):
    before = sum(path.stat().st_size for path in folder.iterdir())
    assert main(["remove", *arguments]) == 0
    names = _names(folder)
    assert len(names) == len(left) and all(any(part in name for name in names) for part in left)
    freed = before - sum(path.stat().st_size for path in folder.iterdir())
    out = capsys.readouterr().out
    assert f"{store.disk.as_bytes(freed)} freed" in out if freed else "nothing in the cache answers" in out


def test_a_whole_path_from_a_message_is_a_name(folder):
    path = store.find(key()).path
    assert main(["remove", str(path)]) == 0 and not path.exists()


@pytest.mark.parametrize("name", ["../secret.h5", "nothing", "/etc/passwd", "", "*", "abc", "..", "."])
def test_other_names_mean_nothing(folder, name):
    (folder.parent / "secret.h5").write_text("mine")
    before = _names(folder)
    with pytest.raises(UserError, match="holds nothing called"):
        main(["remove", name])
    assert _names(folder) == before and (folder.parent / "secret.h5").exists()


def test_remove_wants_to_be_told_what(folder):
    with pytest.raises(UserError, match="say what to remove"):
        main(["remove"])
    with pytest.raises(UserError, match="--all removes everything"):
        main(["remove", "--all", "--layer", "fc"])


def test_only_files_of_the_store_are_removed_and_links_not_followed(folder, tmp_path):
    outside = tmp_path / "outside.h5"
    outside.write_text("mine")
    linked = folder / store.feature_path(key(layer="x"), ABOUT).name
    linked.symlink_to(outside)
    inside = folder / "mnist-train-a-b-avg-0123456789abcdef.h5"
    inside.mkdir()
    others = [folder / name for name in ("notes.txt", "mine.h5", "seconds.json", "a-0123456789abcdef.h5.bak")]
    for other in others:
        other.write_text("mine")
    assert main(["remove", "--all"]) == 0
    assert outside.read_text() == "mine"
    assert {path.name for path in folder.iterdir()} == {path.name for path in (linked, inside, *others)}


def test_what_a_killed_process_left_is_counted_and_removed(folder, capsys):
    stem = store.feature_path(key(layer="fc"), ABOUT).name
    for name in (f"{stem}.new", f"{stem}.progress.json", f".{stem}.progress.json.ab_c12.tmp"):
        (folder / name).write_bytes(bytes(1000))
    assert main([]) == 0
    assert "3 kB left over by processes that were killed" in capsys.readouterr().out
    main(["remove", "--partial"])
    assert len(list(folder.iterdir())) == 2


def test_a_file_that_is_being_written_is_not_removed(folder):
    with store.lock(key(layer="layer2")), pytest.raises(UserError, match="being extracted by another process"):
        main(["remove", "--partial"])
    assert partial_records()


def test_the_command_line_without_torch_and_its_exit_status(folder):
    run = [sys.executable, "-X", "importtime", "-m", "features"]
    done = subprocess.run(run, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0 and "2 complete" in done.stdout
    assert not {"torch", "h5py", "sklearn"} & {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    done = subprocess.run([sys.executable, "-m", "features", "remove"], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 2 and done.stderr.startswith("error: say what to remove") and done.stderr.count("\n") == 1


def test_two_data_sets_of_one_name_are_told_apart(home, tmp_path, capsys):
    places = {}
    for number, place in enumerate(("pets", "flowers")):
        for shade, class_name in enumerate(("a", "b")):
            (tmp_path / place / "train" / class_name).mkdir(parents=True)
            for name in range(2):
                pixels = np.full((4, 4), 100 * number + 10 * shade + name, np.uint8)
                Image.fromarray(pixels).save(tmp_path / place / "train" / class_name / f"{name}.png")
        dataset = open_dataset(f"folder:{tmp_path / place / 'train'}")
        places[dataset.spec] = dataset.fingerprint()
        recognise(dataset.spec, dataset.fingerprint())
        about = About(dataset.name, "avgpool", dataset.classes, "random")
        make(key(dataset=dataset.fingerprint()), numbers((90, 4)), about=about)
    (pets, first), (flowers, second) = places.items()
    assert main([]) == 0
    out = capsys.readouterr().out
    assert f"folder-train ({first[:8]})" in out and f"folder-train ({second[:8]})" in out
    with pytest.raises(UserError, match="2 data sets of that name") as error:
        main(["remove", "--dataset", "folder-train"])
    assert f"{first[:8]} ({pets})" in str(error.value) and f"{second[:8]} ({flowers})" in str(error.value)
    shutil.rmtree(tmp_path / "pets")
    assert main(["remove", "--dataset", pets]) == 0
    assert [entry.record.key.dataset for entry in store.catalogue.entries()] == [second]
    assert main(["remove", "--dataset", second[:8]]) == 0 and not store.catalogue.entries()


def _aged(path, days):
    then = time.time() - days * 86400
    os.utime(path, (then, then))


@pytest.mark.parametrize(
    ("arguments", "gone"),
    [
        (["--older-than", "30d"], {"avgpool"}),
        (["--older-than", "3"], {"avgpool", "usps"}),
        (["--older-than", "60d"], set()),
        (["--larger-than", "1kB"], {"avgpool", "usps", "layer2"}),
        (["--larger-than", "1GB"], set()),
        (["--older-than", "3d", "--larger-than", "1GB"], set()),
        (["--older-than", "24h", "--larger-than", "0.5kb"], {"avgpool", "usps"}),
    ],
)
def test_prune_takes_what_is_old_and_large_and_says_it_first_if_asked(folder, capsys, arguments, gone):
    for path in folder.iterdir():
        _aged(path, 40 if "avgpool" in path.name and "usps" not in path.name else 5 if "usps" in path.name else 0)
    before = _names(folder)
    assert main(["prune", *arguments, "--dry-run"]) == 0
    assert _names(folder) == before and capsys.readouterr().out.count("would remove ") == len(gone)
    assert main(["prune", *arguments]) == 0
    left = _names(folder)
    kept = {"avgpool", "usps", "layer2"} - gone
    assert len(left) == len(kept) and all(any(part in name for name in left) for part in kept)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "say what to delete: --older-than AGE"),
        (["--older-than", "soon"], "'soon' is not an age as in 12h, 30d or 2w"),
        (["--larger-than", "2 parsecs"], "'2 parsecs' is not a size as in 500MB or 2GB"),
    ],
)
def test_prune_wants_to_be_told_what(folder, capsys, arguments, complaint):
    assert run_command(main, ["prune", *arguments]) == 2
    said = capsys.readouterr().err
    assert complaint in said and said.count("\n") == 1


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_the_list_fits_the_columns_that_there_are_and_folds_no_name(folder, capsys, monkeypatch, width):
    from features.commands.screen import ScreenColumn, laid_out

    monkeypatch.setenv("COLUMNS", str(width))
    assert main([]) == 0
    said = capsys.readouterr().out.partition(f" in {folder}")[0].splitlines()
    assert max(map(len, said)) <= width and any("usps" in line and "layer3" in line for line in said)
    assert (width < 150) == any("no room for" in line for line in said)
    narrow = [line.plain for line in laid_out([ScreenColumn("a b", ["x" * 50]), ScreenColumn("c", ["1"], 3)], 52)]
    assert narrow[-2] == "x" * 50 and narrow[-1].startswith("no room for c")


@pytest.mark.parametrize(
    ("console", "command"), [("", "`python -m features | cat`"), ("layerprobe", "`layerprobe features | cat`")]
)
def test_where_the_whole_list_stands_is_spelled_as_the_command_was(folder, capsys, monkeypatch, console, command):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("features.commands.program._console", console)
    monkeypatch.setattr("features.commands.screen.screen_width", lambda stream: 60)
    assert main([]) == 0
    assert f"they stand in {command}" in capsys.readouterr().out.replace("\n", " ")


def test_a_list_for_other_programs_is_whole(folder, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main([]) == 0
    said = capsys.readouterr().out
    assert "no room for" not in said and "rows x width" in said and "─" not in said
