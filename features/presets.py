"""Which preprocessing belongs to which weights, by the names in requests and records; its family knows."""

from pathlib import Path

from features.errors import UserError
from features.families import family_of
from features.preprocessing import Preprocessing


def preset_of_recorded(name: str, weights: str, path: Path) -> Preprocessing | None:
    """The preprocessing for weights that a record calls so, whose file stood at a path; None where nothing says which
    they were."""
    try:
        return family_of(name).preset_of_recorded(name, weights, path)
    except UserError:
        return None  # what brought the architecture is not here


def preset_of_earlier(name: str) -> Preprocessing:
    """What version 0.1.0 did for an architecture, whatever its weights; of those that it did not have, their own."""
    family = family_of(name)
    return family.preset_of_earlier(name) or family.preset(name)


def in_a_line(path: Path, how: str, own: Preprocessing, steps: Preprocessing) -> str:
    """What is done to images for a file of weights, `steps`, for people; how, own: what `preset_of_file` said."""
    sizes = {
        "center": f"short side {steps.resize}, crop {steps.crop}",
        "squash": f"squashed to {steps.crop} x {steps.crop}",
        "pad": f"padded to {steps.crop} x {steps.crop}",
    }
    mean, std = (" ".join(f"{number:.3g}" for number in numbers) for numbers in (steps.mean, steps.std))
    asked = "" if steps == own else ", but for what was asked for"
    return (
        f"{path.name}: images are prepared {how}{asked}: {sizes[steps.crop_mode]}, {steps.interpolation}, mean {mean}, "
        f"std {std}; weights that want it otherwise take --resize, --image-size, --interpolation, --mean and --std"
    )
