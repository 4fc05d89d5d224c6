"""`--recipe`: what it is is said, what is typed beside it wins, and a record holds settings, not a recipe's name."""

import pytest

from classify.__main__ import main
from classify.experiments.compare import compare
from classify.heads.network.recipes import RECIPES, Recipe
from classify.heads.network.settings import TrainingSettings
from classify.measure.results import load_results
from features.commands.options import run_command
from features.errors import UserError

DIGITS = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--limit", "60", "--limit-test", "30"]
SHORT = ["--steps", "2", "--batch-size", "16", "--train-precision", "float32"]


@pytest.fixture(autouse=True)
def _in_a_folder(home, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_settings_and_what_is_given_beside_it_wins(name):
    recipe = Recipe.of(name, learning_rate=0.5)
    for network, fields in (("finetune", RECIPES[name].pretrained), ("scratch", RECIPES[name].drawn)):
        assert recipe.settings(network) == TrainingSettings(**{**fields, "learning_rate": 0.5})
    # Nothing in it is refused by a network that it is for.
    assert recipe.drawn == recipe.drawn.from_drawn_weights()
    assert Recipe.of(epochs=3).settings("scratch") == TrainingSettings(epochs=3) == Recipe.of(epochs=3).pretrained
    with pytest.raises(UserError, match="did you mean strong"):
        Recipe.of("stong")


def _row(arguments):
    assert run_command(main, ["run", *DIGITS, *SHORT, *arguments]) == 0
    (row,) = load_results("results")
    return row.result


def test_a_row_made_by_a_recipe_is_the_one_that_its_options_spell_and_repeats(capsys):
    result = _row(["--model", "scratch", "--recipe", "strong", "--label-smoothing", "0.25", "--augment"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("recipe strong for scratch: ")]
    assert "--label-smoothing 0.25" in line
    assert "strong" not in str(dict(result.config))
    assert result.config.training["augment"] == []
    typed = line.split(": ")[1].split()
    assert _row(["--model", "scratch", *typed, "--augment"]) == result  # not made again
    assert run_command(main, ["repeat", str(next(iter(load_results("results"))).path)]) == 0


def test_a_comparison_trains_what_starts_at_random_by_a_bundle_of_its_own():
    recipe = Recipe.of("strong", steps=2, batch_size=16, precision="float32")
    answer = compare(
        "digits", weights="random", image_size=32, limit=60, limit_test=30, models=["finetune:fc", "convnet"],
        settings=recipe,
    )  # fmt: skip
    for row in answer.rows:
        config = row.saved[0].result.config
        wanted = recipe.settings(config.head).to_json()
        assert config.training == {name: value for name, value in wanted.items() if name != "seed"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--recipe", "stong", "--model", "scratch"], "strong"),
        (["--recipe", "strong"], "--recipe is about networks that are trained"),
        (["--model", "scratch", "--layer-decay", "0.5"], "--layer-decay is about the stages of --model finetune"),
        (["--model", "convnet", "finetune", "--layer-decay", "0.5"], "no stage knows more than another"),
        (["--model", "spottune", "finetune", "--layer-decay", "0.5"], "not spottune"),
        (["--model", "svm", "--layer-decay", "0.5"], "--layer-decay is about networks"),
        (
            ["--model", "finetune", "--unfreeze", "layer4", "--recipe", "strong", "--map-dtype", "float16"],
            "give --augment nothing",
        ),
    ],
)
def test_what_is_not_read_and_what_contradicts_it_is_refused_in_one_line(capsys, arguments, words):
    assert run_command(main, [*DIGITS, *arguments]) == 2
    told = capsys.readouterr().err.strip()
    assert "\n" not in told
    assert words in told
