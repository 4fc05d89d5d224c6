"""Which preprocessing belongs to which architecture."""

from torchvision import models

from features.architectures import OFFLINE
from features.preprocessing import Preprocessing


def preset_of_earlier(name: str) -> Preprocessing:
    """What version 0.1.0 did for an architecture, whatever its weights: that of torchvision's default weights."""
    if name == OFFLINE:
        mean, std = (127 / 255,) * 3, (128 / 255,) * 3
        return Preprocessing(mean, std, resize=256, crop=224, interpolation="bicubic")
    preset = models.get_model_weights(name).DEFAULT.transforms()
    return Preprocessing(
        tuple(preset.mean),
        tuple(preset.std),
        resize=preset.resize_size[0],
        crop=preset.crop_size[0],
        interpolation=preset.interpolation.value,
        antialias=bool(preset.antialias),
    )
