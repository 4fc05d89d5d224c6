"""The probe as a whole, on real digits through a network with random weights: what it reads, chooses and says."""

import dataclasses
import inspect
import json
import subprocess
import sys

import numpy as np
import pytest

from classify.commands.probe import main
from classify.experiments import making
from classify.experiments.making import Making
from classify.experiments.probe import question, scoring
from classify.experiments.probe.tables import cka_table
from classify.experiments.sources import CachedLayer
from classify.measure.paired import holm, mcnemar
from features import reading
from features.datasets import digits
from features.errors import UserError
from features.request import Request, plan
from features.store import FeatureFile
from layerprobe import compare, probe, study

DIGITS = {
    "dataset": "digits",
    "weights": "random",
    "image_size": 64,
    "limit": 300,
    "limit_test": 200,
    "precision": "float32",
}


def _probe(folder, **changes):
    fields = {**DIGITS, "layers": ("layer1", "layer2"), "heads": ("ridge", "lda"), "jobs": 1, "results": folder}
    fields["validate"] = "holdout"  # Folds are looked at in test_validating.
    return probe(**{**fields, "scores": False, "controls": False, "widths": False, **changes})


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One probe with everything that needs no second network, and the folder of its results."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPROBE_HOME", str(home))
        folder = tmp_path_factory.mktemp("results")
        said = []
        everything = {"controls": True, "widths": True, "scores": True, "head2toe": True, "select": True}
        layers = ("layer1", "layer2", "layer4", "avgpool", "layer1+layer2")
        result = _probe(folder, layers=layers, pools=("avg", "grid:2"), heads=("ridge",), say=said.append, **everything)
        yield result, folder, home, said


@pytest.fixture
def tried(shared, monkeypatch):
    """The shared probe, inside its home."""
    monkeypatch.setenv("LAYERPROBE_HOME", str(shared[2]))
    return shared[0]


class Watch:
    """Refuses the test split until the final evaluation begins, and counts how often each of its files is read."""

    def __init__(self, monkeypatch):
        self.final, self.opened = False, []
        for name in ("features", "whole"):
            monkeypatch.setattr(FeatureFile, name, self._watched(getattr(FeatureFile, name)))
        read_layer, pixels = reading.read_layer, CachedLayer.read
        test_all = Making.test

        def layer(answer, layer, split, pool=None):
            self._note(split, f"{layer} {pool}", again=False)
            return read_layer(answer, layer, split, pool)

        def source(source, split, *how):
            self._note(split, f"{source.config['weights_sha256'][:6]} {source.layer} {source.pool}")
            return pixels(source, split, *how)

        def final(*arguments, **options):
            self.final = True
            return test_all(*arguments, **options)

        monkeypatch.setattr(reading, "read_layer", layer)
        monkeypatch.setattr(CachedLayer, "read", source)
        monkeypatch.setattr(Making, "test", final)

    def _watched(self, original):
        def watched(file, *arguments, **options):
            self._note(file.key.split, file.path.name, again=False)
            return original(file, *arguments, **options)

        return watched

    def _note(self, split, what, again=True):
        if split == "train":
            # Nothing may be fitted, scored or chosen once the test split has been seen.
            assert not self.final, f"{what} of the training split was read after the test split"
            return
        assert self.final, f"{what} of the test split was opened before the final evaluation"
        if again:
            self.opened.append(what)


def test_nothing_but_the_final_evaluation_opens_the_test_split_and_that_once(home, tmp_path, monkeypatch):
    _probe(tmp_path / "first", heads=("centroid",))
    watch = Watch(monkeypatch)
    everything = {"controls": True, "widths": True, "scores": True, "head2toe": True, "select": True}
    load = digits.Digits.load
    monkeypatch.setattr(
        digits.Digits, "load", lambda data, split: (watch._note(split, "images", again=False), load(data, split))[1]
    )
    result = _probe(tmp_path / "second", heads=("ridge", "knn"), **everything)
    assert len(result.rows) > 15
    assert sorted(watch.opened) == sorted(set(watch.opened)), "a test split was read more than once"
    assert {what.split()[1] for what in watch.opened} == {"layer1", "layer2", "layer1+layer2"}
    watch.opened.clear()
    watch.final = False
    _probe(tmp_path / "second", heads=("ridge", "knn"), **everything)
    assert watch.opened == [], "rows that stand in the folder were tested again"


def test_the_watch_itself_sees_an_early_look(home, tmp_path, monkeypatch):
    _probe(tmp_path)
    Watch(monkeypatch)
    answer = plan(Request(layers=("layer1",), **DIGITS))
    with pytest.raises(AssertionError, match="before the final evaluation"):
        reading.read_layer(answer, "layer1", "test")
    with pytest.raises(AssertionError, match="before the final evaluation"):
        reading.find_cached(answer.get("layer1", "test"), answer.request).features()


