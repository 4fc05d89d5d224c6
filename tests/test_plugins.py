"""A package that brings a data set, a backbone, heads and scores, installed beside ours by pip and used by name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("setuptools", reason="pip builds the tiny package with it, offline")

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "lp-tiny"
version = "{version}"
[tool.setuptools]
py-modules = ["lp_tiny", "lp_torn"]
[project.entry-points."layerprobe.heads"]
nearest = "lp_tiny:Nearest"
searched = "lp_tiny:SEARCHED"
failing = "lp_tiny:Failing"
torn = "lp_torn:Head"
missing = "lp_tiny:not_there"
number = "lp_tiny:NUMBER"
svm = "lp_torn:Head"
[project.entry-points."layerprobe.datasets"]
stripes = "lp_tiny:open_stripes"
[project.entry-points."layerprobe.backbones"]
tiny_net = "lp_tiny:tiny_net"
[project.entry-points."layerprobe.scores"]
spread = "lp_tiny:spread"
"""

MODULE = """
from dataclasses import dataclass
import typing
import numpy as np
from sklearn.base import BaseEstimator
from features.datasets.dataset import Dataset, Split

NUMBER = 3

class Nearest(BaseEstimator):
    def __init__(self, power=2.0):
        self.power = power
    def fit(self, X, y):
        X = np.asarray(X)
        self.classes_, self.n_features_in_ = np.unique(y), X.shape[1]
        self.means_ = np.stack([X[y == label].mean(0) for label in self.classes_])
        return self
    def predict(self, X):
        apart = (np.abs(np.asarray(X)[:, None] - self.means_) ** self.power).sum(2)
        return self.classes_[apart.argmin(1)]

class Failing(Nearest):
    def fit(self, X, y):
        raise ZeroDivisionError("a plug-in's own\\nmistake")

def __getattr__(name):
    if name == "SEARCHED":
        from classify.heads import Head
        return Head("any", "searched", "lp_tiny:Nearest", ({"power": 2.0}, {"power": 1.0}))
    raise AttributeError(name)

@dataclass(frozen=True)
class Stripes(Dataset):
    name: typing.ClassVar[str] = "stripes"
    spec: typing.ClassVar[str] = "stripes"
    classes: typing.ClassVar[tuple] = ("across", "down")
    splits: typing.ClassVar[tuple] = ("train", "test")
    def fingerprint(self):
        return "5" * 64
    def load(self, split):
        self.require(split)
        labels = np.arange(60 if split == "train" else 20) % 2
        random = np.random.default_rng(len(labels))
        images = random.integers(0, 60, (len(labels), 16, 16)).astype(np.uint8)
        for image, label in zip(images, labels):
            (image if label else image.T)[:, ::4] += 150
        return Split(images, labels.astype(np.int64))

def open_stripes(name, path):
    return Stripes()

def tiny_net(num_classes=1000, **options):
    from torchvision.models import squeezenet1_1
    return squeezenet1_1(num_classes=num_classes, **options)

def spread(features, labels):
    return float(np.var(features))
"""
SMALL = ["--weights", "random", "--image-size", "32", "--precision", "float32", "--jobs", "1"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder into which pip has installed the tiny package."""
    source, target = tmp_path_factory.mktemp("lp-tiny"), tmp_path_factory.mktemp("site")
    (source / "pyproject.toml").write_text(PYPROJECT.format(version="0.3"))
    (source / "lp_tiny.py").write_text(MODULE)
    (source / "lp_torn.py").write_text("import a_module_that_nobody_has\n")
    offline = ["--no-index", "--no-build-isolation", "--no-deps", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *offline, "--target", str(target), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return target


@pytest.fixture
def run(installed, home, tmp_path):
    """Run a command with the package installed."""
    root = str(Path(__file__).parent.parent)

    def command(module: str, *arguments: str, python: str = "") -> subprocess.CompletedProcess:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, str(installed)]), "COLUMNS": "120"}
        words = ["-c", python] if python else ["-m", module, *arguments]
        return subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
        )

    return command


def test_help_lists_them_and_imports_nothing_of_them(run):
    script = (
        "import sys\nfrom classify.__main__ import main\n"
        "try: main(['probe', '--help'])\nexcept SystemExit: pass\n"
        "assert not {'lp_tiny', 'lp_torn', 'torch', 'numpy', 'importlib.metadata'} & set(sys.modules)"
    )
    done = run("", python=script)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split()).replace("lp- ", "lp-")  # lines break at hyphens
    assert "nearest from the plug-in lp-tiny 0.3" in text
    assert "tiny_net (from the plug-in lp-tiny 0.3)" in text and "stripes" in text
    assert "svm support vector machine" in text  # a name of ours means ours


@pytest.mark.parametrize(
    ("head", "complaint"),
    [
        ("torn", "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"),
        ("missing", "AttributeError"),
        ("number", "is a int, and no classify.heads.Head"),
        ("nearst", "did you mean nearest"),
    ],
)
def test_a_broken_one_is_one_line_that_names_its_package(run, head, complaint):
    done = run("classify", "probe", "--dataset", "stripes", "--model", head, *SMALL)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert complaint in done.stderr
    assert head == "nearst" or f"the plug-in {head} of lp-tiny 0.3" in done.stderr


def test_a_probe_with_a_data_set_a_backbone_heads_and_a_score_of_theirs(run, tmp_path):
    asked = ["--dataset", "stripes", "--backbone", "tiny_net", "--layer", "avgpool", "features.7", *SMALL]
    models = ["--model", "nearest", "searched", "ridge", "--no-controls", "--no-widths", "--csv", "rows.csv"]
    done = run("classify", "probe", *asked, *models)
    assert done.returncode == 0, done.stderr
    assert "spread" in done.stdout and "nearest" in done.stdout
    paths = list((tmp_path / "results").glob("stripes-*.json"))
    records = [json.loads(path.read_text())["result"] for path in paths]
    stems = [{**record["config"], "stem": path.stem} for path, record in zip(paths, records, strict=True)]
    assert {record["config"]["head"] for record in records} == {"nearest", "searched", "ridge"}
    assert all(record["config"]["plugins"] == ["lp-tiny 0.3"] for record in records)
    assert all(record["config"]["architecture"] == "lp-tiny 0.3" for record in records)
    assert {record["chosen"].get("power") for record in records if record["config"]["head"] == "searched"} <= {1.0, 2.0}
    (nearest,) = {record["stem"] for record in stems if record["layer"] == "avgpool" and record["head"] == "nearest"}
    image = tmp_path / "new.png"
    Image.fromarray(np.tile(np.array([[210, 20, 20, 20]], dtype=np.uint8), (16, 4))).save(image)
    told = run("classify", "predict", str(image), "--from", f"results/{nearest}.json")
    assert told.returncode == 0 and ("across" in told.stdout or "down" in told.stdout), told.stderr
    failed = run("classify", *asked, "--model", "failing")
    assert failed.returncode == 2 and "Traceback" not in failed.stderr
    assert "the plug-in failing of lp-tiny 0.3 failed (ZeroDivisionError: a plug-in's own mistake)" in failed.stderr


def test_without_plugins_nothing_is_in_a_row_of_ours():
    from classify.measure.record import RowConfig
    from features.plugins import plugins

    assert RowConfig.plugins is None
    assert not [
        name for kind in ("heads", "datasets", "backbones", "scores") for name in plugins(kind) if name == "nearest"
    ]
