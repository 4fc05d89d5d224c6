"""A saved model as one network for other programs: trunk, pooling and head, with the normalisation inside.

It takes uint8 images (N, 3, S, S), already resized and cropped as in training, a grey image three times over: values
that need no explaining elsewhere. It computes in float32, whatever the precision in training.
"""

import torch
from torch import nn

from classify.heads.network.classifier import NetworkClassifier
from classify.heads.network.trained import TrainedNetwork
from classify.use.modules import Decision, head_module
from classify.use.saved import SavedModel
from extract.trunk import pooled_trunk
from extract.views import TestViews
from features.twins import twin


class WholeNetwork(nn.Module):
    """Images to what `SavedModel.answers` says of them: the output decided for, scores, probabilities if there are any.

    images: uint8 (N, channels, H, W). mean and std: of pixels from 0 to 255, for each channel. views: what makes
    several of an image, over which is decided.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        trunk: nn.Module,
        decide: nn.Module,
        mean: torch.Tensor,
        std: torch.Tensor,
        views: TestViews | None = None,
    ) -> None:
        super().__init__()
        self.trunk, self.decide, self.views = trunk, decide, views
        self.register_buffer("mean", mean.view(1, -1, 1, 1).clone())
        self.register_buffer("std", std.view(1, -1, 1, 1).clone())

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Of label, scores, probabilities and distance those that the model has."""
        count, pixels = images.shape[0], images.float()
        pixels = pixels if self.views is None else self.views(pixels)
        features = self.trunk((pixels - self.mean) / self.std)
        decision: Decision = self.decide(features if self.views is None else features.reshape(count, -1))
        return tuple(part for part in decision if part is not None)


class _Features(nn.Module):
    """Trunk and poolings to the joined features."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([layer.flatten(1) for layer in self.trunk(images)], 1)


class _Logits(nn.Module):
    """What a network's logits decide, those of one view after the other."""

    def __init__(self, views: int) -> None:
        super().__init__()
        self.views = views

    def forward(self, logits: torch.Tensor) -> Decision:
        logits = logits if self.views == 1 else logits.unflatten(1, (self.views, -1)).mean(1)
        return logits.argmax(1), logits, logits.softmax(1), None


def whole_network(model: SavedModel) -> WholeNetwork:
    """The network of a saved model, on the CPU. UserError, before any work, for a head that has no form as one."""
    if isinstance(model.head, TrainedNetwork):
        network = twin(_counting(model.head)).cpu().float().to(memory_format=torch.contiguous_format).eval()
        views = model.head.views(input_shape(model)[1:])
        return WholeNetwork(network, _Logits(model.head.test_views), *normalisation(model), views).eval()
    decide = head_module(model.head)
    assert model.reader is not None  # a head that is no network takes features
    trunk = _Features(pooled_trunk(model.reader.cut, model.reader.outputs).cpu())
    return WholeNetwork(trunk, decide, *normalisation(model), model.reader.views).eval()


class _First(nn.Module):
    """What a graph of one output gives."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.graph(images)[0]


def _counting(head: TrainedNetwork) -> nn.Module:
    """A trained network; as its graph where that was taken for known sizes. Such a network may count its images itself,
    by `len(images)` for one, of which torch's exporter makes a constant."""
    if not isinstance(head, NetworkClassifier) or not head.network_.cut.traits.sized:
        return head.whole()
    cut = head.network_.cut
    return _First(cut.trunk([cut.resolve("fc")]))


def normalisation(model: SavedModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of pixels from 0 to 255, for each channel of the network's input."""
    if isinstance(model.head, TrainedNetwork):
        return model.head.normalisation()
    assert model.reader is not None  # a head that is no network takes features
    return model.reader.prepare.normalisation()


def input_shape(model: SavedModel) -> tuple[int, int, int]:
    """(channels, height, width) of the images that the network takes."""
    steps = model.preprocessing
    return tuple(model.head.image_shape_) if steps is None else (3, steps.crop, steps.crop)
