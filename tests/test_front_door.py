"""The package as users import it, and the console command as they type it."""

import subprocess
import sys
from pathlib import Path

import pytest

import layerprobe
from classify.commands.console import main
from features.commands.options import run_command
from features.commands.program import as_typed, program, started_as
from features.errors import UserError

ROOT = Path(__file__).parent.parent
NAMES = ["FeatureExtractor", "__version__", "compare", "load_features", "load_model", "open_dataset", "probe", "search"]
NAMES += ["study"]


@pytest.fixture(autouse=True)
def called_as_before():
    yield
    started_as("")


def _run(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=folder)


def test_the_package_shows_its_names_and_nothing_else():
    assert dir(layerprobe) == sorted(NAMES) == sorted(layerprobe.__all__)
    with pytest.raises(AttributeError, match="no attribute 'prob'; it has"):
        layerprobe.prob  # noqa: B018
    for name in NAMES:
        assert getattr(layerprobe, name) is getattr(layerprobe, name)
    assert all(name in layerprobe.__doc__ for name in NAMES if name != "__version__")


def test_importing_the_package_loads_nothing_heavy():
    script = (
        "import sys, layerprobe as lp; dir(lp); lp.__version__\n"
        "assert not {'torch', 'numpy', 'sklearn'} & set(sys.modules)"
    )
    done = _run("-c", script)
    assert done.returncode == 0, done.stderr


def test_the_version_is_that_of_setup_cfg_or_of_what_is_installed():
    import configparser

    from features.versions import version_of

    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    assert layerprobe.__version__ == version_of("layerprobe")
    assert layerprobe.__version__.split(".")[0] == parser["metadata"]["version"].split(".")[0]


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        ("probe", "layerprobe probe"),
        ("classify probe", "layerprobe classify probe"),
        ("classify", "layerprobe classify"),
        ("run", "layerprobe run"),
        ("extract", "layerprobe extract"),
        ("features", "layerprobe features"),
        ("features remove", "layerprobe features remove"),
        ("study where", "layerprobe study where"),
    ],
)
def test_the_console_command_says_what_was_typed(capsys, typed, command):
    with pytest.raises(SystemExit):
        main([*typed.split(), "--help"])
    assert f"usage: {command} " in capsys.readouterr().out


def test_the_console_command_lists_every_verb(capsys):
    for words in ([], ["--help"]):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert not stopped.value.code
        text = capsys.readouterr().out
        for verb in ("probe", "compare", "study", "predict", "export", "report", "repeat", "extract", "features"):
            assert f"  {verb} " in text
    assert run_command(main, ["comprae"]) == 2
    assert "layerprobe has no verb 'comprae'; did you mean compare" in capsys.readouterr().err


def test_what_is_said_is_spelled_as_the_command_was(home, capsys):
    assert run_command(main, ["features"]) == 0
    assert "`layerprobe extract` fills it" in capsys.readouterr().out
    assert run_command(main, ["features", "remove"]) == 2
    assert "names from `layerprobe features`," in capsys.readouterr().err
    started_as("")
    assert as_typed("`python -m classify probe`") == "`python -m classify probe`"
    assert program("classify probe") == "python -m classify probe"


def test_a_configuration_goes_with_either_spelling(tmp_path, monkeypatch, parsed):
    monkeypatch.chdir(tmp_path)
    parsed(main, "probe", "--depth", "block", "--save-config", "p.toml")
    started_as("")
    from classify.__main__ import main as classify

    assert parsed(classify, "probe", "--config", "p.toml").depth == "block"


def test_files_of_the_working_folder_hide_no_package_of_ours(tmp_path):
    for name in ("features", "extract", "classify"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the file of the working folder was run')\n")
    console = "import sys; from classify.commands.console import console; sys.exit(console())"
    script = f"import sys; sys.path[0] = {str(ROOT)!r}; {console}"
    assert _run("-c", script, "--help", folder=tmp_path).returncode == 0
    for module, others in (("extract", ("classify",)), ("classify", ("extract",))):
        for name in ("extract", "classify"):
            (tmp_path / f"{name}.py").unlink(missing_ok=True)
        for name in others:
            (tmp_path / f"{name}.py").write_text("raise SystemExit('the file of the working folder was run')\n")
        done = _run("-m", module, "--help", folder=tmp_path)
        assert done.returncode == 0, done.stderr


def test_a_module_of_the_users_that_is_imported_already_is_named(tmp_path):
    (tmp_path / "features.py").write_text("")
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import features, layerprobe\n"
        "try: layerprobe.__version__\n"
        "except ImportError as error: print(error)"
    )
    said = _run("-c", script).stdout
    assert "features.py is imported and hides layerprobe's own features; rename it" in said and said.count("\n") == 1


def test_in_a_folder_with_a_features_file_the_package_finds_its_own(tmp_path):
    (tmp_path / "features.py").write_text("raise SystemExit('the file of the working folder was run')\n")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import layerprobe; print(layerprobe.open_dataset)"
    done = _run("-c", script)
    assert "function open_dataset" in done.stdout, done.stderr


def test_a_text_where_a_list_is_wanted_is_one_item(home, tmp_path):
    from features.request import Request, as_items

    assert Request(layers="layer3", pools="max").normalised().layers == ("layer3",)
    assert as_items("layer3") == ("layer3",) and as_items(["a", "b"]) == ("a", "b") and as_items(3) == (3,)
    result = layerprobe.probe(
        "digits", weights="random", image_size=32, limit=60, limit_test=30, layers="layer1", heads="ridge", pools="avg",
        controls=False, widths=False, scores=False, results=tmp_path / "results", jobs=1, precision="float32",
    )  # fmt: skip
    assert [(row.layer, row.head, row.pool) for row in result.rows] == [("layer1", "ridge", "avg")]
    _shows_itself(result, rows=1, test_rows=30)
    model = layerprobe.load_model(result.best.saved.path)
    assert repr(model).count("\n") == 0 and len(repr(model)) < 300
    compared = layerprobe.compare(
        "digits", weights="random", image_size=32, limit=60, limit_test=30, models="ridge@layer1", seeds=0,
        search=False, results=tmp_path / "results", jobs=1, precision="float32",
    )  # fmt: skip
    assert {row.model for row in compared.rows} == {"ridge"}
    _shows_itself(compared, rows=len(compared.rows), test_rows=30)


def _shows_itself(result, *, rows: int, test_rows: int) -> None:
    """In a line, as a table, as a data frame, as LaTeX, in Axes of the caller's; with its best and its predictions."""
    shown = [result, result.best, result.rows[0], result.best_saved, result.predictions, result.all_rows]
    shown += [result.best_saved.result, result.best_saved.result.metrics]
    for value in shown:
        assert "\n" not in repr(value) and 20 < len(repr(value)) < 400, repr(value)
    assert type(result).__name__ in repr(result) and "Best on validation" in repr(result)
    assert "<table>" in result._repr_html_()
    frame = result.to_pandas()
    assert len(frame) == rows == len(result.all_rows.rows) and frame["accuracy"].between(0, 1).all()
    assert "\\begin{tabular}" in result.to_latex() and "\\pm" in result.to_latex()
    assert len(result.predictions.labels) == test_rows
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    if not result.panels:  # one row trades nothing off
        with pytest.raises(UserError, match="there is nothing to draw"):
            result.plot(ax=axes)
        return
    assert result.plot(ax=axes) is axes and axes.get_lines() and axes.get_ylabel()
    several = Figure().subplots(1, 4)
    with pytest.raises(UserError, match="panels to draw, and 4 axes"):
        result.plot(ax=several)
