"""README and the pages of docs/ say only what is so: their options, data sets, commands, calls and links exist."""

import ast
import configparser
import doctest
import importlib
import importlib.util
import inspect
import re

import pytest

from tests.readme_commands import DOCS, PAGES, ROOT, page_name, readme_commands

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
NAMED = pytest.mark.parametrize("path", PAGES, ids=page_name)


def _reference():
    """What writes the reference of the command line."""
    spec = importlib.util.spec_from_file_location("command_line", DOCS / "extensions" / "command_line.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REFERENCE = _reference()


@pytest.fixture(scope="module")
def reference() -> str:
    return REFERENCE.markdown()


def test_the_readme_is_short_and_leads_nowhere_that_pypi_has_not():
    assert len(TEXT.splitlines()) <= 150
    assert not re.search(r"\]\((?!https://)", TEXT) and "<img" not in TEXT
    for path in re.findall(r"`((?:docs/|[A-Z]+\.md)[\w./-]*)`", TEXT):
        assert path.startswith("docs/_build") or (ROOT / path).exists(), path


def test_its_two_commands_stand_where_ci_looks_for_them():
    for name in ("start", "tests"):
        assert re.search(rf"<!-- run: {name} -->\n```bash\n.+?\n```", TEXT, re.DOTALL), name


def test_its_python_runs_and_says_what_stands_there(home, tmp_path, monkeypatch):
    """On fewer images: figures are another matter."""
    pytest.importorskip("efficientnet_lite_pytorch")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)
    small = block.replace("quick=True", "quick=True, layers=['avgpool', 'fc'], limit=60, limit_test=30, jobs=1")
    small = small.replace("image_size=64", "image_size=32")
    assert small != block
    names: dict = {}
    examples = doctest.DocTestParser().get_examples(small)
    for example in examples[:-1]:
        exec(example.source, names)
    last = examples[-1]
    shown = eval(last.source.removeprefix("print(").rstrip().removesuffix(")"), names)

    def shape(text: str) -> str:
        return re.sub(r"validation: \S+ with \S+ \([\d.]+ %\)", "validation: # with # (# %)", text)

    assert shape(shown.strip()) == shape(last.want.strip()) != last.want.strip()


def test_the_reference_has_every_command_and_every_option_of_its_help(reference, capsys):
    from classify.commands.verbs import VERBS
    from classify.experiments.studies import STUDIES

    commands = ["extract", *VERBS, *(f"study {study}" for study in STUDIES), "features"]
    commands += [f"features {verb}" for verb in ("list", "verify", "remove", "prune", "compact", "accept")]
    assert re.findall(r"^## layerprobe (.+)$", reference, re.M) == sorted(commands, key=_order(reference))
    described = {command.name: dict(_by_name(command)) for command in REFERENCE.commands()}
    for command in commands:
        text = _help(command, capsys)
        options = set(re.findall(r"^  (?:-\w, )?(--[a-z][a-z0-9-]*)", text, re.M))
        assert options and options == set(described[f"layerprobe {command}"]), command
        for option in options:
            assert re.search(rf"^:::\{{option\}} (?:-\w, )?{option}\b", reference, re.M), (command, option)


def _order(reference: str):
    titles = re.findall(r"^## layerprobe (.+)$", reference, re.M)
    return lambda command: titles.index(command)


def _by_name(command):
    for _, option in command.options():
        yield from ((name, option) for name in option.names if name.startswith("--"))


def _help(command: str, capsys) -> str:
    from classify.commands.console import main
    from features.commands.program import started_as

    try:
        with pytest.raises(SystemExit) as stopped:
            main([*command.split(), "--help-all"])
    finally:
        started_as("")
    assert stopped.value.code == 0
    return capsys.readouterr().out


@NAMED
def test_every_option_on_a_page_is_one(path, reference):
    # pip's, pytest's, argcomplete's, sphinx's, and those of the measuring programs under tests and docs.
    others = {"--quiet", "--dist", "--user", "--seconds", "--whole", "--clock", "--check", "--images", "--rounds"}
    others |= {"--gigabytes", "--limit-gigabytes", "--limit-by", "--heads", "--against", "--cells", "--threads"}
    known = set(re.findall(r"--[a-z0-9-]+", reference)) | others
    told = set(re.findall(r"(?<![|:!-])--[a-z][a-z0-9-]+", path.read_text(encoding="utf-8")))
    assert told <= known


def test_the_reference_names_the_data_sets_there_are(reference):
    from features.datasets import dataset_names

    shared = reference.partition("## Options that commands share")[2]
    described = re.search(r"^:::\{option\} --dataset NAME\n(.+?)\n:::", shared, re.M | re.S)[1].replace("\\", "")
    assert [name for name in dataset_names() if name not in described] == []


COMMANDS = [pytest.param(*each, id=" ".join((*each[:2], *each[2]))) for each in sorted(set(readme_commands()))]


@pytest.mark.parametrize(("name", "module", "arguments"), COMMANDS)
def test_every_command_is_one_that_the_parser_takes(parsed, tmp_path, monkeypatch, name, module, arguments):
    monkeypatch.chdir(tmp_path)
    main = importlib.import_module(f"{module}.__main__").main
    if arguments in ((), ("--help",), ("--version",)):
        return
    if "--config" in arguments:
        # Another command of the same page wrote the file.
        file = arguments[arguments.index("--config") + 1]
        (wrote,) = {each for each in readme_commands() if "--save-config" in each[2] and file in each[2]}
        parsed(importlib.import_module(f"{wrote[1]}.__main__").main, *wrote[2])
    parsed(main, *arguments)


def test_the_pages_lead_to_files_that_are_there():
    """And from the index to every page."""
    for path in PAGES:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), (path, link)
    reached, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        for block in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            for entry in re.findall(r"^(?!:)(?:.*<)?([\w./-]+)>?$", block, re.M):
                place = page.parent / entry
                assert any(place.with_name(place.name + ending).exists() for ending in (".md", ".ipynb")), entry
                if (child := place.with_name(place.name + ".md")).exists() and child not in reached:
                    waiting.append(child)
    assert {path for path in PAGES if DOCS in path.parents} <= reached


def _python_of_the_pages():
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            yield "".join(example.source for example in doctest.DocTestParser().get_examples(block)) or block
        yield from re.findall(r"From Python: `([^`]+)`", text)


def test_the_python_of_the_pages_calls_what_there_is_with_what_it_takes():
    called = set()
    for code in _python_of_the_pages():
        tree = ast.parse(code)
        names, packages = {}, {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                names |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
            elif isinstance(node, ast.Import):
                packages |= {alias.asname or alias.name: importlib.import_module(alias.name) for alias in node.names}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            function, name = None, ""
            if isinstance(node.func, ast.Name):
                name, function = node.func.id, names.get(node.func.id)
            elif isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
                name, package = node.func.attr, packages.get(node.func.value.id)
                if package is not None and package.__name__ == "layerprobe":
                    function = getattr(package, name)
            if function is not None:
                given = {keyword.arg: None for keyword in node.keywords}
                inspect.signature(function).bind(*node.args, **given)
                called.add(name)
    assert {"probe", "load_model", "load_features", "FeatureExtractor"} <= called


def test_the_page_on_installing_lists_every_extra():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \|", (DOCS / "install.md").read_text(encoding="utf-8"), re.M)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(parser["options.extras_require"])
