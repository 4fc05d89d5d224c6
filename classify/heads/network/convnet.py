"""A small ConvNet from scratch at the image's own size: what a course trains before it meets transfer learning."""

import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from classify.heads.estimator import FitError
from classify.heads.network.batches import ImageSource, Inputs, Seen, is_images
from classify.heads.network.checkpoint import read_network, write_network
from classify.heads.network.graph import NORMALISATIONS, parameters_of
from classify.heads.network.settings import TrainingSettings
from classify.heads.network.trained import OnEpoch, TrainedNetwork, labels_from_json, labels_to_json
from classify.heads.network.training import Labelled, Trainee, WithNothingSeen
from features.datasets import ImageFiles
from features.errors import UserError
from features.twins import with_channels_last
from features.weights import read_state_dict

SIDE = 64  # pixels; images that are of unequal size are resized to it
_SMALLEST = 4
_LARGEST_MAP = 7
_ROWS_FOR_MOMENTS = 10_000
_IMAGES_COUNTED = 64


class ConvNet(nn.Module):
    """Two blocks of convolution, batch norm, ReLU and pooling, and two linear layers: images (N, C, H, W) to (N, K).

    Maps larger than 7 x 7, from images larger than 31 pixels, are averaged to that before the linear layers.
    """

    def __init__(self, channels: int, height: int, width: int, classes: int) -> None:
        super().__init__()
        rows, columns = min(_LARGEST_MAP, height // 4), min(_LARGEST_MAP, width // 4)
        self.features = nn.Sequential(_block(channels, 32), _block(32, 64), nn.AdaptiveAvgPool2d((rows, columns)))
        self.hidden = nn.Linear(64 * rows * columns, 128)
        self.classifier = nn.Linear(128, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, K)."""
        return self.classifier(self.hidden(self.features(images).flatten(1)).relu())


def _block(channels: int, filters: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU(), nn.MaxPool2d(2)
    )


class ConvNetClassifier(TrainedNetwork):
    """`ConvNet` as a scikit-learn style classifier of uint8 images, at their own size, or at 64 x 64 if that differs.

    Images of another size than the network's are resized to it whatever their shape, as raw pixels are in a probe;
    grey ones become colour where any image trained on has colour, and colour ones grey where none has.
    Pixels are normalised by their mean and standard deviation over the training images. It shares `TrainingSettings`
    with the other networks, so that they compare; what is about pre-trained weights (head_multiple, init_head, frozen
    batch norm) has no meaning here and is refused or, for head_multiple, without effect.
    """

    image_shape_: tuple[int, int, int]
    pixel_mean_: float
    pixel_deviation_: float
    network_: nn.Module

    def __init__(
        self,
        *,
        classes: int | None = None,
        settings: TrainingSettings | None = None,
        test_views: int = 1,
        device: str = "auto",
    ) -> None:
        self.classes = classes
        self.settings = settings
        self.test_views = test_views
        self.device = device

    def check(self) -> None:
        """Raise UserError for what cannot be trained as asked, as `fit` would, without any image."""
        self._resolve()
        self._check_batches(ConvNet(1, 8, 8, 2), self._settings.batch_size)

    def fit(
        self,
        X: Any,
        y: Any,
        validation: tuple[Any, Any] | None = None,
        *,
        checkpoint: Path | str | None = None,
        on_epoch: OnEpoch | None = None,
        last_epoch: int | None = None,
    ) -> "ConvNetClassifier":
        """Train on uint8 images (N, H, W) or (N, H, W, 3), or ImageFiles, and labels y (N,); as NetworkClassifier."""
        codes = self._start(X, y)
        if self._settings != self._settings.from_drawn_weights():
            raise FitError(
                "a network from scratch has neither statistics to freeze nor features to probe, and no stage knows "
                "more than another; leave out --batch-norm freeze, --init-head probe and --layer-decay"
            )
        self._measure(X)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._settings.seed)
            network = ConvNet(*self.image_shape_, len(self.classes_))
        network = with_channels_last(network.to(self._device))
        self._check_batches(network, len(codes))
        held = None
        if validation is not None:
            held = Labelled(self._images(validation[0]), self._encode(np.asarray(validation[1]), "validation"))
        self._train(
            Trainee(network, WithNothingSeen(network), normalisation=parameters_of(network, NORMALISATIONS)),
            Labelled(ImageSource(X, self.prepare, None, self._settings.augment), codes),
            held,
            checkpoint=checkpoint,
            identity=self._identity(X, codes, held, network="convnet"),
            on_epoch=on_epoch,
            last_epoch=last_epoch,
        )
        self.network_ = network.eval().requires_grad_(False)
        return self

    def _measure(self, X: Any) -> None:
        """Set the images' size and the mean and deviation of their pixels: of all where there are up to 10,000 images,
        else of every second, third, ... of them, and of at most 1,000 files."""
        if not is_images(X):
            raise FitError(
                f"the convnet takes uint8 images (N, H, W) or (N, H, W, 3), not {getattr(X, 'dtype', type(X).__name__)}"
            )
        stride = max(1, len(X) // _ROWS_FOR_MOMENTS)
        rows = range(0, len(X), stride)[:1000]
        files = isinstance(X, ImageFiles)
        shapes = {X.read(row).shape for row in rows} if files else {X.shape[1:]}
        self.image_shape_ = _common_shape(shapes)
        require_size(*self.image_shape_[1:])
        # Files are read twice, lest a thousand photographs have to be in memory together.
        mean, deviation = pixel_moments((self._fitted(X.read(row)) for row in rows) if files else X[::stride])
        self.pixel_mean_, self.pixel_deviation_ = mean, max(deviation, 1.0)

    def _stack(self, images: Iterable[np.ndarray]) -> np.ndarray:
        return np.stack([self._fitted(image) for image in images])

    def _fitted(self, image: np.ndarray) -> np.ndarray:
        """A uint8 image, grey or not, as the network takes it: (H, W) or (H, W, 3)."""
        channels, height, width = self.image_shape_
        if image.shape == ((height, width, 3) if channels == 3 else (height, width)):
            return image
        picture = Image.fromarray(image).convert("RGB" if channels == 3 else "L")
        return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))

    def prepare(self, images: np.ndarray | Iterable[np.ndarray]) -> torch.Tensor:
        """(N, C, H, W) float32 from uint8 images, one array or several of any sizes."""
        return self.cropped(images).float().sub_(self.pixel_mean_).div_(self.pixel_deviation_)

    def cropped(self, images: np.ndarray | Iterable[np.ndarray]) -> torch.Tensor:
        """The images at the network's size: (N, C, H, W) uint8."""
        channels, height, width = self.image_shape_
        whole = isinstance(images, np.ndarray) and images.shape[1:] == (height, width, *([3] if channels == 3 else []))
        pixels = torch.from_numpy(np.require(images if whole else self._stack(images), requirements=("W",)))
        pixels = pixels.to(self._device)
        return pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)

    def normalisation(self) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (self.image_shape_[0],)
        return torch.full(shape, self.pixel_mean_), torch.full(shape, self.pixel_deviation_)

    def _forward(self) -> nn.Module:
        return self.network_

    def whole(self) -> nn.Module:
        return self.network_

    def _source(self, X: Any) -> Inputs:
        return self._images(X, self._seen())

    def _images(self, X: Any, seen: Seen | None = None) -> Inputs:
        if not is_images(X):
            raise FitError("the convnet takes uint8 images (N, H, W) or (N, H, W, 3), or image files")
        return ImageSource(X, self.prepare, seen=seen)

    def save(self, folder: Path | str) -> None:
        """Write network.safetensors and network.json."""
        write_network(
            Path(folder),
            self.network_.state_dict(),
            {
                "network": "convnet",
                "image_shape": list(self.image_shape_),
                "pixel_mean": self.pixel_mean_,
                "pixel_deviation": self.pixel_deviation_,
                "classes": labels_to_json(self.classes_),
                "settings": self._settings.to_json(),
                "run": self._run_to_json(),
            },
        )

    @classmethod
    def load(cls, folder: Path | str, device: str = "auto") -> "ConvNetClassifier":
        """The classifier that `save` wrote; UserError where its files are absent or damaged."""
        folder = Path(folder)
        fields = read_network(folder)
        if fields.get("network") != "convnet":
            raise UserError(f"{folder} holds another network than a convnet; load it as what it is")
        self = cls(settings=TrainingSettings.from_json(fields["settings"]), device=device)
        self._resolve()
        self.classes_ = labels_from_json(fields["classes"])
        self.image_shape_ = tuple(fields["image_shape"])
        self.pixel_mean_, self.pixel_deviation_ = fields["pixel_mean"], fields["pixel_deviation"]
        network = ConvNet(*self.image_shape_, len(self.classes_))
        network.load_state_dict(read_state_dict(folder / "network.safetensors"))
        self.network_ = network.to(self._device).eval().requires_grad_(False)
        self._run_from_json(fields["run"])
        return self


