"""Tables in all their forms, and what stands in the tables of a run."""

import csv
import io
import json
import re
import sys

import numpy as np
import pytest

from classify.experiments.run import RunOutcome
from classify.measure.intervals import wilson_interval
from classify.measure.metrics import measure
from classify.measure.results import Result
from classify.measure.wording import duration, percent_interval, settings
from classify.show.columns import majority_note
from classify.show.report.page import numeric
from classify.show.table import Column, Table, pivot, show
from classify.show.tables import layer_by_head, summary_table
from features.errors import UserError


@pytest.fixture
def table():
    return Table(
        "Accuracy",
        (
            Column("layer", align="left"),
            Column("accuracy", "accuracy %", format=percent_interval, parts=("", "low", "high")),
        ),
        (("layer3", (0.9842, 0.9816, 0.9866)), ("a|b <i>", (0.5, 0.4, 0.6)), ("none", None)),
        ("± half the interval",),
    ).best("accuracy", note="best")


def test_plain_text(table):
    assert str(table).splitlines() == [
        "Accuracy",
        "",
        "layer       accuracy %",
        "-------  -------------",
        "layer3    98.42 ±0.25*",
        "a|b <i>  50.00 ±10.00",
        "none                -",
        "± half the interval",
        "* best",
    ]


def test_markdown(table):
    lines = table.to_markdown().splitlines()
    assert lines[2:5] == ["| layer | accuracy % |", "| --- | ---: |", "| layer3 | **98.42 ±0.25** |"]
    assert "a\\|b &lt;i&gt;" in lines[5]
    assert lines[-1] == "± half the interval; bold: best"


def test_csv_and_json_hold_full_numbers(table):
    rows = list(csv.DictReader(io.StringIO(table.to_csv())))
    assert rows[0] == {"layer": "layer3", "accuracy": "0.9842", "accuracy_low": "0.9816", "accuracy_high": "0.9866"}
    assert rows[2]["accuracy"] == rows[2]["accuracy_low"] == ""
    loaded = json.loads(json.dumps(table.to_json(), allow_nan=False))
    assert loaded["rows"][1] == {"layer": "a|b <i>", "accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6}
    assert loaded["rows"][2]["accuracy_high"] is None


@pytest.mark.parametrize(
    ("correct", "n", "text"),
    [
        (590, 599, "98.50 ±1.02"),
        (598, 599, "99.83 +0.14/-0.77"),
        (60, 60, "100.00 -6.02"),
        (0, 10_000, "0.00 +0.04"),
        (1, 10, "10.00 +30.42/-8.21"),
        (99_999, 100_000, "100.00 ±0.00"),
    ],
)
def test_no_interval_promises_more_than_all_or_less_than_none(correct, n, text):
    estimate = (correct / n, *wilson_interval(correct, n))
    assert percent_interval(estimate) == text
    assert numeric(["accuracy"], [[text]]) == {"accuracy"}


def test_an_interval_over_seeds_is_cut_where_accuracies_end():
    assert percent_interval((0.95, 0.5, 1.4)) == "95.00 +5.00/-45.00"
    assert percent_interval((1.0, 1.0, 1.0)) == "100.00"


def test_the_majority_baseline_names_the_class_as_one():
    metrics = measure(np.array([0, 1, 1, 1]), np.array([0, 1, 1, 0]), classes=("0", "1"))
    assert majority_note(metrics) == "majority baseline: 75.00 % (always class '1')"


def test_html_is_escaped(table):
    assert '<td style="text-align: left; white-space: nowrap">a|b &lt;i&gt;</td>' in table.to_html()
    # A header stands above its column, and a table that is too wide scrolls in its cell.
    assert re.search(
        r'^<div style="overflow-x: auto"><table>.*<th scope="col" style="text-align: right', table.to_html()
    )
    assert "<b>98.42 ±0.25</b>" in table._repr_html_()


def test_latex_is_escaped_and_compiles_as_it_stands(table):
    text = table.to_latex().splitlines()
    assert text[0] == "% Accuracy" and "\\toprule" in text and text[-1] == "\\end{tabular}"
    assert "layer & accuracy \\% \\\\" in text
    assert "layer3 & \\textbf{98.42 $\\pm$0.25} \\\\" in text
    assert "a|b $<$i$>$ & 50.00 $\\pm$10.00 \\\\" in text
    odd = Table("", (Column("a_b&c"),), (("50% of {x}~\\^#$",),)).to_latex()
    assert "a\\_b\\&c" in odd and "50\\% of \\{x\\}\\textasciitilde{}\\textbackslash{}\\textasciicircum{}\\#\\$" in odd


def test_pandas_gets_full_numbers(table, monkeypatch):
    frame = table.to_pandas()
    assert list(frame.columns) == ["layer", "accuracy", "accuracy_low", "accuracy_high"]
    assert frame["accuracy"][0] == 0.9842 and frame["accuracy"].isna()[2]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="pip install pandas"):
        table.to_pandas()


