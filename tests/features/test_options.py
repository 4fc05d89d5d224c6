"""The options that commands share: none is missing, none is spelled twice, and `--help` says what holds."""

import argparse
import dataclasses
import importlib

import pytest

import classify.__main__ as classify
from features.commands.options import SHARED, Parser, add_request_options, add_shared, request_from
from features.datasets import dataset_names
from features.device import PRECISIONS
from features.errors import UserError
from features.request import DTYPES, Request

# Fields of a request that no option spells, with the reason.
WITHOUT_OPTION: dict[str, str] = {}
# Options that become a part of the data set's name.
OF_THE_DATA_SET = ("path_column", "label_column", "group_column", "group_by", "skip_unreadable")

VERBS = {"extract": "extract.__main__"} | {verb: f"classify.commands.{verb}" for verb in classify.VERBS}


def _parsers(verb: str) -> list[Parser]:
    module = importlib.import_module(VERBS[verb])
    if verb != "study":
        return [module._parser()]
    return [module._parser([name]) for name in module.STUDIES]


def _request_parser() -> Parser:
    parser = Parser()
    add_request_options(parser)
    # A command that reads no features of theirs has no use for these.
    add_shared(parser.section("views"), "--views", "--view-augment", "--test-views")
    return parser


def test_every_field_of_a_request_has_an_option_that_is_read_back():
    singular = {"layers": "layer", "pools": "pool"}
    fields = {field.name for field in dataclasses.fields(Request)} - set(WITHOUT_OPTION)
    options = {action.dest for action in _request_parser().options.values()}
    assert {singular.get(name, name) for name in fields} == options - {
        "jobs",
        "max_pixels",
        "pixels_in_flight",
        "trust",
        *OF_THE_DATA_SET,
    }
    # Nothing here is checked or converted: a request is what the options say.
    fields -= {"dataset", "backbone"}
    named = {"dataset": "digits", "backbone": "alexnet"}  # either may be an object, too
    typed = argparse.Namespace(**named, **{singular.get(name, name): [name] for name in fields})
    assert request_from(typed) == Request(**named, **{name: (name,) for name in fields})


def test_without_options_a_request_is_the_usual_one():
    assert request_from(_request_parser().parse_args([])) == Request()
    leaving_out = _request_parser().parse_args(["--dataset", "folder:photos", "--skip-unreadable"])
    assert request_from(leaving_out) == Request(dataset="readable:folder:photos")


def test_the_columns_of_a_list_become_a_part_of_its_name():
    def dataset(*options):
        return request_from(_request_parser().parse_args(["--dataset", *options])).dataset

    assert dataset("csv:l.csv", "--path-column", "id", "--label-column", "a & b") == "csv:l.csv?path=id&label=a+%26+b"
    assert dataset("csv:l.csv[x,y]", "--label-column", "breed") == "csv:l.csv?label=breed[x,y]"
    with pytest.raises(UserError, match="name columns of csv:PATH and hf:PATH; 'mnist' takes none"):
        dataset("mnist", "--label-column", "breed")


def test_help_offers_what_is_legal():
    options = _request_parser().options
    assert tuple(options["precision"].choices) == PRECISIONS
    assert tuple(options["dtype"].choices) == DTYPES
    assert all(name in options["dataset"].help for name in dataset_names())


@pytest.mark.parametrize("verb", VERBS)
def test_a_parser_knows_all_its_options(verb):
    everywhere = {"--help", "--help-all", "--version", "--verbose", "--quiet", "--config", "--save-config"}
    for parser in _parsers(verb):
        known = {f"--{name}": action for name, action in parser.options.items()}
        long = {name: action for action in parser._actions for name in action.option_strings if name.startswith("--")}
        assert known == {name: action for name, action in long.items() if name not in everywhere | set(parser.former)}


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_shared_is_spelled_once(verb):
    for parser in _parsers(verb):
        for name, spelled in SHARED.items():
            action = parser.options.get(name.removeprefix("--"))
            assert action is None or action.help == spelled["help"]
