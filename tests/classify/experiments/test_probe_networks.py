"""Several backbones in one probe: paired with weights, chosen together, tested once, and said which is which."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

import layerprobe as lp
from classify.commands.probe import main
from classify.experiments.making import Making
from classify.experiments.probe.networks import paired
from classify.measure.choice import best_of
from classify.measure.paired import holm, mcnemar
from classify.show.report.documents import read_documents
from features.architectures import build_model
from features.errors import UserError
from tests.classify.experiments.test_probe import Watch

DIGITS = {
    "dataset": "digits",
    "limit": 120,
    "limit_test": 100,
    "precision": "float32",
    "validate": "holdout",
    "jobs": 1,
}
BOTH = ("resnet18", "squeezenet1_1")


class Small(nn.Module):
    """Two convolutions, so that a test is quick; each network is prepared for in its own way."""

    def __init__(self, width, mean):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(width)
            self.layer1, self.layer2 = nn.Conv2d(3, width, 3, 2), nn.Conv2d(width, 2 * width, 3, 2)
            self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(2 * width, 10)
        self.preprocessing = {"mean": (mean,) * 3, "std": (0.5,) * 3, "crop": 32}

    def forward(self, images):
        maps = torch.relu(self.layer2(torch.relu(self.layer1(images))))
        return self.fc(self.avgpool(maps).flatten(1))


class Narrow(Small):
    pass


class Broad(Small):
    pass


SMALL = (Narrow(8, 0.4), Broad(12, 0.5))
NARROW, BROAD = (paired(network, "default")[0][0] for network in SMALL)


def _probe(folder, **changes):
    fields = {**DIGITS, "backbone": SMALL, "layers": ("layer1", "fc"), "heads": "ridge"}
    fields |= {"scores": False, "controls": False, "widths": False, "results": folder}
    return lp.probe(**{**fields, **changes})


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Two networks with all that stands beside them; the second has random weights."""
    home, results = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPROBE_HOME", str(home))
        everything = {"controls": True, "widths": True, "scores": True, "select": True}
        yield _probe(results, weights=["default", "random"], **everything), home, results


@pytest.mark.parametrize(
    ("backbones", "weights", "pairs"),
    [
        ("resnet18", "default", [("resnet18", "default")]),
        (BOTH, "random", [("resnet18", "random"), ("squeezenet1_1", "random")]),
        (BOTH, ["a.pth", "default"], [("resnet18", "a.pth"), ("squeezenet1_1", "default")]),
        (BOTH, "squeezenet1_1=b.pth", [("resnet18", "default"), ("squeezenet1_1", "b.pth")]),
        ("resnet18", ["default", "a.pth"], [("resnet18", "default"), ("resnet18", "a.pth")]),
        (["resnet18", "resnet18"], "default", [("resnet18", "default")]),
        (
            ["resnet18", "python:m:f?w=2"],
            ["python:m:f?w=2=c.pth"],
            [("resnet18", "default"), ("python:m:f?w=2", "c.pth")],
        ),
    ],
)
def test_backbones_go_with_weights(backbones, weights, pairs):
    assert list(paired(backbones, weights)) == pairs


def test_a_module_among_names_is_one_network_though_it_can_be_iterated():
    (name, weights), *others = paired(nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 3)), "default")
    assert name.startswith("module:Sequential-") and weights == "default" and not others


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": ["a", "b", "c"]}, "3 values for 2 backbones"),
        ({"weights": "somewhere/mine.pth"}, "write resnet18=somewhere/mine.pth"),
        ({"weights": "resnet81=mine.pth"}, "no backbone 'resnet81' is probed; did you mean resnet18"),
        ({"weights": ["resnet18=random", "default"]}, "default does not say whose it is"),
        ({"weights": ["resnet18=random", "resnet18=default"]}, "names resnet18 twice"),
        ({"backbone": []}, "--backbone was given without a value"),
        ({"backbone": ["resnet18", 5]}, "not a int"),
        ({"backbone": [SMALL[0], "squeezenet1_1"]}, "squeezenet1_1: there is no layer 'layer1'"),
        ({"backbone": [SMALL[0], "resnet81"]}, "there is no backbone 'resnet81'"),
    ],
)
def test_what_does_not_fit_is_one_line_before_anything_is_extracted(home, tmp_path, changes, words):
    with pytest.raises(UserError, match=words) as caught:
        _probe(tmp_path / "results", **{"backbone": BOTH, "weights": "random", **changes})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists() and not list(home.glob("features/*.h5"))


