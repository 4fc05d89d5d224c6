"""What careless and hostile users meet: one line and status 2, or the sensible thing; never a wrong number."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import classify.__main__ as classify
import extract.__main__ as extract
from extract import FeatureExtractor, extraction
from features.commands import cache
from features.commands.options import run_command
from features.errors import UserError
from features.notes import Notes
from features.request import Request, plan

SMALL = ["--weights", "random", "--image-size", "32"]
DIGITS = ["--dataset", "digits", *SMALL, "--limit", "20", "--limit-test", "10"]
REQUEST = Request(dataset="digits", weights="random", image_size=32, limit=20, limit_test=10, precision="float32")


def _complaint(capsys, main, *arguments) -> str:
    assert run_command(main, [str(each) for each in arguments]) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ")
    assert "\n" not in told
    return told


def _silently(request: Request) -> None:
    extraction.extract(plan(request), say=lambda line: None)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--seed", "-1"], "--seed -1"),
        (["--seed", str(10**30)], "--seed"),
        (["--jobs", "0"], "1 or more"),
        (["--jobs", "-1"], "1 or more"),
        (["--limit", "many"], "--limit"),
        (["--frobnicate"], "--help"),
        (["--precision", "float12"], "--precision"),
        (["--list-layers", "--image-size", "-5"], "--image-size -5"),
        (["--weights", "~nobody-of-that-name/x.pth"], "there is no such file"),
        (["--weights", "x" * 5000], "File name too long"),
        (["--dataset", "folder:~nobody-of-that-name/x"], "does not exist"),
        (["--dataset", "folder:" + "x" * 5000], "File name too long"),
        (["--dataset", ""], "there is no data set"),
        (["--layer", "+"], "there is no layer"),
    ],
)
def test_odd_values_of_options_get_one_line(home, capsys, arguments, told):
    assert told in _complaint(capsys, extract.main, *DIGITS, *arguments)


def test_other_commands_complain_in_one_line_too(home, capsys):
    assert "frobnicate" in _complaint(capsys, cache.main, "frobnicate")
    assert "--class-weight" in _complaint(capsys, classify.main, "--class-weight", "heavy")


def test_more_jobs_than_cores_are_all_cores(home):
    assert run_command(extract.main, [*DIGITS, "--jobs", "100000"]) == 0


def test_a_head_that_cannot_weight_classes_says_so_before_anything_is_extracted(home, capsys):
    assert "centroid" in _complaint(capsys, classify.main, *DIGITS, "--model", "centroid", "--class-weight", "balanced")
    assert not (home / "features").exists()


@pytest.mark.parametrize("text", ["[]", "null", '"x"', "[1", '{"a": 1}', "[" * 100_000], ids=lambda text: text[:3])
def test_garbled_notes_are_as_good_as_none(home, text):
    assert run_command(extract.main, DIGITS) == 0
    for name in ("digests.json", "answers.json", "features/seconds.json"):
        (home / name).write_text(text)
    notes = [path for path in (home / "notes").rglob("*.json") if path.parent.name != "known"]
    assert {path.parent.name for path in notes} == {"answers", "plans", "seconds"}
    for note in notes:
        note.write_text(text)
    for file in (home / "features").glob("*-train-*.h5"):
        file.unlink()
    assert run_command(extract.main, DIGITS) == 0


def test_a_note_of_seconds_that_is_no_note_is_none(home):
    from extract.cost import seconds_to_extract

    _silently(REQUEST)
    key = plan(REQUEST).wanted[0].key
    assert seconds_to_extract(key, 10) > 0
    for entry in (5, [], {"seconds": "x", "images": 1}, {"seconds": 1, "images": 0}):
        Notes("seconds").put(key.digest, entry)
        assert seconds_to_extract(key, 10) is None
    shutil.rmtree(home / "notes" / "seconds")
    for entry in ("x", {"seconds": 1, "images": "x"}):
        (home / "features" / "seconds.json").write_text(json.dumps({key.digest: entry}))
        assert seconds_to_extract(key, 10) is None


def test_a_remembered_plan_that_was_altered_is_worked_out_again(home):
    wanted = plan(REQUEST)
    (note,) = (home / "notes" / "plans").glob("*.json")
    text = note.read_text()
    note.write_text(text.replace('"rows":20', '"rows":21'))
    assert note.read_text() != text
    assert plan(REQUEST) == wanted


def test_names_of_weights_are_not_files(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("random").write_text("no weights")
    assert plan(REQUEST).get("avgpool", "train").about.weights_name == "random (seed 0)"


def test_an_extractor_can_be_fitted_again_with_other_weights():
    images = np.zeros((2, 8, 8), np.uint8)
    extractor = FeatureExtractor(weights="random", image_size=32).fit(images)
    first = extractor.weights_sha256_
    assert extractor.set_params(random_state=1).fit(images).weights_sha256_ != first


def _classes_of_images(folder: Path) -> None:
    for name in ("cats", "dogs"):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            pixels = np.random.default_rng([number, len(list(folder.iterdir()))]).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def test_odd_rows_and_members_are_named(home, tmp_path, capsys):
    _classes_of_images(tmp_path / "pets")
    rows = "".join(f"pets/{name}/{number}.png,{name}\n" for name in ("cats", "dogs") for number in range(4))
    for row, told in (("~nobody-of-that-name/a.png,cats", "line 9"), ("x" * 5000 + ",cats", "File name too long")):
        (tmp_path / "list.csv").write_text(f"{rows}{row}\n")
        assert told in _complaint(capsys, extract.main, "--dataset", f"csv:{tmp_path / 'list.csv'}", *SMALL)
    with zipfile.ZipFile(tmp_path / "raw.npz", "w") as archive:
        archive.writestr("images", "no array")
        archive.writestr("labels", "no array")
    assert "it is no array" in _complaint(capsys, extract.main, "--dataset", f"npz:{tmp_path / 'raw.npz'}", *SMALL)


def test_a_home_that_is_a_file_gets_one_line(home, tmp_path, monkeypatch, capsys):
    (tmp_path / "occupied").write_text("")
    monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path / "occupied"))
    assert "LAYERPROBE_HOME" in _complaint(capsys, extract.main, *DIGITS)


def _features(**streams) -> subprocess.Popen:
    script = "import sys; from features.__main__ import main, run_command; sys.exit(run_command(main))"
    return subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, **streams)


def test_output_that_nobody_reads_ends_quietly(home):
    child = _features(stdout=subprocess.PIPE)
    child.stdout.close()
    assert child.stderr.read() == ""
    assert child.wait() == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_the_output_gets_one_line(home):
    with Path("/dev/full").open("w") as full:
        child = _features(stdout=full)
    told = child.stderr.read()
    assert "No space left" in told
    assert told.count("\n") == 1
    assert child.wait() == 2


def test_a_terminal_without_the_letters_shows_their_numbers(tmp_path):
    environment = {**os.environ, "LAYERPROBE_HOME": str(tmp_path / "ünï"), "PYTHONIOENCODING": "ascii"}
    child = _features(stdout=subprocess.PIPE, env=environment)
    said, told = child.communicate()
    assert "\\xfcn\\xef" in said
    assert (told, child.returncode) == ("", 0)


def test_a_line_of_pixels_is_refused_before_it_takes_gigabytes(home, tmp_path, capsys):
    _classes_of_images(tmp_path / "pets")
    # Of many shades: images of one are remarked on.
    line = (np.arange(100_000) % 256).astype(np.uint8)[np.newaxis]
    Image.fromarray(line).save(tmp_path / "pets" / "cats" / "line.png")
    arguments = ["--dataset", f"folder:{tmp_path / 'pets'}", "--weights", "random"]
    assert run_command(extract.main, arguments) == 2
    remark, complaint = capsys.readouterr().err.splitlines()
    assert "1 image is of another mode or size than most" in remark
    assert complaint.startswith("error: ") and "100000 x 1 pixels" in complaint


def test_rows_that_cannot_be_validated_on_are_refused_before_anything_is_extracted(home, tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8), np.uint8)
    labels = np.array([0] * 5 + [1] + [0] * 3 + [1] * 3)
    np.savez(tmp_path / "few.npz", x_train=images[:6], y_train=labels[:6], x_test=images[6:], y_test=labels[6:])
    complaint = _complaint(capsys, classify.main, "--dataset", f"npz:{tmp_path / 'few.npz'}", *SMALL)
    assert "has one image among the 6 training rows" in complaint
    assert not (home / "features").exists()


def test_features_that_are_no_numbers_get_one_line_from_a_head():
    from classify.heads import HEADS

    features = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    features[3, 2] = np.nan
    with pytest.raises(UserError, match="Ridge: Input X contains NaN"):
        HEADS["ridge"].build().fit(features, np.arange(20) % 2)


def test_digits_that_mean_several_files_remove_none(home, capsys):
    assert run_command(extract.main, [*DIGITS, "--layer", "all"]) == 0
    before = sorted((home / "features").glob("*.h5"))
    for number, path in enumerate(before[:2]):
        path.rename(path.with_name(f"{path.stem[:-16]}abcd{number}{path.stem[-11:]}.h5"))
    assert "means 2 files" in _complaint(capsys, cache.main, "remove", "abcd")
    assert len(list((home / "features").glob("*.h5"))) == len(before)


@pytest.mark.parametrize("way", ["processes", "cluster"])
def test_modules_in_the_working_folder_are_not_run_by_processes_that_are_started(home, tmp_path, way):
    if way == "cluster":
        pytest.importorskip("distributed", reason="needs pip install 'layerprobe[cluster]'")
    scripts = {
        "processes": "from classify.experiments.parallel import in_parallel\n"
        "if __name__ == '__main__': print(list(in_parallel(str, [(1,), (2,)], 2)))",
        "cluster": "from extract.cluster import on_cluster, spread\n"
        "if __name__ == '__main__':\n"
        "    with on_cluster('local:2'): print(list(spread(str, [(1,), (2,)])))",
    }
    # As the console command is, the script lies elsewhere: what Python itself imports is not from here.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "command.py").write_text(scripts[way])
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    for name in ("joblib", "multiprocessing", "numpy", "torch", "distributed", "json", "classify", "extract"):
        (hostile / f"{name}.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w').close()\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "LAYERPROBE_HOME": str(home)}
    environment.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "bin" / "command.py")],
        capture_output=True,
        text=True,
        cwd=hostile,
        env=environment,
    )
    assert done.stdout == "['1', '2']\n", done.stderr
    assert not (tmp_path / "mark").exists()
