"""The first minute with the command line: what `--help` begins with, and what a slip of the keyboard gets."""

import subprocess
import sys

import pytest

import classify.__main__ as classify
import extract.__main__ as extract
from classify.commands.verbs import VERBS
from classify.experiments.studies import STUDIES
from features.commands import cache
from features.commands.help import Listing
from features.commands.options import Parser, run_command

MAINS = {"classify": classify.main, "extract": extract.main, "features": cache.main}
COMMANDS = [
    *(f"classify {verb}" for verb in ("", *VERBS)),
    *(f"classify study {study}" for study in STUDIES),
    "extract",
    *(f"features {verb}" for verb in ("", *cache.VERBS["verbs to change"])),
]


def _said(capsys, command: str, *more: str) -> str:
    package, *words = command.split()
    with pytest.raises(SystemExit) as stopped:
        MAINS[package]([*words, *more])
    assert not stopped.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [80, 160])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_begins_with_what_the_command_does_and_fits(capsys, monkeypatch, command, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = _said(capsys, command, "--help")
    first = text.split("\n\n")[0].replace("\n", " ")
    assert first[0].isupper() and first.endswith(".") and "python -m" not in first
    assert f"usage: python -m {command.strip()}" in text
    assert max(map(len, text.splitlines())) <= columns
    assert len(text.splitlines()) < 110


@pytest.mark.parametrize("columns", range(60, 201, 10))
@pytest.mark.parametrize("command", ["classify", "classify compare", "classify study robustness", "extract"])
def test_no_name_or_value_is_broken_at_a_hyphen(capsys, monkeypatch, command, columns):
    def words(width: int) -> set[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        return set(_said(capsys, command, "--help-all").split())

    assert words(columns) == words(100_000)


@pytest.mark.parametrize("command", ["classify", "classify probe", "classify compare", "extract"])
def test_rare_options_are_in_help_all_alone(capsys, command):
    short, whole = _said(capsys, command, "--help"), _said(capsys, command, "--help-all")
    for option in ("--crop-mode", "--dtype", "--mean", "--save-config"):
        assert option not in short and f"  {option}" in whole
    for option in ("--dataset", "--backbone", "--limit"):
        assert f"  {option}" in short and f"  {option}" in whole
    assert f"`python -m {command} --help-all`" in short and "more options:" not in whole


def test_verbs_stand_above_the_options_in_groups(capsys):
    text = _said(capsys, "classify", "--help")
    assert all(f"  {verb} " in text.split("usage:")[0] for verb in VERBS)
    assert text.index("verbs to find out:") < text.index("verbs to train:") < text.index("which heads:")


def test_the_layers_of_a_probe_are_all_by_default(capsys, parsed):
    text = " ".join(_said(capsys, "classify probe", "--help").split())
    assert "(every stage); default all" in text and "default avgpool" not in text
    assert parsed(classify.main, "probe").layer == ["all"]
    assert "default avgpool" in " ".join(_said(capsys, "extract", "--help").split())


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        ("classify comprae --quick", "has no verb 'comprae'; did you mean compare"),
        ("classify --quick probe", "the verb comes first: `python -m classify probe ...`"),
        ("classify probe --modle svm", "has no option --modle; did you mean --model"),
        ("classify probe --depth blok", "--depth cannot be 'blok'; did you mean block?"),
        ("classify compare --model svn", "there is no model called 'svn'; did you mean svm"),
        ("classify study data-siz", "did you mean data-size?"),
        ("classify run photos", "python -m classify run takes no 'photos'"),
        ("classify report --outptu=x.html", "did you mean --output?"),
        ("extract --bakcbone=resnet18", "did you mean --backbone?"),
        ("extract probe", "python -m extract takes no 'probe'"),
        ("features lsit", "python -m features has no verb 'lsit'; did you mean list?"),
        ("features -q verfy", "did you mean verify?"),
        ("features remove --laier layer3", "python -m features remove has no option --laier; did you mean --layer?"),
    ],
)
def test_a_slip_of_the_keyboard_gets_the_nearest_name(capsys, typed, complaint):
    package, *words = typed.split()
    assert run_command(MAINS[package], words) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1


def test_a_former_spelling_still_means_the_option_and_is_not_spoken_of(capsys, parsed, tmp_path):
    for verb in ("run", "probe", "compare"):
        assert parsed(classify.main, verb, "--models", "ridge", "svm").model == ["ridge", "svm"]
        assert parsed(classify.main, verb, "--models=ridge").model == ["ridge"]
        assert "--models" not in _said(capsys, f"classify {verb}", "--help-all")
    assert parsed(classify.main, "study", "robustness", "--models", "svm@layer3").model == ["svm@layer3"]
    file = tmp_path / "compare.toml"
    file.write_text('command = "classify compare"\nmodels = ["ridge", "convnet"]\n')
    assert parsed(classify.main, "compare", "--config", file).model == ["ridge", "convnet"]
    typed_wins = parsed(classify.main, "compare", "--config", file, "--models", "svm")
    assert typed_wins.model == ["svm"] and "--models" not in typed_wins.command_line


def test_help_needs_neither_torch_nor_numpy():
    script = (
        "import sys\n"
        "import classify.__main__ as classify, extract.__main__ as extract, features.__main__ as features\n"
        f"for command in {COMMANDS!r}:\n"
        "    package, *words = command.split()\n"
        "    try: sys.modules[f'{package}.__main__'].main([*words, '--help'])\n"
        "    except SystemExit as stopped: assert not stopped.code\n"
        "heavy = {'torch', 'numpy', 'sklearn', 'h5py', 'PIL', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_listing_folds_between_words():
    text = Listing("models", (("svm", "a support vector machine"), ("a-name-of-twenty-six-signs", "x"))).text(30)
    assert text.splitlines()[0] == "models:" and "  svm" in text and "a-name-of-twenty-six-signs" in text
    words = set(text.replace("\n", " ").split())
    assert {"support", "vector", "machine", "a-name-of-twenty-six-signs"} <= words


def test_a_rare_option_is_parsed_as_any_other():
    parser = Parser("extract")
    parser.add_argument("--deep", type=int, default=3, rare=True)
    assert parser.parse_args([]).deep == 3 and parser.parse_args(["--deep", "4"]).given == ("--deep",)