def test_the_test_split_of_each_network_is_opened_once_and_last(home, tmp_path, monkeypatch):
    options = {"controls": True, "scores": True, "select": True}
    _probe(tmp_path / "first", heads="centroid")
    watch = Watch(monkeypatch)
    result = _probe(tmp_path / "second", **options)
    assert {row.backbone for row in result.rows if row.kind == "layer"} == {NARROW, BROAD}
    assert sorted(watch.opened) == sorted(set(watch.opened)), "a test split was read more than once"
    # Each network, and each with random weights.
    assert len({what.split()[0] for what in watch.opened}) == 4
    watch.opened.clear()
    watch.final = False
    _probe(tmp_path / "second", **options)
    assert watch.opened == [], "rows that stand in the folder were tested again"


def test_the_test_rows_have_no_say_in_which_network_is_chosen(home, tmp_path):
    few, many = (_probe(tmp_path, limit_test=count) for count in (30, 100))
    assert [row.accuracy for row in few.rows] != [row.accuracy for row in many.rows]
    assert [row.validation for row in few.rows] == [row.validation for row in many.rows]
    assert (few.best.backbone, few.best.layer) == (many.best.backbone, many.best.layer)


def test_the_best_is_chosen_over_all_networks_by_the_rule_for_layers(shared):
    result = shared[0]
    candidates = [row for row in result.rows if row.kind in ("layer", "selection")]
    assert {row.backbone for row in candidates} == {NARROW, BROAD}
    assert result.best is best_of(candidates, lambda row: [row.result])
    validated = [row.saved.predictions().validation_rows for row in result.rows]
    assert all(np.array_equal(rows, validated[0]) for rows in validated)


def test_every_layer_of_every_network_is_tested_against_the_best(shared):
    result = shared[0]
    places = {row.place for row in result.rows if row.kind in ("layer", "selection")}
    assert {standing.row.place for standing in result.standings} == places
    reference = result.best.saved.predictions()
    others = [standing for standing in result.standings if standing.row is not result.best]
    p_values = [
        mcnemar(reference.labels, reference.predicted, other.row.saved.predictions().predicted).p_value
        for other in others
    ]
    assert [other.p_value for other in others] == pytest.approx(holm(p_values).tolist())
    flops = {(s.row.backbone, s.row.layer): s.flops for s in result.standings}
    assert 0 < flops[NARROW, "fc"] < flops[BROAD, "fc"]


def test_each_network_has_its_own_controls(shared):
    result = shared[0]
    plain = [row for row in result.rows if row.kind == "layer"]
    for row in plain:
        assert result.find("shuffled", row, "ridge").backbone == row.backbone
        # One width for all layers, whichever network they are of.
        assert result.find("pca", row, "ridge").width == min(row.width for row in plain) == 8
        random = result.find("random", row)
        assert (random is None) == (row.backbone == BROAD)
        if random is not None:
            assert random.result.config.backbone == NARROW
            assert random.result.config.weights_sha256 != row.result.config.weights_sha256
    assert [row.backbone for row in result.rows if row.kind == "pixels"] == [""]
    assert f"no random-weights control of {BROAD}, since the weights asked for are random" in result.notes


def test_scores_and_selections_are_of_each_network(shared):
    result = shared[0]
    layers = [(row.layer, row.pool, row.backbone) for row in result.rows if row.kind == "layer"]
    assert list(result.scores.places) == layers
    names = {score.title for score in result.scores.scores if score.of_network}
    assert names == {f"LEEP of {NARROW}", f"NCE of {NARROW}"}
    assert result.selection.order[0] in {layer for layer, _, name in layers if name == result.best.backbone}


