"""Homes of any name, and links in the cache that lead out of it: only what the store made is written or deleted."""

import numpy as np
import pytest

from features import store
from features.commands.cache import main
from features.commands.options import run_command
from features.key import short_digest
from tests.features.store_cases import ABOUT, RECIPE, begin, key, make, numbers

SMALL = numbers((40, 6))


@pytest.mark.parametrize(
    "name", ["with spaces ", "ünï-çødé 数字", "%s{}'\"$HOME;*?[a]", "--layer", "a\nb", ".hidden", "x" * 200, "a/../b"]
)
def test_a_home_may_have_any_name(home, tmp_path, monkeypatch, capsys, name):
    (tmp_path / "a").mkdir()
    elsewhere = tmp_path / name
    monkeypatch.setenv("LAYERPROBE_HOME", str(elsewhere))
    file = make(key(), SMALL)
    begin(key(layer="layer2"), SMALL.shape).close()
    np.testing.assert_array_equal(store.find(key()).features(), SMALL)
    assert file.path.parent == elsewhere / "features"
    assert main(["verify"]) == 0
    assert main(["remove", file.path.name]) == 0
    assert main(["remove", "--all"]) == 0
    assert list(file.path.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["../outside.h5", "/etc/passwd", "..", ".", "", "*", "features/../../outside.h5", "~"])
def test_remove_takes_no_path_that_leads_out(home, capsys, name):
    make(key(), SMALL)
    outside = home / "outside.h5"
    outside.write_text("mine")
    assert run_command(main, ["remove", name]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert outside.read_text() == "mine" and len(store.list_files()) == 1


def test_links_that_lead_out_are_not_written_through(home, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path = store.feature_path(key(), ABOUT)
    path.parent.mkdir(exist_ok=True)
    for ending in (".partial", ".progress.json", ".new"):
        path.with_name(path.name + ending).symlink_to(victim)
    np.testing.assert_array_equal(make(key(), SMALL).features(), SMALL)
    assert victim.read_text() == "mine" and not path.is_symlink()
    lock = path.with_name(f".{short_digest(key())}.lock")
    lock.symlink_to(tmp_path / "made-by-the-lock")
    with pytest.raises(OSError, match="symbolic links"), store.lock(key()):
        pass
    assert not (tmp_path / "made-by-the-lock").exists()


def test_a_folder_of_shards_that_is_a_link_is_not_emptied(home, tmp_path, capsys):
    division = store.Division(key(), ABOUT, len(SMALL), 20, RECIPE).keep()
    outside = tmp_path / "outside"
    division.folder.rename(outside)
    division.folder.symlink_to(outside)
    before = sorted(path.name for path in outside.iterdir())
    assert before
    main(["remove", "--all"])
    assert sorted(path.name for path in outside.iterdir()) == before and division.folder.is_symlink()


def test_the_folder_of_features_itself_may_be_a_link(home, tmp_path):
    roomy = tmp_path / "another disk"
    roomy.mkdir()
    (home / "features").symlink_to(roomy)
    file = make(key(), SMALL)
    assert [path.name for path in roomy.iterdir()] == [file.path.name]
    assert main(["remove", "--all"]) == 0
    assert list(roomy.iterdir()) == []
