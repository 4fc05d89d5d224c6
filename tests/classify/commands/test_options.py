"""The options about networks: every setting has one, and `--help` says what holds."""

import dataclasses

from classify.commands.training import add_training_options
from classify.heads.network.settings import AUGMENTATIONS, OPTIMIZERS, SCHEDULES, TrainingSettings
from features.commands.options import Parser

# Settings that no option of their own spells, with the reason.
WITHOUT_OPTION = {"seed": "a row's seed is the request's, --seed"}


def _options() -> dict:
    parser = Parser()
    add_training_options(parser)
    return {action.dest.removeprefix("training_"): action for action in parser.options.values()}


def test_every_setting_of_training_has_an_option():
    settings = {field.name for field in dataclasses.fields(TrainingSettings)}
    assert settings - set(WITHOUT_OPTION) == set(_options()) - {"regularizer", "map_dtype", "frozen", "recipe"}


def test_help_says_what_is_usual_and_what_is_legal():
    options, usual = _options(), TrainingSettings()
    for name in ("epochs", "batch_size", "learning_rate", "head_multiple", "weight_decay", "label_smoothing"):
        assert f"({getattr(usual, name):g})" in options[name].help
    for name in ("optimizer", "schedule", "batch_norm", "precision", "init_head"):
        assert f"{getattr(usual, name)} (default)" in options[name].help
    for name, values in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("augment", AUGMENTATIONS)):
        assert all(value in options[name].help for value in values)


def test_options_have_the_types_of_their_settings():
    for field in dataclasses.fields(TrainingSettings):
        if field.name not in (*WITHOUT_OPTION, "augment"):
            kind = _options()[field.name].type
            assert field.type in (kind, kind | None)
