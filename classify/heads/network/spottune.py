"""SpotTune: a policy network sends each image through each block's frozen or its fine-tuned copy (Guo et al. 2019).

The blocks are those that the backbone's graph repeats; what lies before the first and after the last of them is
fine-tuned. The policy and both copies are trained and kept together.
"""

import dataclasses
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import relu

from classify.heads.network.batches import even_batches
from classify.heads.network.checkpoint import read_network, write_network
from classify.heads.network.classifier import NetworkClassifier
from classify.heads.network.graph import NORMALISATIONS, parameters_of
from classify.heads.network.network import Network
from classify.heads.network.settings import TrainingSettings
from classify.heads.network.trained import labels_from_json, labels_to_json, trained_with
from classify.heads.network.training import Labelled, Trainee, WithNothingSeen
from classify.heads.regularizers.protocol import Regularizer
from features.architectures import build_model
from features.backbones import load_backbone
from features.errors import UserError
from features.twins import with_channels_last
from features.weights import read_state_dict

# The published programme's.
TEMPERATURE = 5.0
_WIDTHS = (16, 32, 64)
_ROWS_TOLD = 512


class SpotTuneClassifier(NetworkClassifier):
    """A backbone whose blocks are routed image by image, as a classifier; it takes what `NetworkClassifier` takes.

    Guo, Shi, Kumar, Grauman, Rosing and Feris, 'SpotTune: transfer learning through adaptive fine-tuning', CVPR 2019.
    After fit, `learned_["tuned"]` is the share of training images (of at most 512) that takes each block's tuned copy.
    """

    def _module(self, network: Network) -> "Routed":
        if self.unfreeze != "all" or self.fresh_above or self.until:
            raise UserError("spottune decides itself what trains; leave out unfreeze, fresh_above and until")
        if self._settings.layer_decay != 1:
            raise UserError("spottune has two copies of each block and one learning rate; leave out layer_decay")
        self.routed_ = Routed(network, self._settings.seed).to(self._device)
        return with_channels_last(self.routed_)

    def _trainee(self, network: Network, penalties: tuple[Regularizer, ...]) -> Trainee:
        if penalties:
            raise UserError("spottune takes no --regularizer: each block has a frozen copy to go back to; leave it out")
        names = [name for name, _ in self.routed_.named_parameters()]
        fast = {name for name in names if name.startswith(("policy.", f"last.{network.classifier}."))}
        norms = parameters_of(self.routed_, NORMALISATIONS)
        return Trainee(self.routed_, WithNothingSeen(self.routed_), frozenset(fast), norms)

    def _learned(self, data: Labelled, penalties: tuple[Regularizer, ...]) -> dict[str, Any]:
        rows = np.random.default_rng([self._settings.seed, 6]).permutation(len(data.codes))[:_ROWS_TOLD]
        taken = []
        with torch.inference_mode():
            for part in even_batches(np.sort(rows), 128):
                taken.append(decisions(self.routed_.policy(data.source.prepare(data.source.read(part)))).cpu())
        shares = torch.cat(taken).mean(0).tolist()
        return {"tuned": dict(zip(self.network_.cut.blocks, shares, strict=True))}

    def _forward(self) -> nn.Module:
        return self.routed_

    def whole(self) -> nn.Module:
        """Both copies of the network and the policy."""
        return self.routed_

    def save(self, folder: Path | str) -> None:
        """Write network.json and network.safetensors: the state of both copies and of the policy."""
        options = self.network_.backbone.family.options_of(self.network_.model)
        fields = {
            "network": "spottune",
            "backbone": self.network_.backbone.name,
            **({"options": options} if options else {}),
            "image_size": self.network_.image_size,
            "preprocessing": dataclasses.asdict(self.preprocessing),
            "classes": labels_to_json(self.classes_),
            "settings": self._settings.to_json(),
            "run": self._run_to_json(),
            "learned": self.learned_,
        }
        write_network(Path(folder), self.routed_.state_dict(), fields)

    @classmethod
    def load(cls, folder: Path | str, device: str = "auto") -> "SpotTuneClassifier":
        folder = Path(folder)
        fields = read_network(folder)
        if fields.get("network") != "spottune":
            raise UserError(f"{folder} holds another network than spottune's; load it as what it is")
        settings, steps = TrainingSettings.from_json(fields["settings"]), trained_with(fields)
        self = cls(fields["backbone"], image_size=fields["image_size"], settings=settings, device=device)
        self.classes_ = labels_from_json(fields["classes"])
        self._resolve()
        backbone = load_backbone(fields["backbone"], "random", prepared=steps)
        if options := fields.get("options"):
            model = build_model(fields["backbone"], **options).eval().requires_grad_(False)
            backbone = dataclasses.replace(backbone, model=model)
        network = self._build(backbone, len(self.classes_))
        self._module(network).load_state_dict(read_state_dict(folder / "network.safetensors"))
        self.routed_.eval().requires_grad_(False)
        self.network_, self.learned_ = network, fields["learned"]
        self._run_from_json(fields["run"])
        return self


