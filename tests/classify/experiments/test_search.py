"""The search for the best configuration, on real digits through real weights: what it tries, keeps and says."""

import dataclasses
import html
import json
import shlex
import subprocess
import sys

import numpy as np
import pytest

from classify.__main__ import main
from classify.experiments.search import halving
from classify.experiments.search.grid import DIMENSIONS, Candidate, Grid, joins, usual
from classify.experiments.search.tried import best_of
from classify.experiments.sources import CachedLayer
from classify.measure import trials
from classify.measure.results import load_results
from features.datasets import digits
from features.errors import UserError
from features.request import Request
from layerprobe import search
from tests.classify.experiments.test_probe import Watch

DIGITS = {"dataset": "digits", "backbone": "efficientnet_lite0", "limit": 400, "limit_test": 100, "jobs": 1}
DIGITS |= {"layers": ("_blocks.4.add", "avgpool", "fc"), "pools": "avg", "heads": ("ridge", "lda")}


def _search(folder, **changes):
    return search(**{**DIGITS, "image_size": 32, "views": 1, "minutes": 60, "results": folder, **changes})


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One search with time enough, its home and what it said."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPROBE_HOME", str(home))
        said = []
        yield _search(folder, say=said.append), folder, home, said


@pytest.fixture
def tried(shared, monkeypatch):
    monkeypatch.setenv("LAYERPROBE_HOME", str(shared[2]))
    return shared[0]


class Clock:
    """A time that stands still but for what is fitted, each of which takes so many seconds; passes take none."""

    def __init__(self, monkeypatch, seconds):
        self.now, fit = 1000.0, halving.fit

        def taking(*arguments, **options):
            self.now += seconds
            return fit(*arguments, **options)

        monkeypatch.setattr(halving, "time", self)
        monkeypatch.setattr(halving, "fit", taking)
        monkeypatch.setattr(halving.Halving, "_images_left", lambda *arguments: 0)
        monkeypatch.setattr("classify.experiments.search.search.time", self)

    def time(self):
        return self.now


def test_a_candidate_has_a_field_for_each_dimension_and_so_has_the_grid():
    names = [dimension.name for dimension in DIMENSIONS]
    assert names == list(Candidate.__dataclass_fields__) == list(Grid.__dataclass_fields__)
    assert {dimension.request for dimension in DIMENSIONS} - {""} <= set(Request.__dataclass_fields__)


def test_all_are_tried_on_few_rows_and_the_best_third_on_all(tried):
    first, last = tried.rungs
    assert (first.rows, last.rows) == (200, 400)
    assert len(first.tried) == len(first.due) == 6 and len(last.tried) == 2
    assert {entry.candidate for entry in last.tried} == {entry.candidate for entry in first.tried[:2]}
    assert tried.best is last.tried[0] and tried.trials == first.tried + last.tried
    for rung in tried.rungs:
        of_rung = [entry.trial for entry in rung.tried]
        assert all(np.array_equal(trial.validation_folds, of_rung[0].validation_folds) for trial in of_rung)
        accuracies = [np.mean(trial.validation_predicted == trial.validation_labels) for trial in of_rung]
        assert accuracies == [entry.score("accuracy") for entry in rung.tried] == sorted(accuracies, reverse=True)
    few, all_rows = (set(rung.tried[0].trial.validation_rows.tolist()) for rung in tried.rungs)
    assert few < all_rows, "the rows of a rung are not among those of the next"


def test_every_trial_is_kept_and_no_other_result_than_the_winner_is_there(tried, shared):
    folder = shared[1]
    assert len(list((folder / trials.TRIALS).glob("*.json"))) == len(tried.trials) == 8
    for entry in tried.trials:
        kept = trials.find_trial(folder, entry.trial.config)
        assert kept.fields == entry.trial.fields
        assert np.array_equal(kept.validation_predicted, entry.trial.validation_predicted)
    assert [saved.path for saved in load_results(folder)] == [tried.saved.path]
    config = tried.saved.result.config
    assert (config.layer, config.head, config.image_size) == (tried.best.candidate.layer, tried.best.candidate.head, 32)
    assert tried.saved.result.rows["test"] == 100 and tried.saved.head_path is not None


