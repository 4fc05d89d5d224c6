"""What `help(layerprobe.probe)` and the like show: numpydoc sections for what is there, and examples that run."""

import doctest
import importlib
import inspect
import re

import pytest

import layerprobe
from features.commands.speaking import QUIET

NAMES = [name for name in layerprobe.__all__ if name != "__version__"]
PLACES = {
    "features": "features.datasets.dataset.Dataset",
    "saved": "classify.use.saved.SavedModel",
    "outcome": "classify.experiments.outcome.Outcome",
    "probe": "classify.experiments.probe.answer.ProbeResult",
    "compare": "classify.experiments.compared.ComparisonResult",
    "study": "classify.experiments.studies.outcome.StudyResult",
}


@pytest.fixture(scope="module")
def in_a_home_of_its_own(tmp_path_factory):
    """A home and a working folder for all examples: what one extracted the next reads."""
    pytest.importorskip("efficientnet_lite_pytorch")
    folder = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("features.commands.speaking._loudness", QUIET)  # examples show what comes back
        patched.setenv("LAYERPROBE_HOME", str(folder / "home"))
        patched.chdir(folder)
        yield


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_run(in_a_home_of_its_own, name):
    documented = getattr(layerprobe, name)
    tests = doctest.DocTestFinder(recurse=False).find(documented, name, globs={})
    assert sum(len(test.examples) for test in tests) >= 3
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    said: list[str] = []
    for test in tests:
        runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)


def _sections(text: str) -> dict[str, str]:
    """The sections of a numpydoc docstring by their titles."""
    parts = re.split(r"^([A-Z]\w+)\n-{3,}\n", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_described_and_nothing_else(name):
    documented = getattr(layerprobe, name)
    sections = _sections(inspect.getdoc(documented))
    wanted = {"Parameters", "Examples"} | ({"Returns", "Raises"} if inspect.isfunction(documented) else {"Attributes"})
    assert wanted <= set(sections)
    heads = re.findall(r"^(\S.*?)(?: : .*)?$", sections["Parameters"], re.M)
    described = {word.strip(" *") for head in heads for word in head.split(",")}
    taken = set(inspect.signature(documented).parameters)
    assert described == taken


def test_the_module_lists_each_name():
    listed = set(re.findall(r"^(\w+)  +\w", layerprobe.__doc__, re.M))
    assert listed == set(NAMES)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_every_attribute_that_is_described_is_one(place):
    module, _, name = place.rpartition(".")
    documented = getattr(importlib.import_module(module), name)
    described = re.findall(r"^(\w+) : ", _sections(inspect.getdoc(documented))["Attributes"], re.M)
    there = set(dir(documented)) | set(inspect.get_annotations(documented)) | {"tables"}
    there |= {"name", "spec", "classes", "splits"} if name == "Dataset" else set()  # of which each kind has its own
    assert described and set(described) <= there
