"""What every command does alike: versions, loudness, and configurations that are saved and replayed."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import classify.__main__ as classify
import extract.__main__ as extract
from classify.measure.results import load_results
from features.commands import cache
from features.commands.options import run_command
from features.errors import UserError
from features.home import features_folder

SMALL = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--limit", "60", "--limit-test", "30"]
MAINS = {"extract": extract.main, "features": cache.main, "classify": classify.main}
CONFIGURABLE = {"extract": extract.main} | {
    f"classify {verb}": importlib.import_module(f"classify.commands.{verb}").main for verb in classify.VERBS
}

# What these commands take without an option's name, and a configuration does not hold.
NAMED = {"classify study": ["data-size"], "classify predict": ["x.png"], "classify repeat": ["x.json"]}


@pytest.fixture(autouse=True)
def working_folder(home, tmp_path, monkeypatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def _complaint(capsys, main, *arguments) -> str:
    assert run_command(main, list(map(str, arguments))) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ") and "\n" not in told
    return told


@pytest.mark.parametrize("name", MAINS)
def test_the_version_is_told_without_importing_torch(name):
    module = {"features": "features.commands.cache"}.get(name, f"{name}.__main__")
    script = (
        f"import sys; from {module} import main\n"
        "try: main(['--version'])\n"
        "except SystemExit as stopped: assert not stopped.code\n"
        "assert not {'torch', 'sklearn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    from importlib.metadata import version

    python = ".".join(map(str, sys.version_info[:3]))
    assert done.stdout == f"layerprobe {version('layerprobe')}, torch {version('torch')}, Python {python}\n"


def test_a_package_that_is_not_installed_has_no_version(monkeypatch, capsys):
    from importlib import metadata

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(SystemExit):
        extract.main(["--version"])
    assert "layerprobe (not installed: used from a folder), torch (not" in capsys.readouterr().out


def test_quiet_leaves_the_answer_and_verbose_adds_what_was_decided(capsys):
    assert run_command(extract.main, [*SMALL, "--quiet"]) == 0
    # The output is no terminal: neither here nor below does a bar of progress stand in it.
    assert capsys.readouterr() == ("", "")
    assert run_command(extract.main, SMALL) == 0
    said = capsys.readouterr()
    assert said.out.count("in the cache: ") == 2 and not said.err
    assert run_command(extract.main, [*SMALL, "-v"]) == 0
    said = capsys.readouterr()
    assert said.out.count("in the cache: ") == 2
    assert "network: resnet18, random (seed 0) (SHA-256 " in said.err and "train avgpool (avg): key " in said.err


def test_loudness_in_classify(capsys):
    arguments = [*SMALL, "--layer", "layer1", "--model", "ridge", "lda"]
    assert run_command(classify.main, [*arguments, "-q"]) == 0
    quiet = capsys.readouterr()
    assert "macro F1" in quiet.out and not quiet.err
    for told in ("to extract", "saved in", "layer1 avg ridge: "):
        assert told not in quiet.out
    assert run_command(classify.main, [*arguments, "-v", "--again"]) == 0
    loud = capsys.readouterr()
    assert "tried alpha=" in loud.err and "network: resnet18" in loud.err
    assert "saved in results" in loud.out and "layer1 avg ridge: " in loud.out
    assert run_command(classify.main, arguments) == 0
    normal = capsys.readouterr()
    assert "saved in results" in normal.out and not normal.err
    assert "--quiet" in _complaint(capsys, classify.main, *arguments, "-q", "-v")


def test_quiet_and_verbose_before_and_behind_a_verb(capsys):
    assert run_command(extract.main, [*SMALL, "-q"]) == 0
    for arguments in (["-q", "verify"], ["verify", "-q"]):
        assert run_command(cache.main, arguments) == 0
        assert capsys.readouterr().out == ""
    assert run_command(cache.main, ["verify"]) == 0
    assert "2 of 2 files are sound" in capsys.readouterr().out
    assert run_command(cache.main, ["-q"]) == 0
    names = capsys.readouterr().out.split()
    assert sorted(names) == sorted(path.name for path in features_folder().glob("*.h5"))
    assert run_command(cache.main, ["-v"]) == 0
    assert all(str(features_folder() / name) in capsys.readouterr().out.replace("\n", "") for name in names[:1])
    assert run_command(cache.main, ["remove", "--all", "-q"]) == 0
    assert capsys.readouterr().out == "" and not list(features_folder().glob("*.h5"))


@pytest.mark.parametrize("name", CONFIGURABLE)
def test_every_command_replays_what_it_saved(parsed, name, capsys):
    main = CONFIGURABLE[name]
    named = NAMED.get(name, [])
    first = parsed(main, *named, "--save-config", "saved.toml")
    again = parsed(main, *named, "--config", "saved.toml")
    differing = {key for key, value in vars(first).items() if vars(again)[key] != value}
    assert differing <= {"save_config", "command_line"}
    assert "--config" not in again.command_line
    assert "saved.toml" in capsys.readouterr().err


def test_a_configuration_is_toml_that_people_can_edit(parsed):
    typed = [
        "--layer",
        "layer2",
        "layer2+layer3",
        "--limit",
        "300",
        "--dataset",
        'folder:/a "b" \\c\x7fé',
        "--lr",
        "1e-5",
    ]
    first = parsed(classify.main, *typed, "--model", "finetune", "--save-config", "saved.toml")
    text = Path("saved.toml").read_text()
    told = tomllib.loads(text)
    assert told["command"] == "classify" and told["lr"] == 1e-5 and told["limit"] == 300
    assert told["layer"] == ["layer2", "layer2+layer3"] and told["dataset"] == typed[6]
    assert "# image-size =\n" in text and "again = false\n" in text
    again = parsed(classify.main, "--config=saved.toml")
    assert again.dataset == first.dataset and again.training_learning_rate == 1e-5


def test_what_is_typed_wins_over_the_file(parsed):
    Path("mine.toml").write_text(
        'command = "classify probe"\nlayer = ["layer1", "layer2"]\nimage-size = 64\nquick = true\nmodel = "svm"\n'
    )
    options = parsed(classify.main, "probe", "--config", "mine.toml", "--image-size=32", "--layer", "fc")
    assert (options.layer, options.image_size, options.quick, options.model) == (["fc"], [32], True, ["svm"])
    assert options.command_line == "python -m classify probe --image-size=32 --layer fc --quick --model svm"


def test_a_replayed_run_is_the_same_run_and_records_the_whole_command(capsys):
    assert run_command(classify.main, [*SMALL, "--model", "lda", "--save-config", "lda.toml"]) == 0
    first = load_results("results")[0].result
    assert run_command(classify.main, ["--config", "lda.toml", "--results", "other"]) == 0
    second = load_results("other")[0].result
    assert first.config == second.config
    for told in ("--model lda", "--limit 60", "--results other"):
        assert told in second.command
    assert "--config" not in second.command


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("layr = ['fc']", "no option called 'layr'; did you mean layer?"),
        ("zzzzzz = 1", "`python -m extract --help`"),
        ("limit = 'many'", "limit is a whole number"),
        ("limit = 2.5", "limit is a whole number"),
        ("limit = true", "limit is a number"),
        ("limit = [1, 2]", "takes one value and no list"),
        ("limit = 1979-05-27", "limit is a number"),
        ("jobs = 0", "jobs = 0 cannot be: 0 is too few"),
        ("dataset = 5", "dataset is text in quotes"),
        ("dry-run = 'yes'", "either true or false"),
        ("precision = 'float31'", "did you mean float32? choose from auto, float32"),
        ("layer = []", "give at least one value"),
        ("layer = [['fc']]", "layer is text in quotes"),
        ("[layer]\nname = 'fc'", "layer is text in quotes"),
        ("config = 'other.toml'", "no option called 'config'"),
        ("help = true", "no option called 'help'"),
        ("layer = [", "is no TOML file"),
        ("cluster = 'tcp://there:8786'", "cluster is taken from the command line alone"),
        ("layer = ['fc', '--cluster=tcp://there:8786']", "would be an option"),
    ],
)
def test_entries_that_cannot_be_are_refused_by_name(capsys, entry, told):
    Path("bad.toml").write_text(f'command = "extract"\n{entry}\n')
    complaint = _complaint(capsys, extract.main, "--config", "bad.toml")
    assert told in complaint and "bad.toml" in complaint


@pytest.mark.parametrize("verb", ["predict", "export"])
def test_a_configuration_lets_nothing_in(capsys, parsed, verb):
    images = ["x.png"] if verb == "predict" else []
    Path("theirs.toml").write_text(f'command = "classify {verb}"\ntrust = true\n')
    told = _complaint(capsys, classify.main, verb, *images, "--config", "theirs.toml")
    assert "trust is taken from the command line alone" in told and "type --trust" in told
    if verb == "export":
        Path("theirs.toml").write_text('command = "classify export"\ncheck = ["x.png", "--trust"]\n')
        assert "would be an option" in _complaint(capsys, classify.main, verb, "--config", "theirs.toml")
    # As version 0.1.0 wrote it.
    Path("theirs.toml").write_text(f'command = "classify {verb}"\ntrust = false\n')
    assert parsed(classify.main, verb, *images, "--config", "theirs.toml").trust is False
    assert parsed(classify.main, verb, *images, "--trust", "--save-config", "ours.toml").trust is True
    assert "trust" not in tomllib.loads(Path("ours.toml").read_text())


def test_files_that_are_no_configuration_of_this_command(capsys):
    assert "cannot be read" in _complaint(capsys, extract.main, "--config", "none.toml")
    assert "cannot be read" in _complaint(capsys, extract.main, "--config", ".")
    Path("binary.toml").write_bytes(b"\xff\xfe")
    assert "is no TOML file" in _complaint(capsys, extract.main, "--config", "binary.toml")
    Path("bare.toml").write_text("limit = 3\n")
    assert "which command it is for" in _complaint(capsys, extract.main, "--config", "bare.toml")
    Path("probe.toml").write_text('command = "classify probe"\n')
    told = _complaint(capsys, classify.main, "compare", "--config", "probe.toml")
    assert "is for `python -m classify probe`, not for `python -m classify compare`" in told
    assert "twice" in _complaint(capsys, classify.main, "probe", "--config", "probe.toml", "--config", "probe.toml")
    assert "--config" in _complaint(capsys, extract.main, "--config")


def test_saving_writes_over_nothing_but_configurations(capsys):
    Path("thesis.txt").write_text("three years of work")
    assert "is no TOML file" in _complaint(capsys, extract.main, "--save-config", "thesis.txt")
    assert Path("thesis.txt").read_text() == "three years of work"
    assert "no/such.toml" in _complaint(capsys, extract.main, "--save-config", "no/such.toml")
    Path("old.toml").write_text('command = "classify probe"\n')
    assert run_command(extract.main, [*SMALL, "--dry-run", "--save-config", "old.toml"]) == 0
    assert tomllib.loads(Path("old.toml").read_text())["command"] == "extract"


def test_a_command_line_that_is_not_understood_writes_no_configuration():
    with pytest.raises(UserError):
        extract.main(["--save-config", "x.toml", "--frobnicate"])
    assert not Path("x.toml").exists()


@pytest.mark.parametrize("module", ["classify", "extract", "features"])
def test_a_users_own_module_in_the_working_folder_is_not_taken_for_ours(working_folder, module):
    for theirs in {"features", "extract", "classify", "h5py", "json", "random", "torch"} - {module}:
        (working_folder / f"{theirs}.py").write_text("raise SystemExit('theirs was run')\n")
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "usage:" in done.stdout


@pytest.mark.parametrize("command", ["-m features", "-m classify", "-c import(extract)", "-c import(classify.heads)"])
def test_where_python_takes_a_users_own_module_before_ours_p_helps_or_the_error_says_so(working_folder, command):
    option, words = command.replace("(", " ").replace(")", "").split(" ", 1)
    theirs = working_folder / f"{words if option == '-m' else 'features'}.py"
    theirs.write_text("raise SystemExit('theirs was run')\n")
    command = [option, words, *(["--help"] if option == "-m" else [])]
    said = subprocess.run([sys.executable, *command], capture_output=True, text=True).stderr.strip().splitlines()[-1]
    if option == "-c":
        assert said.startswith(f"ImportError: {theirs} is not layerprobe's package 'features'") and "with -P" in said
    else:
        assert said == "theirs was run"
    assert subprocess.run([sys.executable, "-P", *command], capture_output=True).returncode == 0
