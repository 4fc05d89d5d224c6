"""Fixtures that every room's tests share: a home of their own, and the real data where it is to be had."""

import os
from pathlib import Path

import pytest


def _real_home() -> Path | None:
    chosen = os.environ.get("LAYERPROBE_HOME")
    return Path(chosen).absolute() if chosen else None


REAL_HOME = _real_home()


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A temporary $LAYERPROBE_HOME in which data sets and weights are links to the real ones."""
    folder = tmp_path / "home"
    for kind in ("datasets", "weights"):
        (folder / kind).mkdir(parents=True)
        if REAL_HOME and (REAL_HOME / kind).is_dir():
            for entry in (REAL_HOME / kind).iterdir():
                (folder / kind / entry.name).symlink_to(entry)
    monkeypatch.setenv("LAYERPROBE_HOME", str(folder))
    return folder


@pytest.fixture
def real_mnist(home) -> Path:
    """The folder with all of MNIST, inside the temporary home."""
    folder = home / "datasets" / "MNIST"
    if not folder.exists():
        pytest.skip("needs MNIST under $LAYERPROBE_HOME/datasets/MNIST")
    return folder


@pytest.fixture
def real_usps(home) -> Path:
    """The folder with the USPS digits, inside the temporary home."""
    folder = home / "datasets" / "usps"
    if not folder.exists():
        pytest.skip("needs USPS under $LAYERPROBE_HOME/datasets/usps")
    return folder


@pytest.fixture
def real_imagenet(home) -> Path:
    """A folder of real ImageNet images, one sub-folder per WordNet id."""
    folder = home / "datasets" / "imagenet"
    if not folder.exists():
        pytest.skip("needs ImageNet images under $LAYERPROBE_HOME/datasets/imagenet")
    return folder


@pytest.fixture
def standin(home) -> Path:
    """An ImageNet-trained ResNet18 as a plain state dict."""
    path = home / "weights" / "resnet18-imagenet-standin.pth"
    if not path.exists():
        pytest.skip("needs $LAYERPROBE_HOME/weights/resnet18-imagenet-standin.pth")
    return path
