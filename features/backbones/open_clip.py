"""The image towers of OpenCLIP's models, `open_clip:NAME/PRETRAINED`: the part of a CLIP that sees images.

A tower gives its image embedding, one row of numbers for an image, and has a place for a classifier above it.
`avgpool` is its pooled output below the projection into the space that images and texts share, as in the linear probes
of Radford et al. 2021 (appendix A.3); the projection is a layer of its own. In CLIP's ResNets the attention that pools
projects as well, so that `avgpool` is the embedding.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import timm
import torch
from open_clip.model import ModifiedResNet, TimmModel, VisionTransformer, _build_vision_tower, resize_pos_embed
from open_clip.transform import PreprocessCfg
from torch import nn

from features.backbones import hub
from features.backbones.family import Body, Family, Pretrained, Traits, version_of
from features.backbones.files import with_state
from features.backbones.timm import FAMILY as TIMM
from features.errors import UserError, nearest
from features.home import weights_folder
from features.preprocessing import Preprocessing, Scaled

_PREFIX = "open_clip:"
_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_POSITIONS = "body.positional_embedding"


class OpenClip(Family):
    """Towers of OpenCLIP's own kinds, CLIP's ResNets, and networks of timm's."""

    graph_in_key = True
    builds_outlines = False

    def names(self) -> Sequence[str]:
        return tuple(f"{_PREFIX}{model}/{tag}" for model, tag in open_clip.list_pretrained())

    def knows(self, name: str) -> bool:
        return name.removeprefix(_PREFIX).partition("/")[0] in open_clip.list_models()

    def defined_by(self, name: str) -> str:
        package = version_of("open_clip_torch")
        return f"{package}, {version_of('timm')}" if "timm_model_name" in _config(name)["vision_cfg"] else package

    def build(self, name: str, classes: int | None = None, **options: Any) -> nn.Module:
        model, tag = _parts(name)
        config = _config(name)
        # OpenCLIP's table has weights that were trained with another activation than their model's configuration says.
        quick = config.get("quick_gelu", False) or open_clip.get_pretrained_cfg(model, tag).get("quick_gelu", False)
        own = {"output_tokens": False, "timm_model_pretrained": False}
        tower = _build_vision_tower(config["embed_dim"], {**config["vision_cfg"], **own}, quick)
        if size := options.get("image_size"):
            _resample(tower, size)
        network = Body(tower, config["embed_dim"])
        if classes is not None:
            self.new_classifier(network, classes)
        return network

    def options_of(self, model: nn.Module) -> dict[str, Any]:
        size = self.fixed_size(model)
        return {} if size is None or isinstance(model.body, ModifiedResNet) else {"image_size": size}

    def options_for(self, model: nn.Module, shapes: Mapping[str, torch.Size]) -> dict[str, Any]:
        """The image size of the positions (1 + side², width) in a file."""
        tower: Any = model.body
        if not isinstance(tower, VisionTransformer) or len(shapes.get(_POSITIONS, ())) != 2:
            return {}
        side = math.isqrt(places := max(0, shapes[_POSITIONS][0] - 1))
        size = side * tower.patch_size[0]
        return {"image_size": size} if side and side * side == places and side != tower.grid_size[0] else {}

    def options_at(self, name: str, size: int | None) -> dict[str, Any]:
        vision = _config(name)["vision_cfg"]
        if trunk := vision.get("timm_model_name"):
            known: Any = timm.get_pretrained_cfg(trunk)
            resamples = known.fixed_input_size
        else:
            resamples = not isinstance(vision["layers"], list)  # CLIP's ResNets
        return {"image_size": size} if resamples and size not in (None, vision["image_size"]) else {}

    def fixed_size(self, model: nn.Module) -> int | None:
        tower: Any = model.body
        if isinstance(tower, TimmModel) and not tower.trunk.pretrained_cfg.get("fixed_input_size"):
            return None
        size: int | tuple[int, int] = tower.image_size
        return size if isinstance(size, int) else size[0]

    def traits(self, model: nn.Module) -> Traits:
        tower: Any = model.body
        if isinstance(tower, TimmModel):
            trunk = TIMM.traits(tower.trunk)
            stages = tuple(f"body.trunk.{stage}" for stage in trunk.stages)
            return Traits(
                stages, trunk.prefix_tokens, trunk.has_class_token, trunk.leaf_modules, trunk.leaf_functions, sized=True
            )
        if isinstance(tower, ModifiedResNet):
            return Traits(tuple(f"body.layer{number}" for number in range(1, 5)), sized=True)
        return Traits(prefix_tokens=1, has_class_token=True, sized=True)

    def classifiers(self, model: nn.Module) -> tuple[str, ...]:
        return ("fc",)

    def entries(self, name: str) -> tuple[str, ...]:
        return tuple(open_clip.list_pretrained_tags_by_model(_parts(name)[0]))

    def pretrained(self, name: str, weights: str) -> Pretrained | None:
        model, tag = _parts(name)
        tags = self.entries(name)
        if weights not in ("default", *tags):
            return None
        if not tag or weights not in ("default", tag):
            named = " or ".join(f"{_PREFIX}{model}/{known}" for known in ([weights] if weights in tags else tags[:3]))
            ways = f"give --backbone {named}, or " if named else "give "
            raise UserError(f"--backbone {name} does not name these weights; {ways}--weights FILE, or --weights random")
        *owner, file = open_clip.get_pretrained_cfg(model, tag)["hf_hub"].split("/")
        repository = "/".join(owner)
        files = (f"{Path(file).stem}.safetensors", file) if file else _HUB_FILES
        path = hub.cached(repository, *files) or weights_folder() / files[0]
        return Pretrained(path, tag, self.preset(name), fetch=partial(hub.fetch, repository, *files))

    def read(self, name: str, path: Path, options: Mapping[str, Any]) -> tuple[nn.Module, bool] | None:
        """From a state dict of a whole CLIP or of its image tower alone, its positions resampled where need be."""
        try:
            network, headless = with_state(name, path)
        except UserError:
            if not options:
                raise
            network, headless = with_state(name, path, **options)
        if options and self.fixed_size(network) != options["image_size"]:
            _resample(network.body, options["image_size"])
        return network, headless

    def preset(self, name: str) -> Preprocessing:
        """That of the weights that are named, or else of the first that OpenCLIP has for the model."""
        model, tag = _parts(name)
        said = open_clip.get_pretrained_cfg(model, tag or next(iter(self.entries(name)), "")) or {}
        usual, crop = PreprocessCfg(), _config(name)["vision_cfg"]["image_size"]
        mean, std = tuple(said.get("mean", usual.mean)), tuple(said.get("std", usual.std))
        interpolation = said.get("interpolation", usual.interpolation)
        squashes = said.get("resize_mode", usual.resize_mode) == "squash"
        return Scaled(mean, std, crop, crop, interpolation, crop_mode="squash" if squashes else "center")

    def preset_of_file(self, name: str, path: Path, size: int | None = None) -> tuple[Preprocessing, str]:
        model, tag = _parts(name)
        whose = "/".join(filter(None, (model, tag or next(iter(self.entries(name)), ""))))
        return self.preset(name).at(size), f"as for OpenCLIP's {whose}"


