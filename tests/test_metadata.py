"""What is said of the package in several files is the same in all of them."""

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def _metadata() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_one_version_stands_in_all_files():
    version = _metadata()["metadata"]["version"]
    assert re.search(rf"^version: {re.escape(version)}$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    dated = re.search(rf"## \[{re.escape(version)}\] - (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert dated and f"date-released: {dated[1]}" in (ROOT / "CITATION.cff").read_text()


def test_every_entry_of_the_changelog_says_what_happens_to_caches_and_results():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").partition("## [Unreleased]")[2].partition("\n## [")[0]
    entries = re.findall(r"^- (.*?)(?=^- |^#|\Z)", text, re.M | re.S)
    assert len(entries) > 10
    for entry in entries:
        last = re.search(r"\(([^()]*)\)\s*$", entry.strip())
        assert last and re.search(r"caches|results|as they were", last[1]), entry


def test_the_packages_are_those_of_the_import_rules():
    from tests.test_imports import PACKAGES

    included = _metadata()["options.packages.find"]["include"].split()
    assert {name.removesuffix(".*") for name in included} == set(PACKAGES)
    assert "py.typed" in _metadata()["options.package_data"]["layerprobe"]
    assert (ROOT / "layerprobe" / "py.typed").exists()


def test_the_lowest_versions_that_tests_are_run_with_are_those_that_are_stated():
    metadata = _metadata()
    groups = [metadata["options"]["install_requires"], *metadata["options.extras_require"].values()]
    lines = {line.partition(";")[0].strip() for group in groups for line in group.splitlines() if line.strip()}
    pinned = (ROOT / ".ci" / "lowest-versions.txt").read_text(encoding="utf-8").splitlines()
    assert lines == {line.replace("==", ">=") for line in pinned if not line.startswith("#")}
