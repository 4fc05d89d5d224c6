"""Links in a folder of images: followed, but never in a circle."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from features.datasets import open_dataset


def _classes_of_images(folder: Path) -> None:
    for name in ("cats", "dogs"):
        (folder / name).mkdir(parents=True)
        for number in range(4):
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.mark.parametrize("target", [".", "..", "../cats"])
def test_a_link_that_leads_around_in_a_circle_counts_no_image_twice(home, tmp_path, target):
    _classes_of_images(tmp_path / "pets")
    (tmp_path / "pets" / "cats" / "loop").symlink_to(target)
    loaded = open_dataset(f"folder:{tmp_path / 'pets'}")
    assert sum(len(loaded.load(split).labels) for split in loaded.splits) == 8


def test_a_link_to_another_folder_is_followed(home, tmp_path):
    _classes_of_images(tmp_path / "pets")
    _classes_of_images(tmp_path / "more")
    (tmp_path / "pets" / "cats" / "more").symlink_to(tmp_path / "more" / "cats")
    loaded = open_dataset(f"folder:{tmp_path / 'pets'}")
    assert sum(len(loaded.load(split).labels) for split in loaded.splits) == 12
