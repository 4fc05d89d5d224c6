"""The README says only what is so: its options exist, and its data sets and models are those there are."""

import ast
import importlib
import inspect
import re

import pytest

from tests.readme_commands import READMES, readme_commands

README = READMES[0]


def _help(module: str, capsys, *verb: str) -> str:
    import importlib

    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(f"{module}.__main__").main([*verb, "--help-all"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_every_option_in_the_readme_is_one(capsys):
    from classify.__main__ import VERBS
    from classify.experiments.studies import STUDIES

    helps = [_help(module, capsys) for module in ("extract", "features", "classify")]
    helps += [_help("classify", capsys, verb) for verb in VERBS]
    helps += [_help("classify", capsys, "study", study) for study in STUDIES]
    helps += [_help("features", capsys, verb) for verb in ("verify", "remove", "prune")]
    # pip's, pytest's, argcomplete's, that of `tests.fuzz`, and those of `tests.benchmarks` and `tests.scale`.
    others = {"--quiet", "--dist", "--user", "--seconds", "--whole", "--clock"}
    others |= {"--gigabytes", "--limit-gigabytes", "--limit-by"}
    known = set(re.findall(r"--[a-z0-9-]+", "".join(helps))) | others
    for path in READMES:
        told = set(re.findall(r"(?<![|:-])--[a-z][a-z0-9-]+", path.read_text(encoding="utf-8")))
        assert told, "the page names options"
        assert told <= known


def test_every_option_of_extract_is_in_the_readme_or_is_said_to_be_in_help(capsys):
    text = README.read_text()
    shared = ("--dataset", "--backbone", "--weights", "--layer", "--pool", "--image-size", "--precision", "--limit")
    for option in (*shared, "--limit-test", "--seed", "--device", "--jobs", "--dry-run", "--compile"):
        assert option in text


def test_the_readme_names_the_data_sets_there_are():
    from features.datasets import dataset_names

    row = next(line for line in README.read_text().splitlines() if line.startswith("| `--dataset`"))
    told = set(re.findall(r"`([^`]+)`", row.split("|")[2]))
    assert told == set(dataset_names())


def test_its_two_commands_stand_where_ci_looks_for_them():
    text = README.read_text()
    for name in ("start", "tests"):
        assert re.search(rf"<!-- run: {name} -->\n```bash\n.+?\n```", text, re.DOTALL), name


COMMANDS = [pytest.param(*each, id=" ".join((*each[:2], *each[2]))) for each in sorted(set(readme_commands()))]


@pytest.mark.parametrize(("name", "module", "arguments"), COMMANDS)
def test_every_command_is_one_that_the_parser_takes(parsed, tmp_path, monkeypatch, name, module, arguments):
    import importlib

    monkeypatch.chdir(tmp_path)
    if "--config" in arguments:
        # Another command of the same page wrote the file.
        file = arguments[arguments.index("--config") + 1]
        (wrote,) = {each for each in readme_commands() if "--save-config" in each[2] and file in each[2]}
        parsed(importlib.import_module(f"{wrote[1]}.__main__").main, *wrote[2])
    parsed(importlib.import_module(f"{module}.__main__").main, *arguments)


def test_every_page_has_commands():
    assert {name for name, _, _ in readme_commands()} == {path.name for path in READMES}


def test_the_pages_lead_to_files_that_are_there():
    for path in READMES:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), link


def _python_of_the_pages():
    for path in READMES:
        text = path.read_text(encoding="utf-8")
        yield from re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        yield from re.findall(r"From Python: `([^`]+)`", text)


def test_the_python_of_the_pages_calls_what_there_is_with_what_it_takes():
    called = set()
    for code in _python_of_the_pages():
        tree = ast.parse(code)
        names = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                names |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                given = {keyword.arg: None for keyword in node.keywords}
                inspect.signature(names[node.func.id]).bind(*node.args, **given)
                called.add(node.func.id)
    assert {"probe", "load_model", "load_features", "FeatureExtractor"} <= called
