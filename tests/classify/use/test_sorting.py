"""Images sorted into folders of their classes."""

import numpy as np

from classify.use.explanation import Explanation
from classify.use.predicting import Guess, Prediction
from classify.use.sorting import explained_into, sorted_into


def test_a_class_with_any_name_gets_a_folder_of_its_own(tmp_path):
    image = tmp_path / "a.png"
    image.write_bytes(b"1")
    with sorted_into(tmp_path / "sorted", "copy") as put:
        for name in ("../out", "a/b", "", "...", "con:", "n\n"):
            put(Prediction(str(image), (Guess(name, 0, 0.5, 0.5),)))
        put(Prediction("standard input", (Guess("x", 0, None, 1.0),)))
    files = [path for path in (tmp_path / "sorted").rglob("*") if path.is_file()]
    assert len(files) == 7 and not (tmp_path / "out").exists()


def test_classes_whose_names_cannot_be_folders_as_they_are_are_never_put_together(tmp_path):
    image = tmp_path / "a.png"
    image.write_bytes(b"1")
    names = [
        "a/b",
        "a_b",
        "a:b",
        "A_B",
        "predictions.csv",
        "",
        "class",
        "unsure",
        "\U0001f600" * 300,
        "\U0001f600" * 299,
    ]
    with sorted_into(tmp_path / "sorted", "copy") as put:
        for _ in range(2):
            for number, name in enumerate(names):
                put(Prediction(str(image), (Guess(name, number, 0.5, 0.5),)))
            put(Prediction(str(image), (Guess("a_b", 1, 0.5, 0.5),), unsure=True))
    folders = [folder for folder in (tmp_path / "sorted").iterdir() if folder.is_dir()]
    assert len(folders) == len({folder.name.casefold() for folder in folders}) == len(names) + 1
    assert all(len(list(folder.iterdir())) == 2 for folder in folders)


def test_what_was_written_is_told_on_the_standard_error(tmp_path, capsys):
    image = tmp_path / "a.png"
    image.write_bytes(b"1")
    place = tmp_path / "sorted"
    why = Explanation("dog", 0.5, np.zeros((2, 2), np.float32), np.zeros((8, 8, 3), np.uint8))
    with sorted_into(place, "link") as put:
        for name in ("cat", "dog", "cat"):
            put(Prediction(str(image), (Guess(name, 0, 0.5, 0.5),)))
        put(Prediction("standard input", (Guess("cat", 0, None, 1.0),)))
    with explained_into(tmp_path / "why") as put:
        put(Prediction(str(image), (Guess("cat", 0, 0.5, 0.5),), explanation=why))
        put(Prediction("absent.png", (), problem="absent.png: there is no such file"))
    told = capsys.readouterr()
    assert not told.out
    assert told.err.splitlines() == [
        f"{place}: 3 images sorted into 2 folders; the list is {place / 'predictions.csv'}",
        f"{tmp_path / 'why'}: a picture each of 1 image; the list is {tmp_path / 'why' / 'explained.csv'}",
    ]
