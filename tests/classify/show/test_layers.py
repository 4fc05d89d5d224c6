"""Accuracy by layer and by image size, as panels: what is drawn of a probe's rows."""

import pytest

from classify.show.layers import SIZE, LayerRow, layer_panels


def _row(layer, size, head="ridge", validation=0.5, accuracy=0.5, kind="layer", pool="avg", network=""):
    sized = f"{pool} {size} px" if size else pool
    return LayerRow(kind, layer, sized, head, validation, (accuracy, accuracy - 0.1, accuracy + 0.05), network, size)


def test_of_one_size_the_layers_stand_along_x():
    (panel,) = layer_panels([_row("layer1", 0), _row("layer2", 0), _row("layer2", 0, "knn")])
    assert [line.label for line in panel.lines] == ["ridge", "knn"]
    assert [text for _, text in panel.ticks] == ["layer1", "layer2"]


def test_of_several_sizes_each_layer_is_a_line_under_the_head_best_on_validation():
    rows = [
        _row("layer1", 64, "ridge", validation=0.7, accuracy=0.6),
        _row("layer1", 64, "knn", validation=0.6, accuracy=0.9),  # better on the test set, which chooses nothing
        _row("layer1", 32, "knn", validation=0.8, accuracy=0.75),
        _row("layer2", 32, accuracy=0.5),
        _row("layer2", 64, accuracy=0.55),
        _row("layer2", 128, accuracy=0.65),
        _row("layer2", 128, accuracy=0.1, kind="random"),
        LayerRow("pixels", "pixels", "", "knn", 0.4, (0.45, 0.4, 0.5)),
    ]
    (panel,) = layer_panels(rows)
    assert panel.x.startswith(SIZE) and [text for _, text in panel.ticks] == ["32", "64", "128"]
    first, second = panel.lines
    assert first.label == "layer1" and first.y == pytest.approx((75, 60))
    assert first.names == ("layer1 with knn", "layer1 with ridge")
    assert second.label == "layer2" and second.y == pytest.approx((50, 55, 65))
    assert second.low == pytest.approx((40, 45, 55)) and second.high == pytest.approx((55, 60, 70))
    assert [round(x) for x in second.x] == [0, 1, 2] and len({*first.x, *second.x}) == 5, "none lies on another"
    assert [level.label for level in panel.levels] == ["raw pixels, knn"]


def test_sizes_have_a_panel_for_each_network_and_pooling():
    rows = [
        _row("layer1", size, pool=pool, network=network)
        for size in (32, 64)
        for pool in ("avg", "max")
        for network in ("a", "b")
    ]
    panels = layer_panels(rows)
    assert [panel.x.removeprefix(f"{SIZE}, ") for panel in panels] == [
        "a, avg pooling", "b, avg pooling", "a, max pooling", "b, max pooling"
    ]  # fmt: skip