def test_the_test_rows_have_no_say_in_what_is_chosen(home, tmp_path):
    few = _probe(tmp_path, limit_test=30, select=True, controls=True)
    many = _probe(tmp_path, limit_test=200, select=True, controls=True)
    assert [row.accuracy for row in few.rows] != [row.accuracy for row in many.rows]
    for one, other in zip(few.rows, many.rows, strict=True):
        assert (one.layer, one.head, one.validation, one.result.chosen) == (
            other.layer,
            other.head,
            other.validation,
            other.result.chosen,
        )
    assert (few.best.layer, few.best.head, few.selection) == (many.best.layer, many.best.head, many.selection)


def test_the_best_is_chosen_on_validation_and_all_layers_share_its_rows(tried):
    candidates = [row for row in tried.rows if row.kind in ("layer", "selection", "head2toe")]
    assert tried.best.validation == max(row.validation for row in candidates)
    validated = [row.saved.predictions().validation_rows for row in tried.rows]
    assert all(np.array_equal(rows, validated[0]) for rows in validated)
    trained = {row.result.rows["train"] for row in tried.rows}
    assert trained == {300 - len(validated[0])}


def test_layers_that_are_one_file_are_one_row(tried):
    places = [(row.layer, row.pool) for row in tried.rows if row.kind == "layer"]
    assert places == [
        ("layer1", "avg"),
        ("layer1", "grid:2"),
        ("layer2", "avg"),
        ("layer2", "grid:2"),
        ("avgpool", "avg"),
        ("layer4", "grid:2"),
        ("layer1+layer2", "avg"),
        ("layer1+layer2", "grid:2"),
    ]


def test_every_row_has_its_controls(tried):
    for row in [row for row in tried.rows if row.kind == "layer"]:
        shuffled = tried.find("shuffled", row)
        assert shuffled.accuracy < 0.35 < row.accuracy
        for kind in ("pca", "projection"):
            assert tried.find(kind, row).width == 64
    assert tried.find("pixels", tried.best, "ridge").accuracy > 0.8
    assert {row.head for row in tried.rows if row.kind == "pca"} == {"ridge", "logistic"}
    assert any("random weights" in note or "random-weights" in note for note in tried.notes)


def test_random_weights_stand_beside_weights_from_a_file(home, tmp_path, monkeypatch):
    import torch

    from features.backbones import load_backbone

    path = tmp_path / "drawn.pth"
    torch.save(load_backbone("resnet18", "random", 7).model.state_dict(), path)
    result = _probe(tmp_path / "results", weights=str(path), controls=True, scores=True, layers=("layer1", "fc"))
    for row in [row for row in result.rows if row.kind == "layer"]:
        random = result.find("random", row)
        assert random.result.config["weights"] == "random (seed 0)"
        assert random.result.config["weights_sha256"] != row.result.config["weights_sha256"]
        assert np.array_equal(random.saved.predictions().rows, row.saved.predictions().rows)
    assert {"leep", "nce"} < {score.name for score in result.scores.scores}
    assert "on random weights" in " ".join(result.answer())


def test_the_verdicts_are_those_of_paired_tests_on_the_stored_predictions(tried):
    reference = tried.best.saved.predictions()
    others = [each for each in tried.standings if each.row is not tried.best]
    assert len(others) == len(tried.standings) - 1 >= 5
    p_values = [
        mcnemar(reference.labels, reference.predicted, each.row.saved.predictions().predicted).p_value
        for each in others
    ]
    assert [each.p_value for each in others] == pytest.approx(holm(p_values).tolist())
    answer = " ".join(tried.answer())
    for each in others:
        assert each.distinguishable == (each.p_value < 0.05)
        named = f"{each.row.layer} ({each.row.pool}) with {each.row.head} ({100 * each.row.accuracy:.2f} %)"
        assert (named in answer) == (not each.distinguishable or each.better)


def test_scores_see_training_rows_alone_and_are_ranked_against_validation(tried):
    from classify.measure.transferability import weighted_tau

    scores = tried.scores
    assert scores.rows == 300 - tried.best.result.rows["validation"]
    best = [
        max(r.validation for r in tried.rows if r.kind == "layer" and (r.layer, r.pool) == p) for p in scores.layers
    ]
    for score in scores.scores:
        assert len(score.values) == len(scores.layers) and np.isfinite(score.values).all() and score.seconds > 0
        assert score.tau == pytest.approx(weighted_tau(score.values, best))
    matrix = np.array(scores.cka)
    assert scores.cka_layers == ("layer1", "layer2", "avgpool")
    assert np.allclose(matrix, matrix.T) and np.allclose(np.diag(matrix), 1) and (matrix > 0).all()
    assert any("LEEP" in note for note in tried.notes)