def test_a_damaged_trial_is_none(tried, shared, tmp_path):
    trial = tried.trials[0].trial
    trial.save(tmp_path)
    (path,) = (tmp_path / trials.TRIALS).iterdir()
    for text in ("", "{}", "[1]", path.read_text()[:-9], path.read_text().replace('"seconds":', '"seconds":1')):
        path.write_text(text)
        assert trials.find_trial(tmp_path, trial.config) is None
    trial.save(tmp_path)
    assert trials.find_trial(tmp_path, trial.config).seconds == trial.seconds


def test_the_test_split_is_opened_once_in_the_end_for_the_winner_alone(tried, tmp_path, monkeypatch):
    watch, load = Watch(monkeypatch), digits.Digits.load
    monkeypatch.setattr(
        digits.Digits, "load", lambda data, split: (watch._note(split, "images", again=False), load(data, split))[1]
    )
    again = _search(tmp_path)
    assert [what.split()[1] for what in watch.opened] == [again.best.candidate.layer]
    with pytest.raises(AssertionError, match="of the training split was read after"):
        _search(tmp_path / "other")


def test_the_same_search_finds_the_same_and_computes_nothing_twice(tried, shared, monkeypatch):
    fits = []
    monkeypatch.setattr(halving, "fit", lambda *arguments: fits.append(arguments))
    monkeypatch.setattr(CachedLayer, "read", lambda *arguments: fits.append(arguments))
    again = _search(shared[1])
    assert not fits
    assert (again.stem, again.sentences, again.to_csv()) == (tried.stem, tried.sentences, tried.to_csv())


def test_a_search_that_was_killed_carries_on_with_the_trials_it_lacks(tried, tmp_path, monkeypatch):
    attempt, attempts = halving.attempt, []

    def stopping(row, how, latest):
        if len(attempts) == 3:
            raise KeyboardInterrupt
        attempts.append(row.digest)
        return attempt(row, how, latest)

    monkeypatch.setattr(halving, "attempt", stopping)
    with pytest.raises(KeyboardInterrupt):
        _search(tmp_path)
    assert not list(tmp_path.glob("*.json"))
    monkeypatch.setattr(
        halving, "attempt", lambda row, how, latest: attempts.append(row.digest) or attempt(row, how, latest)
    )
    result = _search(tmp_path)
    assert len(attempts) == len(set(attempts)) == len(result.trials) == 8
    assert [entry.candidate for entry in result.trials] == [entry.candidate for entry in tried.trials]


def test_what_there_was_no_time_for_is_said_and_more_minutes_go_on_from_there(tried, tmp_path, monkeypatch):
    Clock(monkeypatch, 10.0)
    # Two begin in the half of the time that the first step may take; then the winner's last fit needs the rest.
    short = _search(tmp_path, minutes=0.5)
    assert [(rung.rows, len(rung.due), len(rung.tried)) for rung in short.rungs] == [(200, 6, 2)]
    assert short.untried.startswith("Not tried for lack of time: 4 of the 6 configurations")
    assert short.untried in short.sentences and short.best is short.rungs[0].tried[0]
    assert short.saved.result.rows["validation"] == 400, "the winner is fitted on all rows"
    longer = _search(tmp_path, minutes=60)
    assert not longer.untried and longer.sentences[0] == tried.sentences[0]
    assert len({entry.trial.digest for entry in short.trials} & {entry.trial.digest for entry in longer.trials}) == 2


def test_a_rung_that_would_end_too_late_is_not_begun(tried, tmp_path, monkeypatch):
    monkeypatch.setattr(halving.Halving, "_expected", lambda *arguments: 1e6)
    short = _search(tmp_path)
    assert [len(rung.tried) for rung in short.rungs] == [6, 0]
    assert "Not tried for lack of time: any of the 2 best on 400 training images." in short.untried


def test_the_best_go_up_however_long_few_rows_make_the_winner_seem(tried, tmp_path, monkeypatch):
    Clock(monkeypatch, 7.0)
    # Which head is third among those of the first stage differs from processor to processor, and how its time grows.
    places, heads = DIGITS["layers"], ("lda", "ridge", "centroid")

    def by_place(entries, score):
        return sorted(
            entries, key=lambda entry: (places.index(entry.candidate.layer), heads.index(entry.candidate.head))
        )

    monkeypatch.setattr(halving, "by_merit", by_place)
    short = _search(tmp_path, minutes=2.75, heads=heads, limit=1000)
    assert [(rung.rows, len(rung.tried)) for rung in short.rungs] == [(200, 9), (600, 2)]
    assert "1 of the 3 best on 600 training images" in short.untried and short.best.rows == 600


