"""What the first layer and each stage of a backbone see of one test image, as feature maps.

This reads more than results: the backbone, if its weights are at hand and are still those of the records. They are
never downloaded for this. The image goes through once, in float32.
"""

from dataclasses import dataclass

import numpy as np

from classify.measure.record import RowConfig
from classify.measure.wording import one_line
from classify.show.report.charts import Figure
from classify.show.report.folder import Model, Section
from classify.show.report.images import TestImages, option, png, png_address
from classify.show.report.svg import drawing, element, words
from features.digests import canonical_json
from features.errors import UserError
from features.first_use import was_used
from features.home import user_path
from features.named_code import require_trust
from features.preprocessing import Preprocessing

CHANNELS = 8  # shown of each stage


@dataclass(frozen=True)
class _Stage:
    """One line of the figure. maps: uint8 (channels, side, side), each spread over all greys."""

    layer: str
    shape: tuple[int, ...]
    maps: np.ndarray


def see_stages(section: Section, images: TestImages, row: int, truth: str, name: str) -> Figure | str:
    """Feature maps of a test row in the section's backbone, or why they cannot be shown."""
    model = next((candidate for candidate in section.models if _pretrained(candidate)), None)
    if model is None:
        return "feature maps are left out: no result was made with a pre-trained backbone"
    config = model.saved.result.config
    try:
        stages = _stages(model, images.read(row))
    except UserError as error:
        return f"feature maps are left out: {one_line(error)}"
    about = f"{config.backbone}, {config.weights}, {config.image_size} px"
    title = "What the stages see of one image"
    caption = one_line(
        f"Test image {row:,} (a {truth}) in {about}. Of each stage the {CHANNELS} channels whose values differ most "
        "over the map, each spread over all greys: bright is high, and channels cannot be compared with each other. "
        "Computed in float32."
    )
    drawings = tuple(
        _draw(stages, images.read(row), variant, f"{title}: {one_line(truth)}") for variant in ("wide", "narrow")
    )
    return Figure(name, title, caption, drawings)


def _pretrained(model: Model) -> bool:
    config = model.saved.result.config
    weights = config.weights or "random"
    return not weights.startswith("random") and {"backbone", "weights_sha256", "image_size"} <= set(config)


def _stages(model: Model, image: np.ndarray) -> list[_Stage]:
    import torch

    from extract.preprocess import Preprocessor
    from features.backbones import load_backbone

    config = model.saved.result.config
    name, size = config.backbone, config.image_size
    if name is None or size is None or not 8 <= size <= 4096:
        raise UserError(f"there are no images of {size!r} pixels")
    require_trust(name, model.saved.path)
    weights = weights_at_hand(name, option(model.saved.result.command, "--weights") or "default", config.weights_sha256)
    backbone = load_backbone(name, weights, prepared=_preprocessing(config))
    if backbone.weights_sha256 != config.weights_sha256:
        raise UserError(f"the weights '{weights}' are no longer those that these results were made with")
    cut, preprocessing = backbone.cut(size), backbone.preprocessing
    layers = {cut.layers[0].split(".")[0] if cut.layers[0].startswith("conv") else cut.layers[0]: cut.layers[0]}
    layers |= {name: cut.resolve(name) for name in cut.inner_stages}
    # Where one number is left of a map there is nothing to see.
    layers = {name: node for name, node in layers.items() if cut.layout(node) == "map" and cut.shape(node)[-1] > 1}
    if not layers:
        raise UserError(f"{config['backbone']} has no maps of channels")
    with torch.inference_mode():
        outputs = cut.trunk(list(layers.values()))(Preprocessor(preprocessing)(image[None]))
    return [
        _Stage(one_line(name), tuple(output.shape[1:]), _most_varied(output[0].float().numpy()))
        for name, output in zip(layers, outputs, strict=True)
    ]


def _preprocessing(config: RowConfig) -> Preprocessing:
    """How the row's images were prepared; UserError where a hand has written what cannot be."""
    from features.presets import preset_of_earlier

    if config.preprocessing is None:
        return preset_of_earlier(str(config.backbone)).at(config.image_size)
    try:
        return Preprocessing.parse(canonical_json(config.preprocessing), "center")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"images are not prepared by {str(config.preprocessing)[:80]}") from error


def weights_at_hand(backbone: str, weights: str, digest: str | None) -> str:
    """The same; UserError where they would have to be downloaded, and for a file that this home has not used before
    with the digest in the record."""
    from features.families import family_of

    if weights == "random":
        return weights
    if (path := user_path(weights)).is_file():
        if not was_used(str(path.absolute()), digest):
            raise UserError(f"the weights '{weights}' were not used here before, and a record alone names them")
        return weights
    asked = family_of(backbone).pretrained(backbone, weights)
    if asked is None:
        raise UserError(f"the weights '{weights}' of {backbone} are not at hand")
    if asked.path and not asked.path.is_file():
        raise UserError(f"the weights {asked.path.name} are not at hand; put them into {asked.path.parent}")
    return weights


def _most_varied(maps: np.ndarray) -> np.ndarray:
    """uint8 (channels, side, side) of the channels that vary most, in their own order."""
    spread = maps.reshape(len(maps), -1).std(axis=1)
    chosen = np.sort(np.argsort(-spread, kind="stable")[:CHANNELS])
    low = maps[chosen].min(axis=(1, 2), keepdims=True)
    span = np.ptp(maps[chosen], axis=(1, 2), keepdims=True)
    return np.rint(255 * (maps[chosen] - low) / np.maximum(span, 1e-12)).astype(np.uint8)


def _draw(stages: list[_Stage], image: np.ndarray, variant: str, label: str) -> str:
    across = CHANNELS if variant == "wide" else 4
    left, tile, gap = (118.0, 84.0, 6.0) if variant == "wide" else (8.0, 84.0, 6.0)
    parts: list[str] = []
    y = 8.0
    if variant == "wide":
        parts += [words(8, y + 40, "the image", "label strong"), _picture(image, left, y, tile)]
    else:
        parts += [words(8, y + 10, "the image", "label strong"), _picture(image, left, y + 18, tile)]
        y += 18
    y += tile + 14
    for stage in stages:
        size = f"{stage.shape[0]} × {stage.shape[1]} × {stage.shape[2]}"
        if variant == "wide":
            parts += [words(8, y + 36, stage.layer, "label strong"), words(8, y + 54, size)]
        else:
            parts += [words(8, y + 10, f"{stage.layer}  {size}", "label strong")]
            y += 18
        for place, channel in enumerate(stage.maps):
            down, over = divmod(place, across)
            parts.append(_picture(channel, left + over * (tile + gap), y + down * (tile + gap), tile))
        y += -(-len(stage.maps) // across) * (tile + gap) + 8
    width = left + across * (tile + gap) + 2
    return drawing(width, y, parts, label, variant)


def _picture(pixels: np.ndarray, x: float, y: float, side: float) -> str:
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((112, 112))
    address = png_address(png(picture))
    return element("image", x=x, y=y, width=side, height=side, href=address, class_="pixels")