def test_scores_are_computed_once_for_the_same_rows_of_the_same_features(home, tmp_path, monkeypatch):
    first = _probe(tmp_path, scores=True, heads=("ridge",))
    computed = []
    scores_of = scoring.scores_of
    monkeypatch.setattr(
        scoring, "scores_of", lambda source, rows: computed.append(len(rows)) or scores_of(source, rows)
    )
    again = _probe(tmp_path, scores=True, heads=("ridge", "knn"))
    assert not computed and dataclasses.replace(again.scores, scores=()) == dataclasses.replace(first.scores, scores=())
    assert [score.values for score in again.scores.scores] == [score.values for score in first.scores.scores]
    assert set(again.scores.scores[0].tau_by_head) == {"ridge", "knn"}
    _probe(tmp_path, scores=True, heads=("ridge",), seed=1)
    assert computed == [first.scores.rows] * 2, "other rows"


def test_the_tables_of_layers_have_a_line_for_each_at_any_width(tried):
    shown = {table.title.split(" (")[0].split(" of ")[0]: table for table in tried.tables}
    scores, alike = shown["Scores that need no training"], shown["How alike the layers are"]
    assert list(zip(scores.column("layer"), scores.column("pool"), strict=True)) == list(tried.scores.layers)
    assert scores.column("logme") == tried.scores.scores[0].values
    assert alike.column("layer") == tried.scores.cka_layers
    many = tuple(f"features.{number}.block.expansion" for number in range(20))
    wide = dataclasses.replace(tried.scores, cka_layers=many, cka=tuple((0.5,) * 20 for _ in many))
    numbered = cka_table(wide)
    assert [column.shown for column in numbered.columns[1:]] == [str(number) for number in range(1, 21)]
    assert numbered.column("layer")[0] == f"1 {many[0]}"


def test_selection_and_head2toe_are_rows_of_their_own(tried):
    assert tried.selection.order[0] in ("layer1", "layer2", "avgpool")
    toe = next(row for row in tried.rows if row.kind == "head2toe")
    assert toe.layer == "layer1+layer2+avgpool" and toe.width == 64 + 128 + 512
    assert sum(toe.result.extra["kept_by_layer"]) > 0
    assert toe.accuracy > 0.8
    selected = {row.layer for row in tried.rows if row.kind == "selection"}
    known = {row.layer for row in tried.rows if row.kind == "layer"}
    assert selected or "+".join(sorted(tried.selection.order)) in known or len(tried.selection.order) == 1


def test_it_turns_into_json_csv_markdown_and_a_data_frame(tried, shared):
    record = json.loads((shared[1] / f"{tried.stem}.json").read_text())
    assert record["best"]["layer"] == tried.best.layer and len(record["rows"]) == len(tried.rows)
    for row in record["rows"]:
        assert json.loads((shared[1] / row["result"]).read_text())["result"]["config"] == row["config"]
    assert tried.to_csv().count("\n") == len(tried.rows) + 1
    frame = tried.table
    assert len(frame) == len(tried.rows)
    assert str(tried).startswith(f"Best on validation: {tried._name(tried.best)}")
    assert "| layer |" in tried.to_markdown() and "<table>" in tried._repr_html_()


def test_signatures_name_what_people_ask_for_most():
    """For `help` and completion: they are fields of the request, which the functions take as they come."""
    for function in (probe, compare, study):
        parameters = inspect.signature(function).parameters
        for name in ("weights", "image_size", "limit", "limit_test", "device"):
            assert parameters[name].default == getattr(Request(), name)
        assert list(parameters)[-1] == "options" and len(parameters) == len(set(parameters))


