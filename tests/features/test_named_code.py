"""Names that mean code: what they come to, what is known of the code, and from whom they are taken."""

import importlib
import sys
from pathlib import Path

import pytest

from features.errors import UserError
from features.named_code import NamedCode, names_code, origins_of, require_trust, trusting


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A working folder with modules, as {name: source}; they are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)

    def write(**sources: str) -> Path:
        for name, source in sources.items():
            (tmp_path / f"{name}.py").write_text(source)
        importlib.invalidate_caches()
        return tmp_path

    yield write
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_a_callable_of_the_working_folder_is_called_with_its_options(modules):
    modules(named_a="def build(classes, depth=1, name=None):\n    return classes, depth, name\n")
    assert NamedCode.parse("python:named_a:build?depth=3&name=wide+one").call(classes=7) == (7, 3, "wide one")
    assert NamedCode.parse("python:named_a:build?depth=(1,2)&name=None").call(classes=7) == (7, (1, 2), None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("python:", "names no code"),
        ("python:json", "names no code"),
        ("python:json:dumps:loads", "names no code"),
        ("python:../x:y", "names no code"),
        ("python:json:dumps?indent", "NAME=VALUE"),
        ("python:json:dumps?in dent=1", "NAME=VALUE"),
        ("python:named_absent:build", "no module named_absent"),
        ("python:json.absent:build", "no module json.absent"),
        ("python:json:absent", "json has no absent"),
        ("python:named_broken:build", "SyntaxError"),
        ("python:named_needy:build", "named_absent"),
        ("python:named_failing:build?depth=1", r"ZeroDivisionError.*correct it"),
        ("python:named_failing:build?width=1", "TypeError"),
    ],
)
def test_what_cannot_be_had_is_said_in_a_line(modules, name, said):
    modules(
        named_broken="def build(:\n",
        named_needy="import named_absent\n",
        named_failing="def build(depth):\n    return 1 / 0\n",
    )
    with pytest.raises(UserError, match=said) as error:
        NamedCode.parse(name).call()
    assert "\n" not in str(error.value)


def test_what_is_installed_is_known_by_its_version_and_ones_own_by_its_files(modules):
    import sklearn

    folder = modules(named_b="import json\nfrom named_c import DEPTH\nimport sklearn.svm\n", named_c="DEPTH = 1\n")
    importlib.import_module("sklearn.svm")
    NamedCode.parse("python:named_b:DEPTH").load()
    first = origins_of(["named_b"])
    assert first[-1] == f"scikit-learn {sklearn.__version__}"
    assert [origin.split()[0] for origin in first] == ["named_b", "named_c", "scikit-learn"]
    assert origins_of(["json", "features.errors"]) == ()
    (folder / "named_c.py").write_text("DEPTH = 22\n")
    with pytest.raises(UserError, match="changed since it was imported"):
        origins_of(["named_b"])
    importlib.reload(sys.modules["named_c"])
    second = origins_of(["named_b"])
    assert second[0] == first[0]
    assert second[1] != first[1]


def test_what_may_come_from_anybody_names_no_code_without_trust(modules):
    folder = modules(named_d="from pathlib import Path\nPath('ran').touch()\ndef build():\n    return 1\n")
    name = "python:named_d:build"
    assert names_code(name)
    assert not names_code("resnet18")
    assert not names_code(None)
    for text in (name, f" {name}", f"{name}?x=1"):
        with pytest.raises(UserError, match=r"record\.json names code.*--trust"):
            require_trust(text, "record.json")
    assert not (folder / "ran").exists()
    with trusting(True), trusting(False):
        require_trust(name, "record.json")
    require_trust("resnet18", "record.json")
    NamedCode.parse(name).load()
    require_trust(name, "record.json")  # its code has run here
    with pytest.raises(UserError, match="--trust"):
        require_trust(f"{name}?x=1", "record.json")
