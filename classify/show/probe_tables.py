"""The tables of a probe. Results are read here, never computed."""

import math

from classify.experiments.probe.answer import ProbeResult
from classify.experiments.standing import ProbeRow, Standing
from classify.measure.wording import MISSING, count, decimal, duration, percent, percent_interval
from classify.show.table import Column, Table

_NAMES = {
    "pca": "PCA",
    "projection": "random projection",
}


def shown_tables(result: ProbeResult) -> tuple[Table, ...]:
    """All tables of a probe that have something to say, the most important first."""
    tables = [layers_table(result), standings_table(result)]
    if any(row.kind == "pca" for row in result.rows):
        tables.append(widths_table(result))
    if result.scores:
        tables.append(scores_table(result))
        if len(result.scores.cka_layers) > 1:
            tables.append(cka_table(result))
    return tuple(tables)


def rows_table(result: ProbeResult) -> Table:
    """One line for every row, controls among them; what `--csv` writes."""
    columns = (
        Column("kind", align="left"),
        Column("layer", align="left"),
        Column("pool", align="left"),
        Column("head", align="left"),
        Column("features", format=count),
        Column("validation", "validation %", format=percent),
        Column("accuracy", "accuracy %", format=percent_interval, parts=("", "low", "high")),
        Column("macro_f1", "macro F1 %", format=percent),
        Column("search_seconds", "search", format=duration),
        Column("fit_seconds", "fit", format=duration),
    )
    rows = tuple(
        (
            row.kind,
            row.layer,
            row.pool,
            row.head,
            row.width,
            row.validation,
            _estimate(row),
            row.result.metrics.macro_f1,
            row.result.seconds.get("search"),
            row.result.seconds.get("fit"),
        )
        for row in result.rows
    )
    return Table("All rows", columns, rows)


def layers_table(result: ProbeResult) -> Table:
    """Layers x heads, and beside each row its controls."""
    plain = [row for row in result.rows if row.kind in ("layer", "selection", "head2toe")]
    pixels = [row for row in result.rows if row.kind == "pixels"]
    kinds = {row.kind for row in result.rows}
    columns = [
        Column("layer", align="left"),
        Column("pool", align="left"),
        Column("head", align="left"),
        Column("features", "numbers", format=count),
        Column("validation", "validation %", format=percent),
        Column("accuracy", "test %", format=percent_interval, parts=("", "low", "high")),
        Column("random", "random weights %", format=percent),
        Column("shuffled", "shuffled labels %", format=percent),
        Column("selectivity", "selectivity", format=_points),
        Column("seconds", "search + fit", format=duration),
    ]
    rows = []
    for row in [*plain, *pixels]:
        random = result.find("random", row) if row.kind != "pixels" else None
        shuffled = result.find("shuffled", row) if row.kind != "pixels" else None
        rows.append(
            [
                _layer_name(row),
                row.pool or MISSING,
                row.head,
                row.width,
                row.validation,
                _estimate(row),
                random.accuracy if random else None,
                shuffled.accuracy if shuffled else None,
                row.accuracy - shuffled.accuracy if shuffled else None,
                row.seconds,
            ]
        )
    dropped = {"pool"} if len({row.pool for row in plain}) < 2 else set()
    dropped |= {"random"} if "random" not in kinds else set()
    dropped |= {"shuffled", "selectivity"} if "shuffled" not in kinds else set()
    kept = [place for place, column in enumerate(columns) if column.name not in dropped]
    notes = ["test %: accuracy on the test set ± half the width of its 95 % interval"]
    if "selectivity" not in dropped:
        notes.append("selectivity: points above the same head fitted to shuffled labels")
    if unfinished := sum(row.result.converged is False for row in result.rows):
        notes.append(f"{unfinished} of {len(result.rows)} solvers stopped before they converged")
    table = Table(
        "Layers and heads",
        tuple(columns[place] for place in kept),
        tuple(tuple(row[place] for place in kept) for row in rows),
        tuple(notes),
    )
    # Pixels stand last and are no candidate: the mark goes to the best of the others.
    place, column = plain.index(result.best), table.index("validation")
    marked = frozenset({(place, column)})
    return Table(table.title, table.columns, table.rows, (*table.notes, "* best on validation"), marked)


def standings_table(result: ProbeResult) -> Table:
    """Every layer under its best head: what it costs, and whether it differs from the best."""
    columns = (
        Column("layer", align="left"),
        Column("pool", align="left"),
        Column("head", "best head", align="left"),
        Column("accuracy", "test %", format=percent_interval, parts=("", "low", "high")),
        Column("p_value", "p against the best", format=_p_value),
        Column("verdict", "", align="left"),
        Column("gflop", "GFLOP an image", format=lambda value: decimal(value, 2)),
        Column("bytes", "bytes an image", format=count),
    )
    rows = tuple(
        (
            _layer_name(each.row),
            each.row.pool,
            each.row.head,
            _estimate(each.row),
            each.p_value,
            _verdict(each, result),
            None if each.flops is None else each.flops / 1e9,
            each.bytes,
        )
        for each in result.standings
    )
    notes = (
        "best head: on validation; p: of McNemar's mid-p test on the same test images, Holm's correction over layers",
        "GFLOP: up to the layer, a multiply-add counted as two; bytes: of its features in the cache",
    )
    return _without_lone_pool(Table("Against the best", columns, rows, notes))


