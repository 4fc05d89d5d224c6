"""What a plan says of its layers: which are one and the same, and by which name that one is called."""

import dataclasses
import shlex

import pytest

from features.commands.options import Parser, add_request_options, request_from
from features.key import About
from features.request import Plan, Request, Wanted, limited, plan
from features.typed import typed
from tests.features.store_cases import key

# Of a network whose `layer4` is averaged into `avgpool`, and whose `fc` is flat: what each is called, and cached as.
NODES = {"layer3": ("layer3", "layer3"), "layer4": ("avgpool", "avgpool"), "avgpool": ("avgpool", "avgpool")}
NODES |= {"fc": ("fc", "fc")}
FLAT = ("avgpool", "fc")


def _plan(*layers, pools=("avg",)):
    wanted = []
    for split in ("train", "test"):
        for layer in dict.fromkeys(name for joined in layers for name in joined.split("+")):
            for pool in pools:
                name, node = NODES[layer] if pool == "avg" or layer in FLAT else (layer, layer)
                of = key(split=split, layer=node, pool="avg" if layer in FLAT else pool)
                wanted.append(Wanted(split, layer, pool, of, About("data", name, ("a",), "w"), (4,), 9, of))
    return Plan(Request(layers=layers, pools=pools), layers, tuple(wanted), ("train", "test"))


@pytest.mark.parametrize(
    ("layers", "pools", "distinct"),
    [
        (("layer3", "layer4", "fc"), ("avg",), [("layer3", "avg"), ("layer4", "avg"), ("fc", "avg")]),
        (("layer4", "layer3", "avgpool"), ("avg",), [("avgpool", "avg"), ("layer3", "avg")]),
        (("avgpool", "layer4"), ("avg",), [("avgpool", "avg")]),
        (("layer4", "avgpool"), ("max",), [("layer4", "max"), ("avgpool", "max")]),
        (("fc",), ("grid:2", "avg"), [("fc", "avg")]),
        (("layer3",), ("grid:2", "avg"), [("layer3", "grid:2"), ("layer3", "avg")]),
        (("layer3+fc", "fc+layer3"), ("avg",), [("layer3+fc", "avg")]),
        (("layer4+fc", "fc", "avgpool+fc"), ("avg",), [("avgpool+fc", "avg"), ("fc", "avg")]),
    ],
)
def test_layers_read_from_the_same_files_are_one_and_called_as_the_files_say(layers, pools, distinct):
    assert list(_plan(*layers, pools=pools).distinct()) == distinct


def test_a_plan_gives_the_files_of_what_is_joined(home):
    answer = _plan("layer3+layer4")
    assert [part.layer for part in answer.parts("layer3+layer4", "test")] == ["layer3", "layer4"]
    assert {part.split for part in answer.parts("layer3+layer4", "test")} == {"test"}
    assert answer.files("layer3+layer4", "avg") == answer.files("layer4+layer3", "avg")
    assert answer.files("layer3", "avg") < answer.files("layer3+layer4", "avg")


def test_what_is_noted_of_a_file_is_read_as_it_was():
    wanted = _plan("layer3").wanted[0]
    assert Wanted.from_json(dataclasses.asdict(wanted)) == wanted


def test_a_plan_at_another_limit_is_the_one_that_is_worked_out_for_it(home):
    asked = {"dataset": "digits", "backbone": "efficientnet_lite0", "image_size": 32, "limit_test": 20}
    whole = plan(Request(**asked))
    for limit in (50, 10_000, None):
        assert limited(whole, limit) == plan(Request(**asked, limit=limit))
    assert limited(limited(whole, 50), 30) == limited(whole, 30)


@pytest.mark.parametrize(
    "asked",
    [
        {"layers": ("avgpool",)},
        {"layers": ("layer2+layer3", "fc"), "pools": ("avg", "grid:2"), "image_size": 64, "limit": 10, "seed": 3},
        {"dataset": "folder:with a space", "weights": "my weights.pth", "mean": (0.5, 0.25, 1e-3), "std": (1.0,) * 3},
    ],
)
def test_a_request_is_typed_as_options_that_mean_it(asked):
    request = Request(**asked)
    parser = Parser("test")
    add_request_options(parser)
    words = shlex.split(typed(request, layers=request.layers, pools=request.pools))
    assert request_from(parser.parse_args(words)) == request
