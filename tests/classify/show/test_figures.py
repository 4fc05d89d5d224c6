"""The probe's figure: what is drawn, and into which files."""

import re
import sys
from pathlib import Path

import pytest

from classify.experiments.probe.answer import ProbeResult
from classify.experiments.probe.found import ProbeRow, Standing
from classify.measure.metrics import measure
from classify.measure.outcome import Result
from classify.measure.results import SavedResult
from classify.show.figures import panels_figure, save_figure
from classify.show.panels import Level, Line, Panel
from classify.show.placing import text_width
from classify.show.report.charts import chart_figure
from features.errors import UserError

pytest.importorskip("matplotlib")


def _row(kind, layer, head, right, pool="avg", total=1000):
    labels = [number % 10 for number in range(total)]
    predicted = [label if number < right else (label + 1) % 10 for number, label in enumerate(labels)]
    weights = "random (seed 0)" if kind == "random" else "some.pth"
    config = {"dataset": "mnist", "backbone": "resnet18", "weights": weights, "image_size": 64}
    config |= {"layer": layer, "head": head, "pool": pool, "kind": kind}
    metrics = measure(labels, predicted)
    result = Result(
        config, metrics, validation_accuracy=right / total, rows={"validation": 100}, extra={"features": 64}
    )
    return ProbeRow(kind, SavedResult(Path("none.json"), result, {}))


def _result(rows):
    best = max((row for row in rows if row.kind == "layer"), key=lambda row: row.validation)
    standings = tuple(Standing(row, None, 256, None) for row in rows if row.kind == "layer")
    return ProbeResult({}, tuple(rows), best, standings, None, None, (), None, Path())


@pytest.fixture
def result():
    rows = [
        _row("layer", layer, head, right)
        for layer, rights in (("layer1", (800, 850)), ("layer2", (950, 990)), ("fc", (900, 1000)))
        for head, right in zip(("ridge", "knn"), rights, strict=True)
    ]
    rows += [_row("random", layer, "ridge", 700) for layer in ("layer1", "layer2", "fc")]
    return _result([*rows, _row("pixels", "pixels", "ridge", 860, ""), _row("shuffled", "layer1", "ridge", 100)])


def _heights(line):
    return [round(float(value), 3) for value in line.get_ydata()]


def test_every_head_is_a_solid_line_of_its_accuracies_and_controls_are_dashed(result):
    panel = result.plot().axes[0]
    lines = {each.get_label(): each.lines[0] for each in panel.containers}
    assert _heights(lines["ridge"]) == [80, 95, 90]
    # 100 % has no place on a scale of errors and is drawn at its end.
    assert _heights(lines["knn"]) == [85, 99, 99.99]
    assert _heights(lines["ridge, random weights"]) == [70, 70, 70]
    assert lines["ridge"].get_linestyle() == "-" and lines["ridge, random weights"].get_linestyle() == "--"
    assert lines["ridge"].get_color() != lines["knn"].get_color()
    assert lines["ridge"].get_marker() != lines["knn"].get_marker()
    assert {
        line.get_label(): _heights(line)[0] for line in panel.lines if line.get_label().startswith(("raw", "shuf"))
    } == {
        "raw pixels, ridge": 86,
        "shuffled labels": 10,
    }
    assert [text.get_text() for text in panel.get_xticklabels()] == ["layer1", "layer2", "fc"]


def test_intervals_are_those_of_the_results(result):
    panel = result.plot().axes[0]
    ridge = next(each for each in panel.containers if each.get_label() == "ridge")
    ends = [segment[:, 1].round(6).tolist() for segment in ridge.lines[2][0].get_segments()]
    rows = [row for row in result.rows if row.kind == "layer" and row.head == "ridge"]
    assert ends == [[round(100 * end, 6) for end in row.result.metrics.accuracy_interval] for row in rows]


def test_poolings_stand_in_panels_of_their_own():
    rows = [_row("layer", "layer1", "ridge", 500, pool) for pool in ("avg", "grid:2", "max")]
    panels = _result(rows).plot().axes
    assert [panel.get_xlabel() for panel in panels] == [f"layer, {pool} pooling" for pool in ("avg", "grid:2", "max")]
    assert panels[0].get_yscale() == "linear" and panels[0].get_ylim() == (0, 100)


def test_png_and_svg_are_written_and_nothing_in_them_changes_with_the_clock(result, tmp_path):
    result.plot(tmp_path / "probe-mnist.v1")
    png, svg = (tmp_path / f"probe-mnist.v1.{ending}" for ending in ("png", "svg"))
    assert png.read_bytes().startswith(b"\x89PNG") and "<svg" in svg.read_text()
    assert not re.search(r"<dc:date>", svg.read_text())
    result.plot(tmp_path / "alone.svg")
    assert not (tmp_path / "alone.png").exists()