def test_the_backbone_is_a_column_of_every_form_and_in_the_answer(shared, capsys):
    result, _, results = shared
    for table in result.tables[:-1]:
        assert {NARROW, BROAD} <= set(table.column("backbone"))
    assert f"{result.best.layer} of {result.best.backbone} with ridge" in result.answer()[0]
    assert result.to_csv().startswith("kind,backbone,layer,")
    assert [panel.x for panel in result.panels] == [f"layer of {NARROW}", f"layer of {BROAD}"]
    assert all(any(level.label.startswith("raw pixels") for level in panel.levels) for panel in result.panels)
    document = json.loads((results / f"{result.stem}.json").read_text())
    assert document["question"]["networks"] == [[BROAD, "random"]]
    assert [row["backbone"] for row in document["layers"]] == [s.row.backbone for s in result.standings]
    [read] = read_documents(results)
    assert read.best[0] == result.best.saved.path.name


def test_one_backbone_is_asked_and_answered_as_ever(shared, monkeypatch):
    result, home, results = shared
    monkeypatch.setenv("LAYERPROBE_HOME", str(home))
    monkeypatch.setattr(Making, "test", _untested(Making.test))
    alone = _probe(results, backbone=SMALL[1], weights="random")
    of_network = [row for row in result.rows if row.kind == "layer" and row.backbone == BROAD]
    assert [row.result.digest for row in alone.rows] == [row.result.digest for row in of_network]
    assert "networks" not in alone.question and "backbone" not in alone.to_csv().splitlines()[0]
    assert alone.best.backbone == BROAD and f" of {BROAD}" not in " ".join(alone.answer())


def _untested(test):
    def nothing_waits(making, **options):
        assert not making.waiting, "a row of one backbone is another one beside others"
        return test(making, **options)

    return nothing_waits


def test_one_architecture_with_several_weights_is_told_apart_by_these(home, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        torch.save(build_model("squeezenet1_1").state_dict(), tmp_path / folder / "best.pth")
    weights = ["random", str(tmp_path / "one" / "best.pth"), str(tmp_path / "two" / "best.pth"), "random"]
    result = _probe(tmp_path / "results", backbone="squeezenet1_1", weights=weights, layers="fc", image_size=64)
    names = [row.backbone for row in result.rows]
    digests = [row.result.config.weights_sha256[:8] for row in result.rows]
    assert names == [
        f"squeezenet1_1 ({name} {digest})"
        for name, digest in zip(("random (seed 0)", "best.pth", "best.pth"), digests, strict=True)
    ]
    same = _probe(tmp_path / "results", backbone="squeezenet1_1", weights=[weights[1]] * 2, layers="fc", image_size=64)
    assert len(same.rows) == 1 and same.rows[0].network == ""


def test_each_network_has_its_own_preprocessing(shared):
    plain = [row for row in shared[0].rows if row.kind == "layer" and row.layer == "fc"]
    steps = {row.backbone: json.loads(row.result.keys["train fc"]["preprocessing"]) for row in plain}
    assert steps[NARROW]["mean"] == [0.4] * 3 and steps[BROAD]["mean"] == [0.5] * 3


@pytest.mark.parametrize("quiet", [True, False])
def test_the_command_says_which_network_and_quietly_no_table(home, tmp_path, monkeypatch, capsys, quiet):
    monkeypatch.chdir(tmp_path)
    # A module of this name stays imported.
    module = f"two_networks_{quiet}"
    (tmp_path / f"{module}.py").write_text(
        "from torch import nn\n"
        "def made(width):\n"
        "    last = nn.Linear(width, 9)\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 3, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)\n"
        "narrow, broad = made(4), made(9)\n"
    )
    names = [f"python:{module}:{name}" for name in ("narrow", "broad")]
    arguments = f"--dataset digits --weights {names[1]}=random --image-size 32 --limit 100 --limit-test 50 --jobs 1"
    arguments += (
        " --precision float32 --validate holdout --layer fc --model ridge --no-scores --no-controls --no-widths"
    )
    arguments += f" --backbone {' '.join(names)}"
    assert main([*arguments.split(), *(["--quiet"] if quiet else [])]) == 0
    printed = capsys.readouterr()
    assert any(f"fc of {name} with ridge" in printed.out.split("Best on validation: ")[1] for name in names)
    assert printed.out.startswith("Best on validation") == quiet
    assert ("Layers and heads" in printed.out) == ("saved in" in printed.out) == (not quiet)
    assert not (quiet and printed.err)


def test_a_row_names_its_network(shared):
    row = next(row for row in shared[0].rows if row.kind == "layer")
    assert repr(row).startswith(f"<ProbeRow: layer {NARROW} layer1 ")
    assert dataclasses.replace(row, network="").backbone == NARROW
