"""Some classes of a data set: the rows they are, the order they were asked in, an identity of their own."""

import numpy as np
import pytest
from PIL import Image

from features.datasets import open_dataset
from features.errors import UserError


def test_it_holds_the_rows_of_its_classes_in_the_order_asked():
    whole, some = open_dataset("digits"), open_dataset("digits[7,3, 0]")
    assert some.classes == ("7", "3", "0")
    for split in whole.splits:
        every, part = whole.load(split), some.load(split)
        rows = np.flatnonzero(np.isin(every.labels, [7, 3, 0]))
        assert np.array_equal(part.images, every.images[rows])
        assert np.array_equal(np.array([7, 3, 0])[part.labels], every.labels[rows])


def test_its_identity_is_its_content_and_its_name_fits_a_file():
    names = ("digits", "digits[7,3]", "digits[3,7]", "digits[7,3,0]")
    assert len({open_dataset(name).fingerprint() for name in names}) == len(names)
    some = open_dataset("digits[7,3]")
    assert open_dataset(some.spec).fingerprint() == some.fingerprint()
    assert some.name.startswith("digits-2of10-")
    assert "[" not in some.name


def test_images_in_files_stay_files(tmp_path):
    from PIL import Image

    for label in ("cat", "dog", "eel"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (9, 9), 10 * number).save(tmp_path / "photos" / label / f"{number}.png")
    some = open_dataset(f"folder:{tmp_path / 'photos'}[eel,cat]")
    loaded = [some.load(split) for split in some.splits]
    paths = [path for data in loaded for path in data.images.paths]
    assert len(paths) == 6
    assert all(path.parent.name in ("eel", "cat") for path in paths)
    for data in loaded:
        assert [("eel", "cat")[label] for label in data.labels] == [path.parent.name for path in data.images.paths]
    # A folder that is called so is that folder.
    (tmp_path / "photos").rename(tmp_path / "odd[1,2]")
    assert open_dataset(f"folder:{tmp_path / 'odd[1,2]'}").classes == ("cat", "dog", "eel")


@pytest.mark.parametrize(
    ("spec", "told"),
    [("digits[3,x]", "no class 'x'"), ("digits[3,3]", "given twice"), ("digitz[1,2]", "no data set 'digitz'")],
)
def test_mistakes_are_named(spec, told):
    with pytest.raises(UserError, match=told):
        open_dataset(spec)


def test_classes_that_a_validation_part_lacks_have_none(tmp_path, home):
    for number, folder in enumerate(("train/a", "train/b", "train/c", "val/c", "test/a", "test/b")):
        (tmp_path / "data" / folder).mkdir(parents=True)
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(tmp_path / "data" / folder / "0.png")
    assert open_dataset(f"folder:{tmp_path / 'data'}[b,c]").splits == ("train", "validation", "test")
    assert open_dataset(f"folder:{tmp_path / 'data'}[a,b]").splits == ("train", "test")