class Routed(nn.Module):
    """A network in pieces, its blocks twice: x_l = I_l(x) * tuned_l(x_{l-1}) + (1 - I_l(x)) * frozen_l(x_{l-1}).

    That is the paper's equation 2 at the blocks' outputs, shortcut included: since I_l(x) is 0 or 1 for each image, the
    two are one. `frozen` holds copies of the blocks in their starting state, always in eval mode; everything else
    trains.
    """

    def __init__(self, network: Network, seed: int) -> None:
        super().__init__()
        cut, ends = network.cut, network.cut.blocks
        images, start = cut.resolve("input"), cut.below_blocks
        self.first = nn.Identity() if start == images else cut.between(images, start).requires_grad_(True)
        lower = (start, *ends[:-1])
        pieces = [cut.between(low, high).requires_grad_(True) for low, high in zip(lower, ends, strict=True)]
        self.tuned = nn.ModuleList(pieces)
        self.frozen = nn.ModuleList(deepcopy(piece).eval().requires_grad_(False) for piece in pieces)
        self.last = cut.tail(ends[-1]).requires_grad_(True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.policy = Policy(len(ends))

    def train(self, mode: bool = True) -> "Routed":
        """Training mode for all but the frozen copies."""
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, K) of prepared images (N, 3, S, S)."""
        scores = self.policy(images)
        route = sampled(scores) if self.training else decisions(scores)
        x = self.first(images)
        for number, (tuned, frozen) in enumerate(zip(self.tuned, self.frozen, strict=True)):
            x = routed(route[:, number], tuned(x), frozen(x))
        return self.last(x)


class Policy(nn.Module):
    """A small residual network: images (N, 3, S, S) to scores (N, L, 2), for each block those of frozen and tuned.

    The paper's has three residual blocks as well, for a ResNet-26.
    """

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.stem = _convolution(3, _WIDTHS[0], stride=2)
        widths = zip((_WIDTHS[0], *_WIDTHS[:-1]), _WIDTHS, strict=True)
        self.body = nn.Sequential(*(_Residual(taken, given) for taken, given in widths))
        self.scores = nn.Linear(_WIDTHS[-1], 2 * blocks)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores (N, L, 2)."""
        pooled = self.body(relu(self.stem(images))).mean((2, 3))
        return self.scores(pooled).view(-1, self.blocks, 2)


class _Residual(nn.Module):
    def __init__(self, taken: int, given: int) -> None:
        super().__init__()
        self.one, self.two = _convolution(taken, given, stride=2), _convolution(given, given)
        self.shortcut = _convolution(taken, given, stride=2, side=1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return relu(self.two(relu(self.one(maps))) + self.shortcut(maps))


def routed(route: torch.Tensor, tuned: torch.Tensor, frozen: torch.Tensor) -> torch.Tensor:
    """Of each image the tuned output where its `route` (N,) is 1, and the frozen one where it is 0 (equation 2)."""
    share = route.to(tuned.dtype).view(-1, *[1] * (tuned.ndim - 1))
    return share * tuned + (1 - share) * frozen


def decisions(scores: torch.Tensor) -> torch.Tensor:
    """I_l(x) without chance, as in testing: 1 (tuned) where its score is the higher one, (N, L)."""
    return (scores[..., 1] > scores[..., 0]).to(scores.dtype)


def sampled(scores: torch.Tensor, temperature: float = TEMPERATURE) -> torch.Tensor:
    """I_l(x) drawn by the Gumbel-max trick (equation 3), (N, L); its gradient is that of the relaxed sample.

    G = -log(-log U) with U even on (0, 1) is added to the scores. Forward, the larger of the two decides; backward, as
    if it were softmax((scores + G) / temperature) (equation 4): the straight-through estimator.
    """
    even = torch.rand_like(scores, dtype=torch.float32).clamp_(1e-20, 1 - 1e-7)
    noisy = scores.float() - torch.log(-torch.log(even))
    relaxed = (noisy / temperature).softmax(-1)[..., 1]
    drawn = (noisy[..., 1] > noisy[..., 0]).to(relaxed.dtype)
    return drawn + relaxed - relaxed.detach()


def _convolution(taken: int, given: int, stride: int = 1, side: int = 3) -> nn.Sequential:
    convolution = nn.Conv2d(taken, given, side, stride, side // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(given))