def widths_table(result: ProbeResult) -> Table:
    """The readings at one common width beside the plain ones."""
    reduced = [row for row in result.rows if row.kind in _NAMES]
    width = min(row.width for row in reduced)
    heads = list(dict.fromkeys(row.head for row in reduced))
    columns = [Column("layer", align="left"), Column("pool", align="left"), Column("features", "numbers", format=count)]
    for head in heads:
        columns.append(Column(f"{head} plain", f"{head} %", format=percent))
        columns += [Column(f"{head} {kind}", f"{head}, {_NAMES[kind]} %", format=percent) for kind in _NAMES]
    places = dict.fromkeys((row.layer, row.pool) for row in reduced)
    rows = []
    for layer, pool in places:
        same = [row for row in result.rows if (row.layer, row.pool) == (layer, pool)]
        cells = [
            next((row.accuracy for row in same if row.kind == kind and row.head == head), None)
            for head in heads
            for kind in ("layer", *_NAMES)
        ]
        plain = next(row.width for row in same if row.kind == "layer")
        rows.append((layer, pool, plain, *cells))
    table = Table(
        f"At one common width: {width} numbers of every layer",
        tuple(columns),
        tuple(rows),
        ("accuracy on the test set; PCA fitted on training rows alone; the projection is Gaussian, drawn once",),
    )
    for name in [column.name for column in table.columns[3:]]:
        values = {row: value for row, value in enumerate(table.column(name)) if value is not None}
        if not values:
            table = _without(table, name)
    return _without_lone_pool(table)


def scores_table(result: ProbeResult) -> Table:
    """Scores of every layer, how well each ranks them, and its seconds beside the probes'."""
    scores = result.scores
    pools = {pool for _, pool in scores.layers}
    names = [f"{layer} {pool}" if len(pools) > 1 else layer for layer, pool in scores.layers]
    columns = (
        Column("score", align="left"),
        *(Column(name, format=_score) for name in names),
        Column("tau", "weighted tau", format=lambda value: decimal(value, 2)),
        Column("seconds", format=duration),
    )
    rows = []
    for row in scores.scores:
        values = (row.values[0] if row.of_network and layer == "fc" else None for layer, _ in scores.layers)
        rows.append((row.title, *(values if row.of_network else row.values), row.tau, row.seconds))
    plain = [row for row in result.rows if row.kind == "layer"]
    best = [max(row.validation for row in plain if (row.layer, row.pool) == layer) for layer in scores.layers]
    rows.append(("probes, best head's validation accuracy", *best, None, sum(row.seconds for row in plain)))
    notes = [
        f"on {scores.rows:,} training rows, stratified, none of them validation or test; higher is better",
        "weighted tau: Kendall's rank correlation with the best head's validation accuracy; seconds: of all layers",
    ]
    if any(row.of_network for row in scores.scores):
        notes.append("LEEP and NCE read the classifier's output: they belong to the network and rank no layers")
    return Table("Scores that need no training", columns, tuple(rows), tuple(notes))


def cka_table(result: ProbeResult) -> Table:
    """Linear CKA between layers."""
    scores = result.scores
    columns = (
        Column("layer", align="left"),
        *(Column(f"{name} ", name, format=lambda value: decimal(value, 2)) for name in scores.cka_layers),
    )
    rows = tuple((name, *values) for name, values in zip(scores.cka_layers, scores.cka, strict=True))
    return Table("How alike the layers are (linear CKA)", columns, rows, ("1 is alike up to rotation and scale",))


def _layer_name(row: ProbeRow) -> str:
    return {"head2toe": f"Head2Toe: {row.layer}", "selection": f"selected: {row.layer}"}.get(row.kind, row.layer)


def _estimate(row: ProbeRow) -> tuple[float, float, float]:
    return (row.accuracy, *row.interval)


def _verdict(standing: Standing, result: ProbeResult) -> str:
    if standing.row is result.best:
        return "best on validation"
    return "not distinguishable" if not standing.distinguishable else "better" if standing.better else "worse"


def _points(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.1f}"


def _p_value(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2g}" if value >= 1e-4 else "< 0.0001"


def _score(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}" if math.fabs(value) < 1000 else f"{value:.4g}"


def _without_lone_pool(table: Table) -> Table:
    return _without(table, "pool") if len(set(table.column("pool"))) == 1 else table


def _without(table: Table, name: str) -> Table:
    place = table.index(name)
    return Table(
        table.title,
        tuple(column for number, column in enumerate(table.columns) if number != place),
        tuple(tuple(cell for number, cell in enumerate(row) if number != place) for row in table.rows),
        table.notes,
    )