def require_size(height: int, width: int) -> None:
    """Raise FitError for images that two poolings leave nothing of."""
    if min(height, width) < _SMALLEST:
        raise FitError(
            f"images of {width} x {height} pixels are too small for the two poolings of the convnet; give images of "
            f"{_SMALLEST} x {_SMALLEST} or more, or another --model"
        )


def _common_shape(shapes: Collection[tuple[int, ...]]) -> tuple[int, int, int]:
    """(channels, height, width) for images of these shapes: their own where they have one."""
    channels = 3 if any(len(shape) == 3 for shape in shapes) else 1
    height, width = sizes.pop() if len(sizes := {shape[:2] for shape in shapes}) == 1 else (SIDE, SIDE)
    return channels, height, width


def pixel_moments(images: np.ndarray | Iterable[np.ndarray]) -> tuple[float, float]:
    """Mean and standard deviation of uint8 pixels, from how often each value occurs: a few images at a time, since
    NumPy's own `std` would hold every pixel as float64."""
    parts: Iterable[np.ndarray] = images
    if isinstance(images, np.ndarray):
        parts = np.array_split(images, math.ceil(len(images) / _IMAGES_COUNTED))
    counts = sum((np.bincount(part.ravel(), minlength=256) for part in parts), np.zeros(256, np.int64))
    values = np.arange(256)
    mean = float(counts @ values / counts.sum())
    return mean, float(counts @ (values - mean) ** 2 / counts.sum()) ** 0.5
