"""Charts as values, and that both painters show the same of them: the page's SVG and matplotlib's figures."""

import json
import re

import numpy as np
import pytest

from classify.measure.metrics import measure
from classify.measure.outcome import Result
from classify.show.panels import Level, Line, Panel
from classify.show.placing import place_names
from classify.show.report import svg
from classify.show.report.charts import chart_figure
from classify.show.trade_off import KINDS, trade_off
from classify.show.training import training_panels

AREA = (0.0, 0.0, 400.0, 300.0)


def _row(model, seconds, accuracy, layer="layer2", fitted_on="train"):
    ends = {"accuracy_low": accuracy - 0.01, "accuracy_high": accuracy + 0.01}
    return {
        "model": model,
        "layer": layer,
        "fitted_on": fitted_on,
        "cost_seconds": seconds,
        "accuracy": accuracy,
        **ends,
    }


ROWS = [
    _row("ridge", 0.1, 0.80, fitted_on="train + validation"),
    _row("svm", 0.5, 0.79),
    _row("finetune layer4, bss=0.001", 60.0, 0.9, layer="layer3"),
    _row("scratch", 400.0, 0.7, layer="input"),
    _row("untouched matched", 0.2, 0.3, layer="fc", fitted_on="nothing"),
]


def _boxes(placed, widths):
    for name in placed:
        width = widths[name.text]
        left = name.x - {"start": 0, "middle": width / 2, "end": width}[name.anchor]
        yield left, name.y - 10, left + width, name.y + 2


def test_names_overlap_neither_each_other_nor_a_point_nor_the_edge():
    places = [(20.0 + 30 * number, 280.0 - 25 * number) for number in range(10)]
    points = [*places, *((x + 14, y + 3) for x, y in places)]
    widths = {f"head {number} on layer": 60.0 + 10 * number for number in range(10)}
    placed = place_names(list(widths.items()), places, points, AREA)
    assert len(placed) >= 5
    boxes = list(_boxes(placed, widths))
    for number, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 0 and top >= 0 and right <= 400 and bottom <= 300
        near = places[list(widths).index(placed[number].text)]
        for x, y in points:
            close = abs(x - near[0]) < 13 and abs(y - near[1]) < 13
            assert close or not (left < x < right and top < y < bottom)
        for other in boxes[number + 1 :]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def test_a_name_without_room_is_left_out_and_the_most_accurate_comes_first():
    names = [("first", 300.0), ("last", 300.0)]
    placed = place_names(names, [(190.0, 30.0), (200.0, 30.0)], [], (0.0, 0.0, 400.0, 40.0))
    assert [name.text for name in placed] == ["last"]


def test_the_kind_of_each_model_follows_from_the_registry_of_networks():
    (panel,) = trade_off(ROWS)
    kinds = {name: line.label for line in panel.lines if not line.frontier for name in line.names}
    assert kinds == {
        "ridge on layer2 (refitted)": KINDS[0],
        "svm on layer2": KINDS[0],
        "finetune layer4, bss=0.001": KINDS[1],
        "scratch": KINDS[2],
        "untouched matched": KINDS[3],
    }
    assert panel.frontier[0].names == ("ridge on layer2 (refitted)", "finetune layer4, bss=0.001")
    assert trade_off(ROWS[:1]) == ()


def test_what_is_not_above_the_majority_baseline_is_drawn_and_not_joined():
    own = {**_row("untouched own", 0.05, 0.01, layer="fc"), "above_majority": False}
    (panel,) = trade_off([own, *ROWS])
    assert panel.frontier[0].names == ("ridge on layer2 (refitted)", "finetune layer4, bss=0.001")
    assert any("untouched own" in line.names for line in panel.lines)
    (panel,) = trade_off([{**row, "above_majority": False} for row in ROWS])
    assert panel.frontier[0].names == ("ridge on layer2 (refitted)", "finetune layer4, bss=0.001")


def test_both_painters_show_the_trade_off_with_the_same_names():
    pytest.importorskip("matplotlib")
    from classify.show.figures import panels_figure

    panels = trade_off(ROWS)
    axes = panels_figure("comparison", panels).axes[0]
    page = chart_figure(panels, "time", "Accuracy against time")
    wanted = list(panels[0].frontier[0].names)
    assert sorted(text.get_text() for text in axes.texts) == sorted(wanted)
    assert sorted(re.findall(r'class="label strong halo"[^>]*>([^<]+)<', page.drawings[0])) == sorted(wanted)
    assert (
        page.drawings[0].count("data-tip")
        == len(ROWS)
        == sum(len(line.lines[0].get_xdata()) for line in axes.containers)
    )
    assert [row[-1] for row in page.table[1]] == ["yes", "", "yes", "", ""]
    assert page.table[0][-1] in {line.get_label() for line in axes.get_lines()}