def test_nothing_that_was_tried_is_lost_where_the_time_ends(tried, tmp_path, monkeypatch):
    """It goes up several times, and what went up first may not be among those that go up last."""
    clock = Clock(monkeypatch, 7.0)
    monkeypatch.setattr(halving, "by_merit", lambda entries, score: list(reversed(entries)))
    result = _search(tmp_path, minutes=2.75, heads=("lda", "ridge", "centroid"), limit=1000)
    assert result.untried and clock.now <= 1000 + 2.75 * 60
    assert len(list((tmp_path / trials.TRIALS).glob("*.json"))) == len(result.trials)
    assert result.best.rows == max(entry.rows for entry in result.trials) == 600


def test_what_there_was_no_time_for_on_more_rows_stays_the_best_where_it_is_surely_better(tried):
    first, last = tried.rungs
    leader, other = first.tried[:2]
    (later,) = (entry for entry in last.tried if entry.candidate == other.candidate)
    above = dataclasses.replace(last, tried=(later,))

    def best(wrong):
        told = np.broadcast_to(leader.trial.validation_labels, leader.trial.validation_predicted.shape).copy()
        right = dataclasses.replace(leader.trial, validation_predicted=told.copy())
        told[..., :wrong] = (told[..., :wrong] + 1) % 10
        worse = dataclasses.replace(other, trial=dataclasses.replace(leader.trial, validation_predicted=told))
        return best_of([dataclasses.replace(first, tried=(dataclasses.replace(leader, trial=right), worse)), above])

    assert best(wrong=100).candidate == leader.candidate and best(wrong=100).rows == 200
    assert best(wrong=1) is later
    assert best_of([]) is None and best_of([first, dataclasses.replace(last, tried=())]) is leader


def test_sizes_whose_passes_would_take_too_long_are_named(tried, tmp_path, monkeypatch):
    monkeypatch.setattr(halving.Halving, "_whole_way", lambda self, of_pass, limit: 90 * of_pass.values[0])
    result = _search(tmp_path, image_size=(64, 32), minutes=120)
    assert {entry.candidate.image_size for entry in result.trials} == {32}
    assert "64 px (its passes would have taken 1 h 36 min)" in result.untried


def test_a_few_seconds_end_soon_with_an_answer(tried, tmp_path):
    result = _search(tmp_path, minutes=0.001, image_size=(32, 64))
    assert len(result.trials) == 1 and result.saved.result.metrics.n == 100
    assert "any of the" in result.untried or "of the 6 configurations" in result.untried


def test_the_command_in_the_answer_makes_the_winner(tried, shared, capsys, monkeypatch, tmp_path):
    words = shlex.split(tried.command)
    assert words[:3] == ["python", "-m", "classify"]
    made = set(shared[1].glob("*.json"))
    assert main(words[3:]) == 0
    assert set(shared[1].glob("*.json")) == made and "1 of 1 rows stood in" in capsys.readouterr().out


def test_its_table_has_the_best_of_the_most_rows_first(tried):
    first, last = tried.rungs
    turned = dataclasses.replace(tried, rungs=(first, dataclasses.replace(last, tried=last.tried[::-1])))
    for result in (tried, turned):
        above = [entry.candidate for entry in result.rungs[1].tried]
        ranked = [*above, *(entry.candidate for entry in first.tried if entry.candidate not in above)]
        shown = [(row["layer"], row["head"], row["rows"]) for row in result.tables[0].records()]
        rows = [400] * len(above) + [200] * (len(ranked) - len(above))
        assert shown == [(entry.layer, entry.head, count) for entry, count in zip(ranked, rows, strict=True)]


def test_its_document_holds_every_trial(tried, shared):
    record = json.loads((shared[1] / f"{tried.stem}.json").read_text())
    assert record["best"]["result"] == tried.saved.path.name and len(record["trials"]) == 8
    assert set(record["trials"][0]) >= {"image_size", "layer", "pool", "head", "rows", "validation", "seconds"}
    assert tried.to_csv().count("\n") == 9 and "| px |" in tried.to_markdown()
    assert [line.x for line in tried.panels[0].lines] == [(200.0, 400.0)] * 2