FAMILY = OpenClip()


def _parts(name: str) -> tuple[str, str]:
    """OpenCLIP's own names of a model and of its weights, '' where none are named; UserError, with the nearest, where
    it has none such."""
    model, _, tag = name.removeprefix(_PREFIX).partition("/")
    if model not in (models := open_clip.list_models()):
        near = " or ".join(f"{_PREFIX}{known}" for known in nearest(model, models))
        hint = f"did you mean {near}?" if near else "`open_clip.list_models()` names those that there are"
        raise UserError(f"OpenCLIP {open_clip.__version__} has no model {model!r}; {hint}")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag and tag not in tags:
        choice = f"choose from {', '.join(tags)}" if tags else f"give {_PREFIX}{model} with --weights FILE or random"
        raise UserError(f"OpenCLIP has no weights {tag!r} of {model}; {choice}")
    return model, tag


def _config(name: str) -> dict[str, Any]:
    config: dict[str, Any] = open_clip.get_model_config(_parts(name)[0])
    return config


def _resample(tower: Any, size: int) -> None:
    """Have a tower take images of another size: its positions are resampled as OpenCLIP does it, or timm."""
    try:
        if isinstance(tower, TimmModel):
            tower.set_input_size(size)
            return
        tower.image_size, tower.grid_size = (size, size), (size // tower.patch_size[0],) * 2
        state = {"visual.positional_embedding": tower.positional_embedding.detach()}
        resize_pos_embed(state, SimpleNamespace(visual=tower))
    except (AssertionError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"--image-size {size}: this tower does not take images of that size ({reason}); leave it out"
        ) from error
    tower.positional_embedding = nn.Parameter(state["visual.positional_embedding"])