def _trained(losses, validated, kept):
    history = [
        {"epoch": number + 1, "loss": loss, "penalty": 0.0, "seconds": 1.0, "validation_accuracy": accuracy}
        for number, (loss, accuracy) in enumerate(zip(losses, validated, strict=True))
    ]
    return Result({"head": "scratch"}, measure([0, 1], [0, 1]), chosen={"epoch": kept}, extra={"history": history})


def test_both_painters_ring_the_epoch_that_was_kept():
    pytest.importorskip("matplotlib")
    from classify.show.figures import panels_figure

    networks = [
        ("one", _trained([2.0, 1.0, 0.9], [0.5, 0.95, 0.91], 2)),
        ("none", Result({"head": "ridge"}, measure([0, 1], [0, 1]))),
    ]
    loss, validated = panels = training_panels(networks)
    assert loss.lines[0].y == (2.0, 1.0, 0.9) and validated.lines[0].y == pytest.approx((50, 95, 91))
    page = chart_figure(panels, "training", "Training")
    assert all(drawing.count("<circle") == 2 + 6 + 1 for drawing in page.drawings)
    assert page.table == (
        ("epoch", "", "training loss", "validation accuracy, %"),
        (("1", "one", "2", "50.00"), ("2", "one", "1", "95.00"), ("3", "one", "0.9", "91.00")),
    )
    for axes, height in zip(panels_figure("training", panels).axes, (1.0, 95.0), strict=True):
        (ring,) = [line for line in axes.get_lines() if line.get_markersize() == 10]
        assert ring.get_xdata() == [2.0] and ring.get_ydata() == [height]
    assert training_panels([("none", Result({"head": "ridge"}, measure([0, 1], [0, 1])))]) == ()
    # The last training of a network on folds is validated by none of its epochs.
    unseen = [("folds", _trained([2.0, 1.0], [None, None], 2))]
    (loss,) = training_panels(unseen)
    assert loss.y == "training loss" and chart_figure((loss,), "training", "Training").table[0][-1] == loss.y
    assert [len(panel.lines) for panel in training_panels([*networks, *unseen])] == [2, 1]


def test_a_panel_of_0_1_0_is_written_as_it_was():
    panel = Panel("t", "x", "y", (Line("a", (1.0,), (2.0,)),), levels=(3.0, Level("named", 4.0)))
    line = {"label": "a", "x": [1.0], "y": [2.0], "low": [], "high": [], "dashed": False}
    level = {"label": "named", "y": 4.0, "dashed": False}
    fields = {"title": "t", "x": "x", "y": "y", "lines": [line], "log": False, "ticks": [], "levels": [3.0, level]}
    assert json.loads(json.dumps(panel.to_json())) == fields


def test_a_level_without_a_name_takes_no_place_in_the_legend():
    panel = Panel("", "stage", "accuracy, %", (Line("a", (1.0, 2.0), (2.0, 3.0)),), levels=(2.5,))
    for drawing in chart_figure([panel], "n", "t").drawings:
        assert drawing.count("dotted") == 1 and "><g/>" not in drawing


@pytest.mark.parametrize(("low", "high"), [(0.0, 100.0), (89.0, 99.99), (97.2, 98.9), (55.0, 55.0), (0.0, 0.0)])
@pytest.mark.parametrize("right", [True, False])
def test_accuracies_keep_their_order_inside_the_frame(low, high, right):
    scale = svg.accuracies(low, high, 300.0, 20.0, right)
    places = [scale(value) for value in np.linspace(low, high, 30)]
    assert all(20.0 <= place <= 300.0 for place in places)
    assert all(after <= before + 1e-9 for before, after in zip(places, places[1:], strict=False))
    assert len(scale.ticks) >= 2 and scale.low <= low and scale.high >= min(high, 99.99)


def test_a_scale_of_errors_has_even_steps():
    scale = svg.accuracies(90, 99.9, 0.0, 100.0, mostly_right=True)
    assert scale(99) - scale(90) == pytest.approx(scale(99.9) - scale(99))


def test_between_counts_there_are_no_ticks():
    assert svg.linear(1, 2, 0.0, 100.0, whole=True).ticks == (1, 2)
    assert len(svg.linear(1, 2, 0.0, 100.0).ticks) > 2
    panel = Panel("", "epochs", "loss", (Line("finetune fc", (1, 2), (0.5, 0.25)),))
    drawing = chart_figure([panel], "n", "t").drawings[0]
    assert re.findall(r'text-anchor="middle">([\d.]+)<', drawing) == ["1", "2"]
