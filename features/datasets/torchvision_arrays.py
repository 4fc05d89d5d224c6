"""svhn, cifar10 and cifar100: sets that torchvision reads into arrays, downloaded by it where they are missing.

The files stand where torchvision puts them: SVHN's in `svhn/` below `datasets_folder()`, CIFAR's in folders of their
own there; NAME:PATH names another root. Every file is held against the MD5 that torchvision knows before it is read
(CIFAR's are pickles), once per content.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.datasets.dataset import Dataset, Split
from features.datasets.download import Origin, check, fetch
from features.digests import sha256_file, sha256_json
from features.errors import UserError
from features.home import datasets_folder

_NUMERALS = tuple("0123456789")
_CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""


@dataclass(frozen=True)
class Member:
    """One set: how torchvision knows it, the folder of its own below the data sets' folder, its classes and files."""

    source: Origin
    own_folder: str
    classes: tuple[str, ...]
    files: tuple[str, ...]


FAMILY = {
    "svhn": Member(
        Origin("SVHN", calls={"train": {"split": "train"}, "test": {"split": "test"}}),
        "svhn",
        _NUMERALS,
        ("train_32x32.mat", "test_32x32.mat"),
    ),
    "cifar10": Member(
        Origin("CIFAR10"),
        ".",
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        (
            *(f"cifar-10-batches-py/data_batch_{number}" for number in range(1, 6)),
            "cifar-10-batches-py/test_batch",
            "cifar-10-batches-py/batches.meta",
        ),
    ),
    "cifar100": Member(
        Origin("CIFAR100"),
        ".",
        tuple(_CIFAR100.split()),
        ("cifar-100-python/train", "cifar-100-python/test", "cifar-100-python/meta"),
    ),
}


def open_named(name: str, path: Path | None) -> "TorchvisionArrays":
    """The data set below `path`, by default below the data sets' folder."""
    root = path or datasets_folder() / FAMILY[name].own_folder
    return TorchvisionArrays(name, f"{name}:{path}" if path else name, root)


@dataclass(frozen=True)
class TorchvisionArrays(Dataset):
    """Arrays read by torchvision: uint8 (N, 32, 32, 3)."""

    name: str
    spec: str
    root: Path
    splits = ("train", "test")

    @property
    def classes(self) -> tuple[str, ...]:
        return FAMILY[self.name].classes

    def fingerprint(self) -> str:
        self._make_sure_of_files()
        digests = {name: sha256_file(self.root / name) for name in FAMILY[self.name].files}
        return sha256_json({"torchvision": digests, "classes": self.classes})

    def files(self) -> tuple[Path, ...]:
        return tuple(self.root / name for name in FAMILY[self.name].files)

    def load(self, split: str) -> Split:
        self.require(split)
        self._make_sure_of_files()
        source = FAMILY[self.name].source
        loaded = source.torchvision_class()(root=self.root, download=False, **source.calls[split])
        images = np.asarray(loaded.data)
        if images.shape[-1] != 3:
            images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        labels = loaded.labels if hasattr(loaded, "labels") else loaded.targets
        labels = np.array(labels, dtype=np.int64)
        if len(labels) != len(images):
            raise UserError(f"{self.root} has {len(labels)} labels for {len(images)} images; delete it and run again")
        return Split(images, labels)

    def _make_sure_of_files(self) -> None:
        member = FAMILY[self.name]
        missing = [self.root / name for name in member.files if not (self.root / name).exists()]
        if missing:
            fetch(self.name, member.source, self.root, missing)
        for name in member.files:
            check(member.source, self.root, name)
