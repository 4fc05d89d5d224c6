"""Images sorted into folders of their classes."""

from classify.use.predicting import Guess, Prediction
from classify.use.sorting import sorted_into


def test_a_class_with_any_name_gets_a_folder_of_its_own(tmp_path):
    image = tmp_path / "a.png"
    image.write_bytes(b"1")
    with sorted_into(tmp_path / "sorted", "copy") as put:
        for name in ("../out", "a/b", "", "...", "con:", "n\n"):
            put(Prediction(str(image), (Guess(name, 0, 0.5, 0.5),)))
        put(Prediction("standard input", (Guess("x", 0, None, 1.0),)))
    files = [path for path in (tmp_path / "sorted").rglob("*") if path.is_file()]
    assert len(files) == 7 and not (tmp_path / "out").exists()
