"""Fixtures that every room's tests share: a home of their own, and the real data where it is to be had."""

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def _real_home() -> Path | None:
    chosen = os.environ.get("LAYERPROBE_HOME")
    return Path(chosen).absolute() if chosen else None


REAL_HOME = _real_home()


def _linked_home(folder: Path) -> Path:
    """A $LAYERPROBE_HOME in which data sets and weights are links to the real ones, and nothing else is known yet."""
    for kind in ("datasets", "weights"):
        (folder / kind).mkdir(parents=True)
        if REAL_HOME and (REAL_HOME / kind).is_dir():
            for entry in (REAL_HOME / kind).iterdir():
                (folder / kind / entry.name).symlink_to(entry)
    return folder


def pytest_configure(config: pytest.Config) -> None:
    """Beside other processes of tests each takes its share of the cores, and so does every command that it starts.

    Each has a home of its own: what an earlier run noted is unknown to it, and the user's own home learns nothing.
    """
    # xdist gives its workers the columns of a terminal, which commands would keep to in a pipe.
    os.environ.pop("COLUMNS", None)
    if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
        share = str(max(1, (os.cpu_count() or 1) // int(workers)))
        # Of threads, and of processes that joblib would start, each of which imports everything again.
        os.environ |= {"OMP_NUM_THREADS": share, "LOKY_MAX_CPU_COUNT": share}
    folder = Path(tempfile.mkdtemp(prefix="home-of-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ["LAYERPROBE_HOME"] = str(_linked_home(folder / "home"))


def pytest_collection_finish() -> None:
    """What is imported by now stays: no look for garbage goes through it again, as every measured fit's would."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _known_to_no_other_test() -> Iterator[None]:
    """Paths come again within a run, since the folder of a test that passed is removed: what one test noted of the
    files there, the next does not know."""
    noted = Path(os.environ["LAYERPROBE_HOME"]) / "notes" / "known"
    yield
    if noted.parents[2].name.startswith("home-of-tests-"):
        shutil.rmtree(noted, ignore_errors=True)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A temporary $LAYERPROBE_HOME in which data sets and weights are links to the real ones."""
    folder = _linked_home(tmp_path / "home")
    monkeypatch.setenv("LAYERPROBE_HOME", str(folder))
    return folder


def _there(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"needs $LAYERPROBE_HOME/{path.relative_to(path.parents[1])}")
    return path


@pytest.fixture
def real_mnist(home) -> Path:
    """The folder with all of MNIST, inside the temporary home."""
    return _there(home / "datasets" / "MNIST")


@pytest.fixture
def real_usps(home) -> Path:
    """The folder with the USPS digits, inside the temporary home."""
    return _there(home / "datasets" / "usps")


@pytest.fixture
def real_imagenet(home) -> Path:
    """A folder of real ImageNet images, one sub-folder per WordNet id."""
    return _there(home / "datasets" / "imagenet")


@pytest.fixture
def real_folders(home) -> Path:
    """A folder of real image folders as people bring them: brain-mri and others."""
    return _there(home / "datasets" / "folders")


@pytest.fixture
def standin(home) -> Path:
    """An ImageNet-trained ResNet18 as a plain state dict."""
    return _there(home / "weights" / "resnet18-imagenet-standin.pth")


@pytest.fixture
def parsed(monkeypatch):
    """A function that gives what a command's own parser makes of arguments, and goes no further."""
    from features.commands.options import Parser

    class Parsed(Exception):
        pass

    whole = Parser.parse_args

    def stop(self, *arguments):
        raise Parsed(whole(self, *arguments))

    def parse(main, *arguments):
        with monkeypatch.context() as patched:
            patched.setattr(Parser, "parse_args", stop)
            with pytest.raises(Parsed) as caught:
                main(list(map(str, arguments)))
        return caught.value.args[0]

    return parse