def test_a_table_says_in_a_line_what_it_is(table):
    assert repr(table) == "<Table 3 x 2: layer, accuracy>"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_a_terminal_gets_colours_and_a_log_does_not(table, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    markup = Table("[red]t", (Column("c", "[bold]h"),), (("[blink]x\x1b[31m",),))
    monkeypatch.delenv("COLUMNS", raising=False)
    terminal, log = Terminal(), io.StringIO()
    show(table, markup, stream=terminal)
    show(table, markup, stream=log)
    assert re.search("\x1b\\[1;32m *98.42 ±0.25", terminal.getvalue())
    for each in (terminal, log):
        assert "[blink]x?[31m" in each.getvalue() and "[bold]h" in each.getvalue()
    assert "\x1b" not in log.getvalue()
    assert log.getvalue() == f"{table}\n{markup}\n"


def test_a_log_is_as_wide_as_columns_says_where_it_is_set(monkeypatch):
    heads = Column("head", align="left")
    wide = Table("heads", (heads, Column("accuracy"), Column("seconds")), (("logistic on layer3", 0.98, 12.5),))
    wide = wide.best("accuracy", note="best")
    logs = []
    for columns in ("30", "0", "wide"):
        monkeypatch.setenv("COLUMNS", columns)
        logs.append(io.StringIO())
        show(wide, "a sentence that is told of a state-of-the-art network", stream=logs[-1])
    narrow, *whole = (log.getvalue() for log in logs)
    lines = narrow.splitlines()
    assert max(map(len, lines)) <= 30 and "\x1b" not in narrow and "─" not in narrow
    assert "logistic on layer3" in narrow and "0.98*" in narrow and "* best" in lines and "seconds" not in lines[2]
    assert "no room for seconds" in narrow and "state-of-the-art" in narrow
    assert whole == [f"{wide}\na sentence that is told of a state-of-the-art network\n"] * 2


def test_tables_and_sentences_name_the_command_as_it_was_typed(monkeypatch):
    monkeypatch.setattr("features.commands.program._console", "layerprobe")
    table = Table("", (Column("a"),), ((1,),), ("`python -m classify probe` makes more",))
    for stream in (Terminal(), io.StringIO()):
        show(table, "next: python -m features remove x", stream=stream)
        assert "`layerprobe probe` makes" in stream.getvalue() and "layerprobe features remove x" in stream.getvalue()


def test_a_log_that_knows_only_ascii_gets_ascii(table):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    show(table, stream=stream)
    stream.flush()
    assert b"98.42 +-0.25*" in raw.getvalue()


def test_best_marks_ties_and_the_smallest_where_asked():
    table = Table("", (Column("seconds"),), ((2.0,), (1.0,), (None,), (1.0,)))
    assert table.best("seconds", largest=False).marked == {(1, 0), (3, 0)}
    assert table.best("seconds").marked == {(0, 0)}
    empty = Table("", (Column("seconds"),), ((None,),))
    assert empty.best("seconds", note="best") == empty
    with pytest.raises(KeyError, match="seconds"):
        table.best("minutes")


def test_pivot():
    long = Table(
        "t",
        (
            Column("layer"),
            Column("head"),
            Column("accuracy", format=lambda value: "-" if value is None else f"{value}!"),
        ),
        (("a", "svm", 1), ("b", "svm", 2), ("a", "knn", 3)),
    )
    wide = pivot(long, "layer", "head", "accuracy")
    assert [column.name for column in wide.columns] == ["layer", "svm", "knn"]
    assert wide.rows == (("a", 1, 3), ("b", 2, None))
    assert wide.cells() == [["a", "1!", "3!"], ["b", "2!", "-"]]
    with pytest.raises(ValueError, match="two rows for head svm"):
        pivot(Table("t", long.columns, (*long.rows, ("a", "svm", 4))), "layer", "head", "accuracy")


def test_rows_and_columns_must_fit():
    with pytest.raises(ValueError, match="row 1 has 1 cells"):
        Table("t", (Column("a"), Column("b")), ((1, 2), (1,)))
    with pytest.raises(ValueError, match="names of their own"):
        Table("t", (Column("a"), Column("a")), ())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0034, "3.4 ms"),
        (0.25, "250 ms"),
        (0.9999, "1.0 s"),
        (12.34, "12.3 s"),
        (59.97, "1 min 00 s"),
        (75, "1 min 15 s"),
        (3599.9, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (None, "-"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_hyper_parameters_are_short():
    assert settings({"C": 0.0316227766, "gamma": "scale", "k": 5}) == "C=0.03162, gamma=scale, k=5"


def _result(layer, head, right, validation=None, classes=3, converged=True, **config):
    labels = np.arange(60) % classes
    predicted = np.where(np.arange(60) < right, labels, (labels + 1) % classes)
    return Result(
        config={"dataset": "digits", "layer": layer, "head": head, "seed": 0, **config},
        metrics=measure(labels, predicted, classes=[f"class {label}" for label in range(classes)]),
        chosen={"C": 1.0},
        validation_accuracy=validation,
        converged=converged,
        seconds={"fit": 2.0, "extract": 61.0},
        keys={"train": {"layer": layer}},
    )


def test_layer_by_head_marks_what_validation_chose_and_not_what_test_liked():
    results = [
        _result("layer2", "svm", 50, 0.8),
        _result("layer3", "svm", 40, 0.9),
        _result("layer2", "knn", 30, 0.7),
    ]
    table = layer_by_head(results)
    assert [column.name for column in table.columns] == ["layer", "svm", "knn"]
    assert [row[0] for row in table.rows] == ["layer2", "layer3"]
    assert table.rows[0][1][0] == pytest.approx(50 / 60)
    assert table.rows[1][2] is None
    assert table.marked == {(1, 1), (0, 2)}
    assert layer_by_head([_result("layer2", "svm", 50)]).marked == frozenset()


def test_configurations_that_differ_otherwise_stay_apart():
    results = [_result("layer2", "svm", 50, seed=0), _result("layer2", "svm", 40, seed=1, limit=10)]
    table = layer_by_head(results)
    assert [column.name for column in table.columns] == ["layer", "seed", "limit", "svm"]
    assert [row[:3] for row in table.rows] == [("layer2", 0, None), ("layer2", 1, 10)]
    assert "seed" in summary_table(results).to_csv().splitlines()[0].split(",")
    assert "seed" not in summary_table(results[:1]).to_csv()


def test_summary_says_what_did_not_converge():
    table = summary_table([_result("layer2", "svm", 50, 0.8), _result("layer3", "svm", 55, 0.7, converged=False)])
    assert "1 of 2 solvers stopped before converging" in str(table)
    assert table.marked == {(0, table.index("validation"))}
    assert table.column("fit_seconds") == (2.0, 2.0)
    assert "C=1" in table.to_csv()
    assert "2.0 s" in str(table)


def test_report_of_few_classes_shows_all():
    report = RunOutcome((_result("layer2", "svm", 50),))
    text = str(report)
    assert "83.33 % (95 % interval" in text and "cache keys" in text and "converged" in text
    classes, confusion = report.tables
    assert len(classes.rows) == 3
    assert confusion.rows[0] == ("class 0", 17, 3, 0)
    assert "17" in report.to_markdown() and "<table>" in report._repr_html_()


def test_report_of_many_classes_shows_the_worst():
    labels = np.repeat(np.arange(30), 10)
    predicted = labels.copy()
    predicted[50:57] = 6  # seven of class 5 taken for class 6
    predicted[70] = 8
    result = Result(config={"dataset": "d"}, metrics=measure(labels, predicted, classes=[str(i) for i in range(31)]))
    classes, confused = RunOutcome((result,)).tables
    assert len(classes.rows) == 10
    # Class 30 occurs nowhere: it is not among the worst.
    assert [row[0] for row in classes.rows[:2]] == ["5", "6"]
    assert "30" not in classes.column("class")
    assert confused.rows == (("5", "6", 7, 0.7), ("7", "8", 1, 0.1))


def test_a_report_prints_in_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal()
    report = RunOutcome((_result("layer2", "svm", 60),))
    show(*report.sentences, *report.tables, stream=terminal)
    assert "100.00 % (95 % interval" in terminal.getvalue()