def test_the_table_needs_no_pandas(tried, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert tried.table.column("head")[0] == "ridge"


def test_processes_side_by_side_give_the_same_rows(home, tmp_path):
    alone = _probe(tmp_path / "alone", widths=True)
    together = _probe(tmp_path / "together", widths=True, jobs=2)
    assert [row.accuracy for row in alone.rows] == [row.accuracy for row in together.rows]
    assert [row.validation for row in alone.rows] == [row.validation for row in together.rows]


def test_a_stopped_probe_carries_on_with_the_rows_it_lacks(home, tmp_path, monkeypatch):
    fit, fits = making.fit, []

    def stopping(row, how):
        if len(fits) == 3:
            raise KeyboardInterrupt
        fits.append(row.config)
        return fit(row, how)

    monkeypatch.setattr(making, "fit", stopping)
    with pytest.raises(KeyboardInterrupt):
        _probe(tmp_path)
    assert not list(tmp_path.glob("*.json"))
    monkeypatch.setattr(making, "fit", lambda row, how: fits.append(row.config) or fit(row, how))
    result = _probe(tmp_path)
    assert len(fits) == len(result.rows) == 4
    assert not list((home / "fitted").glob("*"))


def test_quick_says_what_it_cuts(home, tmp_path, monkeypatch):
    fields = {**DIGITS, "layers": ("layer1",), "results": tmp_path, "jobs": 1, "scores": False, "quick": True}
    fields["validate"] = "holdout"
    result = probe(**{**fields, "limit": None, "limit_test": None, "weights": "random"})
    assert {row.head for row in result.rows if row.kind == "layer"} == {"ridge", "lda"}
    assert "ridge and lda instead of" in result.notes[0] and "no random weights" in result.notes[0]
    assert "images" not in result.notes[0], "limits of 10,000 and 2,000 cut nothing of these"
    monkeypatch.setattr(question, "QUICK_ROWS", 600)
    result = probe(**{**fields, "limit": None, "limit_test": 100, "weights": "random"})
    assert result.notes[0].startswith("cut to be quick: 600 of 1,198 training images; heads")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layers": ("layer9",)}, "there is no layer 'layer9'"),
        ({"heads": ("rige",)}, "did you mean ridge"),
        ({"pools": ("median",)}, "--pool median"),
        ({"pools": ("none",)}, "no head of a probe"),
        ({"heads": ("knn", "centroid"), "class_weight": "heavy"}, "--class-weight heavy"),
        ({"head2toe": True, "class_weight": "balanced"}, "Head2Toe cannot weight classes"),
        ({"limit": 12}, "needs two: one to train on and one to validate on"),
        ({"limit": 1}, "needs two to tell apart"),
        ({"depth": "module"}, "--depth module"),
        ({"jobs": 0}, "--jobs 0"),
        ({"heads": ()}, "no head was asked for"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_extracted(home, tmp_path, changes, words):
    with pytest.raises(UserError, match=words) as caught:
        _probe(tmp_path / "results", **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists()
    assert not list(home.glob("features/*.h5"))


def test_the_command_prints_the_answer_last_and_writes_what_was_asked_for(shared, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("LAYERPROBE_HOME", str(shared[2]))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    arguments = ["--dataset", "digits", "--weights", "random", "--image-size", "64", "--limit", "300", "--jobs", "1"]
    arguments += ["--limit-test", "200", "--precision", "float32", "--layer", "layer1", "layer2", "--model", "ridge"]
    arguments += ["--no-controls", "--no-widths", "--validate", "holdout", "--results", str(shared[1])]
    written = {name: tmp_path / f"out.{name}" for name in ("json", "csv", "markdown")}
    arguments += [text for name, path in written.items() for text in (f"--{name}", str(path))]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    answer = printed.out.index("\nBest on validation: layer")
    assert printed.out.index("Layers and heads\n") < answer < printed.out.index("\nnext: python -m classify report")
    assert printed.out.index("saved in ") < printed.out.index("Layers and heads\n")
    assert "no figure: figures need one more package: pip install 'layerprobe[figures]'" in printed.out
    assert " rows already in " in printed.err
    assert all(path.stat().st_size for path in written.values())
    with pytest.raises(UserError, match="there is no folder"):
        main([*arguments, "--json", str(tmp_path / "nowhere" / "out.json")])


def test_the_command_answers_help_and_mistakes_without_torch():
    code = "import sys; from classify.__main__ import main; from features.commands.options import run_command; "
    code += (
        "status = run_command(main); assert 'torch' not in sys.modules and 'numpy' not in sys.modules; sys.exit(status)"
    )
    ended = subprocess.run([sys.executable, "-c", code, "probe", "--model", "svn"], capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: there is no head called 'svn'") and ended.stderr.count("\n") == 1


def test_blocks_are_named_by_the_shortest_name_that_means_them(home):
    from classify.experiments.probe.entries import probe_layers
    from features.request import Request

    request = dataclasses.replace(Request(**DIGITS), layers=("all",))
    layers = probe_layers(request, "block")
    assert layers[:5] == ("maxpool", "layer1.0", "layer1", "layer2.0", "layer2") and layers[-2:] == ("avgpool", "fc")
    assert probe_layers(dataclasses.replace(request, layers=("layer3",)), "block") == ("layer3",)