def test_the_report_shows_it(tried, shared, tmp_path):
    assert main(["report", "--results", str(shared[1]), "--output", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "Search: digits, efficientnet_lite0" in page and "by how far they came" in page
    assert html.escape(tried.sentences[0]) in page


def test_predict_takes_the_winner(tried, shared, tmp_path, capsys):
    from PIL import Image

    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "one.png")
    assert main(["predict", str(tmp_path / "one.png"), "--from", str(shared[1])]) == 0
    assert "one.png" in capsys.readouterr().out


def test_neighbouring_stages_are_joined_and_sizes_follow_the_images(home):
    assert joins(("maxpool", "layer1", "layer2", "avgpool", "fc")) == ("maxpool+layer1", "layer1+layer2")
    assert joins(("avgpool", "fc")) == ()
    assert usual(Request(dataset="digits")) == {"image_size": (32, 64, 112), "views": (1, 4)}


def test_views_are_tried_beside_the_images_alone(tried, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = _search("results", views=3, test_views=2, heads="ridge", layers="avgpool", limit=250)
    assert sorted(entry.candidate.views for entry in result.trials) == [1, 3]
    made = {entry.candidate.views: entry.trial.config for entry in result.trials}
    assert (made[1].views, made[1].test_views) == (None, 1)
    assert (made[3].views, made[3].test_views) == ("3 shift rotate scale", 2)
    (saved,) = load_results("results")
    words = shlex.split(result.command)[3:]
    assert ("--views" in words) == (result.best.candidate.views == 3)
    assert main(words) == 0
    assert [again.path for again in load_results("results")] == [saved.path]


def test_a_size_that_the_network_cannot_take_is_left_out_unless_it_is_named(tried, tmp_path, monkeypatch):
    planned = halving.plan

    def plan(request):
        if request.image_size == 64:
            raise UserError("this network wants 32 pixels")
        return planned(request)

    monkeypatch.setattr(halving, "plan", plan)
    monkeypatch.setattr("classify.experiments.search.search.usual", lambda _: {"image_size": (32, 64), "views": (1,)})
    result = _search(tmp_path, image_size=None, heads="ridge", limit=250)
    assert "64 px cannot be tried: this network wants 32 pixels" in result.notes
    with pytest.raises(UserError, match="wants 32 pixels"):
        _search(tmp_path, image_size=(32, 64))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"minutes": 0}, "--search 0: give the minutes"),
        ({"minutes": float("inf")}, "--search inf: give the minutes"),
        ({"heads": ("rige",)}, "did you mean ridge"),
        ({"pools": "none"}, "no head of a search"),
        ({"test": "cv:5"}, "leave one of --test and --search out"),
        ({"limit": 1}, "needs two to tell apart|needs two: one to train on"),
        ({"layers": "layer9"}, "there is no layer 'layer9'"),
    ],
)
def test_mistakes_are_one_line(tried, tmp_path, changes, words):
    with pytest.raises(UserError, match=words) as caught:
        _search(tmp_path / "results", **changes)
    assert "\n" not in str(caught.value) and not (tmp_path / "results").exists()


def test_mistakes_of_the_command_are_told_without_torch(tmp_path):
    common = "probe --dataset digits --search"
    commands = [f"{common} {minutes}" for minutes in ("0", "-1", "soon", "nan")]
    commands += [
        f"{common} 1 {option}" for option in ("--quick", "--select", "--head2toe", "--no-scores", "--test cv:5")
    ]
    commands += [f"{common} 1 --backbone resnet18 resnet34", f"{common} 1 --weights default random"]
    script = (
        "import sys, contextlib, io\n"
        "import classify.__main__ as classify\n"
        "from features.commands.options import run_command\n"
        f"for command in {commands!r}:\n"
        "    complaint = io.StringIO()\n"
        "    with contextlib.redirect_stderr(complaint):\n"
        "        status = run_command(classify.main, command.split())\n"
        "    said = complaint.getvalue()\n"
        "    assert status == 2 and said.count('\\n') == 1 and '--search' in said, (command, said)\n"
        "    assert 'torch' not in sys.modules, command\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
