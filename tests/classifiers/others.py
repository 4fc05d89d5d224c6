"""Networks of the other families, with random weights: no file is needed, and no builder of torchvision knows them."""

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

TIMM = (
    "resnet18", "resnet50", "resnetv2_50", "resnext50_32x4d", "seresnet50", "densenet121", "efficientnet_b0",
    "efficientnet_lite0", "tf_efficientnetv2_b0", "mobilenetv2_100", "mobilenetv3_large_100", "regnety_002",
    "convnext_atto", "convnextv2_atto", "nfnet_l0", "ghostnet_100", "repvit_m0_9", "fastvit_t8", "inception_v3",
    "dpn68", "vgg11_bn", "edgenext_xx_small", "mobilevit_xxs", "poolformer_s12", "vit_tiny_patch16_224",
    "vit_base_patch16_siglip_224", "vit_small_patch16_dinov3", "vit_small_patch14_reg4_dinov2",
    "deit_tiny_distilled_patch16_224", "beit_base_patch16_224", "cait_xxs24_224", "xcit_nano_12_p16_224",
    "eva02_tiny_patch14_224", "levit_128s", "swin_tiny_patch4_window7_224", "pit_ti_224", "mixer_s32_224",
    "coatnet_0_rw_224", "hiera_tiny_224", "volo_d1_224", "twins_svt_small", "convit_tiny", "efficientformer_l1",
    "vit_tiny_r_s16_p8_224",
)  # fmt: skip
OPEN_CLIP = ("ViT-S-32", "RN50/openai", "convnext_tiny", "ViT-B-16-SigLIP/webli")
_TOKENS = {
    "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 96, "image_size": 64,
    "patch_size": 8,
}  # fmt: skip
_MAPS = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
# Small ones of transformers', by what their config.json says.
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "vit": {"model_type": "vit", "architectures": ["ViTForImageClassification"], **_TOKENS},
    "deit": {"model_type": "deit", "architectures": ["DeiTForImageClassificationWithTeacher"], **_TOKENS},
    "dinov2": {"model_type": "dinov2", "architectures": ["Dinov2Model"], **_TOKENS},
    "dinov2-registers": {
        "model_type": "dinov2_with_registers", "architectures": ["Dinov2WithRegistersModel"], **_TOKENS,
    },
    "dinov3": {"model_type": "dinov3_vit", "architectures": ["DINOv3ViTModel"], "num_register_tokens": 4, **_TOKENS},
    "beit": {
        "model_type": "beit", "architectures": ["BeitForImageClassification"], "use_relative_position_bias": True,
        **_TOKENS,
    },
    "swin": {
        "model_type": "swin", "architectures": ["SwinForImageClassification"], "image_size": 64, "embed_dim": 12,
        "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 4], "window_size": 4,
    },
    "convnext": {"model_type": "convnext", "architectures": ["ConvNextForImageClassification"], **_MAPS},
    "resnet": {
        "model_type": "resnet", "architectures": ["ResNetForImageClassification"], "embedding_size": 8, **_MAPS,
    },
    "siglip": {"model_type": "siglip_vision_model", "architectures": ["SiglipVisionModel"], **_TOKENS},
    "clip": {"model_type": "clip_vision_model", "architectures": ["CLIPVisionModel"], **_TOKENS},
}  # fmt: skip
OWN = ("Plain", "AsksForSizes", "Embedding")
SHORT_OTHERS = ("python:tests.classifiers.others:AsksForSizes", "timm:vit_tiny_patch16_224", "hf:dinov3")


@dataclass(frozen=True)
class Other:
    """A network by its name on the command line."""

    name: str

    million_parameters = 10.0  # all of them can be trained

    def __str__(self) -> str:
        return self.name

    def written(self, path: Path) -> Path:
        """There is no file, since weights are random; of transformers' models the folder that their name means."""
        family, _, name = self.name.partition(":")
        if family == "hf":
            folder = path.parent / name
            folder.mkdir(exist_ok=True)
            config = {"num_labels": 10, **TRANSFORMERS[name]}
            (folder / "config.json").write_text(json.dumps(config))
            (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 64, "width": 64}}))
        return path


def others() -> Iterator[Other]:
    """Those of one's own, and those of other packages where they are installed."""
    yield from (Other(f"python:{__name__}:{name}") for name in OWN)
    families = (("timm", "timm", TIMM), ("hf", "transformers", TRANSFORMERS), ("open_clip", "open_clip", OPEN_CLIP))
    for family, package, names in families:
        if importlib.util.find_spec(package):
            yield from (Other(f"{family}:{name}") for name in names)


class Plain(nn.Module):
    """Blocks with shortcuts, at three resolutions."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.body = nn.Sequential(*(Block(8 * 2**depth) for depth in range(3)))
        self.head = nn.Linear(64, classes)

    def rows(self, images: torch.Tensor) -> torch.Tensor:
        """The pooled output, (N, 64)."""
        return self.body(self.stem(images)).mean((2, 3))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.rows(images))


class AsksForSizes(Plain):
    """Decides by sizes, which torch.fx alone does not trace; attends within halves of an image, which are a fifth axis,
    and within the rows of a batch, which are the first of three."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-1] % 8:
            raise ValueError("images have sides that are multiples of 8")
        tokens = self.body(self.stem(images)).flatten(2).transpose(1, 2)
        halves = tokens.unflatten(1, (2, -1)).unflatten(3, (4, -1)).transpose(2, 3)
        earlier = torch.ones(halves.shape[-2], halves.shape[-2]).tril().bool()
        tokens = F.scaled_dot_product_attention(halves, halves, halves, earlier).transpose(2, 3)
        tokens = tokens.flatten(3).flatten(1, 2)
        tokens = F.scaled_dot_product_attention(tokens, tokens, tokens)
        return self.head(tokens.mean(1).reshape(len(images), -1))


class Embedding(Plain):
    """Without a classifier."""

    def __init__(self) -> None:
        super().__init__()
        del self.head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.rows(images)


class Block(nn.Module):
    """Halves the sides and doubles the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, 2 * channels, 3, 2, 1), nn.BatchNorm2d(2 * channels)
        self.short = nn.Conv2d(channels, 2 * channels, 1, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (self.norm(self.conv(images)) + self.short(images)).relu()