def test_a_place_that_cannot_be_written_is_named(result, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written there"):
        result.plot(tmp_path / "file" / "figure.png")


def test_without_matplotlib_the_way_to_it_is_said(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"pip install 'layerprobe\[figures\]'"):
        result.plot()


def test_names_of_anybody_are_drawn_as_they_are(tmp_path, monkeypatch):
    import matplotlib

    lines = (
        Line(r"a $\bad{$", (0.0, 1.0), (1.0, 2.0), names=("$", r"\$x$"), frontier=True),
        Line("$b$", (0.5,), (1.5,)),
    )
    panel = Panel(r"$\foo$", "$x$", "$", lines, ticks=((0.0, "$0$"), (1.0, "$")), levels=(Level("$l$", 1.2),))
    # As a matplotlibrc in the working folder would have it: a program would be started for each text.
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)
    (path,) = save_figure(panels_figure("$", (panel,)), tmp_path / "figure.svg")
    assert path.stat().st_size > 1000 and matplotlib.rcParams["text.usetex"]


def _line(label, ys, ends=(), **more):
    low, high = ends or ((), ())
    return Line(label, tuple(map(float, range(len(ys)))), tuple(ys), tuple(low), tuple(high), **more)


def test_panels_that_measure_the_same_have_the_same_axes():
    panels = [
        Panel("noise", "severity", "accuracy, %", (_line("svm", (90.0, 20.0, 10.0, 5.0)),)),
        Panel("blur", "severity", "accuracy, %", (_line("svm", (90.0, 85.0, 80.0)),)),
        Panel("norm", "severity", "relative gradient norm", (_line("svm", (0.1, 0.2)),)),
        Panel("other", "stage", "accuracy, %", (_line("svm", (50.0, 60.0)),)),
    ]
    noise, blur, norm, other = panels_figure("robustness", tuple(panels)).axes
    assert noise.get_ylim() == blur.get_ylim() == other.get_ylim() != norm.get_ylim()
    assert noise.get_xlim() == blur.get_xlim() == norm.get_xlim() != other.get_xlim()
    assert noise.get_ylim()[0] < 5 and noise.get_ylim()[1] > 90 and norm.get_ylim()[1] < 1
    # On the page, where each has a figure of its own, too.
    alone, beside = (chart_figure(panels[1:2], "b", "blur", beside=others).drawings[0] for others in ((), panels))
    ticks = [re.findall(r'text-anchor="end">([\d.]+)<', drawing) for drawing in (alone, beside)]
    assert float(ticks[0][0]) >= 70 and float(ticks[1][0]) == 0
    whole = chart_figure(panels[:1], "n", "noise", beside=panels).drawings[0]
    assert re.findall(r'text-anchor="end">([\d.]+)<', whole) == ticks[1]


def test_what_is_not_drawn_is_in_no_legend():
    best = Line("best for the time", (1.0,), (90.0,), names=("svm",), frontier=True)
    of_one_seed = _line("ridge", (80.0, 90.0), ((80.0, 90.0), (80.0, 90.0)))
    panel = Panel("", "x", "y", (of_one_seed, _line("unseen", ()), best), levels=(85.0,))
    figure = panels_figure("title", (panel,))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ridge"]
    (container,) = figure.axes[0].containers
    assert not container.has_yerr
    for drawing in chart_figure([panel], "n", "title").drawings:
        assert "best for the time<" not in drawing and "unseen" not in drawing and ">ridge<" in drawing


def test_a_panel_without_a_point_is_left_out():
    panels = (
        Panel("", "epoch", "validation accuracy, %", (_line("svm", ()),), errors=True),
        Panel("", "epoch", "training loss", (_line("svm", (2.0, 1.0)),)),
    )
    (axes,) = panels_figure("training", panels).axes
    assert axes.get_ylabel() == "training loss"
    drawing = chart_figure(panels, "n", "training").drawings[0]
    assert "training loss" in drawing and "validation" not in drawing
    with pytest.raises(UserError, match="nothing to draw"):
        panels_figure("training", panels[:1])


@pytest.mark.parametrize("names", [("a", "b", "c"), tuple(f"from webcam to amazon {n}" for n in range(7))])
def test_texts_along_x_do_not_touch_each_other(names):
    panel = Panel(
        "", "x", "y", (_line("svm", range(len(names))),), ticks=tuple(zip(map(float, range(9)), names, strict=False))
    )
    figure = panels_figure("title", (panel,))
    figure.draw_without_rendering()
    labels = figure.axes[0].get_xticklabels()
    turned = {label.get_rotation() for label in labels}
    assert turned == ({0.0} if len(names) == 3 else {35.0})
    if turned == {0.0}:
        boxes = [label.get_window_extent() for label in labels]
        assert all(after.x0 > before.x1 for before, after in zip(boxes, boxes[1:], strict=False))


def test_texts_of_a_logarithmic_scale_do_not_touch_each_other_on_a_phone():
    ticks = tuple((float(size), f"{size:,} images") for size in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000))
    line = Line("svm", tuple(at for at, _ in ticks), tuple(50.0 + n for n in range(10)))
    narrow = chart_figure([Panel("", "x", "y", (line,), log=True, ticks=ticks)], "n", "t").drawings[1]
    texts = re.findall(r'<text x="([\d.]+)" y="[\d.]+" class="label" text-anchor="middle">([\d,]+ images)<', narrow)
    places = [(float(at), text_width(text) / 2) for at, text in texts]
    assert len(places) > 2
    assert all(
        at + half <= after - next_half for (at, half), (after, next_half) in zip(places, places[1:], strict=False)
    )
