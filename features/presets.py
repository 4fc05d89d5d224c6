"""Which preprocessing belongs to which weights: torchvision's entries each have their own, and a file is one of them
where its SHA-256 says so."""

import dataclasses
import re
from pathlib import Path
from typing import Any

from torchvision import models

from features.architectures import OFFLINE, brought
from features.digests import sha256_file
from features.preprocessing import EARLIER, Preprocessing


def preset_of_entry(entry: Any) -> Preprocessing:
    """The preprocessing of one of torchvision's pre-trained weights.

    Google trained inception_v3 and googlenet on (pixel - 0.5) / 0.5. torchvision's presets normalise as for its other
    networks, and where weights are asked for its builders turn that into the former inside the network
    (`transform_input=True`). What both come to is given to the network here.
    """
    steps = _as_torchvision_has_it(entry)
    if type(entry) in (models.Inception_V3_Weights, models.GoogLeNet_Weights):
        return dataclasses.replace(steps, mean=(0.5,) * 3, std=(0.5,) * 3)
    return steps


def preset_of_default(name: str) -> Preprocessing:
    """What an architecture is given that has random weights, and the only one that EfficientNet-Lite0 has."""
    if name == OFFLINE:
        mean, std = (127 / 255,) * 3, (128 / 255,) * 3
        return Preprocessing(mean, std, resize=256, crop=224, interpolation="bicubic")
    if brought(name):
        name = "resnet18"  # ImageNet's usual one; a plug-in's weights that want another take --mean and the like
    return _as_torchvision_has_it(models.get_model_weights(name).DEFAULT)


def preset_of_file(name: str, path: Path, size: int | None = None) -> tuple[Preprocessing, str]:
    """The preprocessing for a file of weights of an architecture; and, where it may be another one, whose it is and why
    it is taken, for `in_a_line`.

    It is that of the entry whose hash the file has. Failing that, its name may still say what it was converted from;
    and most others were made from the default weights. size: the only one in pixels that the network takes, which then
    is the entry's too.
    """
    if name == OFFLINE or brought(name):
        return preset_of_default(name), "as it was made for"
    entries = {_hash_in(entry.url): entry for entry in models.get_model_weights(name)}
    digest = sha256_file(path)
    for beginning, entry in entries.items():
        if beginning and digest.startswith(beginning):
            return preset_of_entry(entry), ""
    named, default = entries.get(_hash_in(path.name)), models.get_model_weights(name).DEFAULT
    # A vision transformer's other size is one that another entry is for, or nobody's.
    sized = [entry for entry in entries.values() if preset_of_entry(entry).crop == size]
    entry = named or (default if size is None or default in sized else (*sized, default)[0])
    steps = preset_of_entry(entry).at(size)
    reason = "which its name says, but not its SHA-256" if named else "the default, since its SHA-256 is that of none"
    if entry not in (named, default):
        reason = "which is for the size of its images; its SHA-256 is that of none"
    return steps, f"as for torchvision's {entry.name} ({reason})"


def preset_of_recorded(name: str, weights: str, path: Path) -> Preprocessing | None:
    """The preprocessing for weights that a record calls so, whose file stood at a path; None where nothing says which
    they were."""
    if name == OFFLINE:
        return preset_of_default(name)
    if path.is_file() and path.name == weights:
        return preset_of_file(name, path)[0]
    entries = list(models.get_model_weights(name)) if name in models.list_models(module=models) else []
    digits = _hash_in(weights)
    named = (entry for entry in entries if weights == entry.name or (digits and digits == _hash_in(entry.url)))
    return next(map(preset_of_entry, named), None)


def preset_of_earlier(name: str) -> Preprocessing:
    """What version 0.1.0 did for an architecture, whatever its weights."""
    return dataclasses.replace(preset_of_default(name), crop_mode=EARLIER)


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


def _as_torchvision_has_it(entry: Any) -> Preprocessing:
    preset = entry.transforms()
    return Preprocessing(
        tuple(preset.mean),
        tuple(preset.std),
        resize=preset.resize_size[0],
        crop=preset.crop_size[0],
        interpolation=preset.interpolation.value,
        antialias=bool(preset.antialias),
    )


def _hash_in(name: str) -> str | None:
    """The first digits of a SHA-256 that torchvision writes into a file's name."""
    written = re.search(r"-([a-f0-9]{8,})\.", name)
    return written and written.group(1)
