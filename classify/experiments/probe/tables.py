"""The tables of a probe; nothing is computed here."""

import math

from classify.experiments.probe.entries import CANDIDATES
from classify.experiments.probe.found import Found, ProbeRow, Standing
from classify.experiments.probe.scoring import Scores
from classify.measure.wording import MISSING, percent
from classify.show import columns
from classify.show.table import Column, Table

_NAMES = {
    "pca": "PCA",
    "projection": "random projection",
}


def shown_tables(found: Found) -> tuple[Table, ...]:
    """All tables of a probe that have something to say, the most important first."""
    tables = [layers_table(found), standings_table(found)]
    if any(row.kind == "pca" for row in found.rows):
        tables.append(widths_table(found))
    if found.scores:
        tables.append(scores_table(found, found.scores))
        if len(found.scores.cka_layers) > 1:
            tables.append(cka_table(found.scores))
    return tuple(tables)


def rows_table(found: Found) -> Table:
    """One line for every row, controls among them; what `--csv` writes."""
    shown = (
        columns.text("kind"),
        columns.text("layer"),
        columns.text("pool"),
        columns.text("head"),
        columns.number("features"),
        columns.VALIDATION,
        columns.accuracy(),
        columns.MACRO_F1,
        columns.seconds("search_seconds", "search"),
        columns.FIT,
    )
    rows = tuple(
        (
            row.kind,
            row.layer,
            row.pool,
            row.head,
            row.width,
            row.validation,
            row.estimate,
            row.result.metrics.macro_f1,
            row.result.seconds.get("search"),
            row.result.seconds.get("fit"),
        )
        for row in found.rows
    )
    return Table("All rows", shown, rows)


def layers_table(found: Found) -> Table:
    """Layers x heads, and beside each row its controls."""
    plain = found.of_kind(*CANDIDATES)
    pixels = found.of_kind("pixels")
    kinds = {row.kind for row in found.rows}
    shown = [
        columns.text("layer"),
        columns.text("pool"),
        columns.text("head"),
        columns.number("features", "numbers"),
        columns.VALIDATION,
        columns.accuracy(header="test %"),
        columns.share("random", "random weights %"),
        columns.share("shuffled", "shuffled labels %"),
        Column("selectivity", "selectivity", format=_points),
        columns.seconds("seconds", "search + fit"),
    ]
    rows = []
    for row in [*plain, *pixels]:
        random = found.find("random", row) if row.kind != "pixels" else None
        shuffled = found.find("shuffled", row) if row.kind != "pixels" else None
        rows.append(
            [
                _layer_name(row),
                row.pool or MISSING,
                row.head,
                row.width,
                row.validation,
                row.estimate,
                random.accuracy if random else None,
                shuffled.accuracy if shuffled else None,
                row.accuracy - shuffled.accuracy if shuffled else None,
                row.seconds,
            ]
        )
    dropped = {"pool"} if len({row.pool for row in plain}) < 2 else set()
    dropped |= {"random"} if "random" not in kinds else set()
    dropped |= {"shuffled", "selectivity"} if "shuffled" not in kinds else set()
    kept = [place for place, column in enumerate(shown) if column.name not in dropped]
    notes = ["test %: accuracy on the test set ± half the width of its 95 % interval"]
    if "selectivity" not in dropped:
        notes.append("selectivity: points above the same head fitted to shuffled labels")
    if unfinished := sum(row.result.converged is False for row in found.rows):
        notes.append(f"{unfinished} of {len(found.rows)} solvers stopped before they converged")
    table = Table(
        "Layers and heads",
        tuple(shown[place] for place in kept),
        tuple(tuple(row[place] for place in kept) for row in rows),
        tuple(notes),
    )
    # Pixels stand last and are no candidate: the mark goes to the best of the others.
    place, column = plain.index(found.best), table.index("validation")
    marked = frozenset({(place, column)})
    return Table(table.title, table.columns, table.rows, (*table.notes, "* best on validation"), marked)


def standings_table(found: Found) -> Table:
    """Every layer under its best head: what it costs, and whether it differs from the best."""
    shown = (
        columns.text("layer"),
        columns.text("pool"),
        columns.BEST_HEAD,
        columns.accuracy(header="test %"),
        columns.called(columns.P_VALUE, "p against the best"),
        columns.text("verdict"),
        columns.GFLOP,
        columns.BYTES,
    )
    rows = tuple(
        (
            _layer_name(standing.row),
            standing.row.pool,
            standing.row.head,
            standing.row.estimate,
            standing.p_value,
            _verdict(standing, found.best),
            None if standing.flops is None else standing.flops / 1e9,
            standing.bytes,
        )
        for standing in found.standings
    )
    notes = (
        "best head: on validation; p: of McNemar's mid-p test on the same test images, Holm's correction over layers",
        "GFLOP: up to the layer, a multiply-add counted as two; bytes: of its features in the cache",
    )
    return _without_lone_pool(Table("Against the best", shown, rows, notes))


def widths_table(found: Found) -> Table:
    """The readings at one common width beside the plain ones."""
    reduced = found.of_kind(*_NAMES)
    width = min(row.width for row in reduced)
    heads = list(dict.fromkeys(row.head for row in reduced))
    shown = [columns.text("layer"), columns.text("pool"), columns.number("features", "numbers")]
    for head in heads:
        shown.append(columns.share(f"{head} plain", f"{head} %"))
        shown += [columns.share(f"{head} {kind}", f"{head}, {_NAMES[kind]} %") for kind in _NAMES]
    places = dict.fromkeys((row.layer, row.pool) for row in reduced)
    rows = []
    for layer, pool in places:
        same = [row for row in found.rows if (row.layer, row.pool) == (layer, pool)]
        cells = [
            next((row.accuracy for row in same if row.kind == kind and row.head == head), None)
            for head in heads
            for kind in ("layer", *_NAMES)
        ]
        plain = next(row.width for row in same if row.kind == "layer")
        rows.append((layer, pool, plain, *cells))
    table = Table(
        f"At one common width: {width} numbers of every layer",
        tuple(shown),
        tuple(rows),
        ("accuracy on the test set; PCA fitted on training rows alone; the projection is Gaussian, drawn once",),
    )
    for name in [column.name for column in table.columns[3:]]:
        values = {row: value for row, value in enumerate(table.column(name)) if value is not None}
        if not values:
            table = _without(table, name)
    return _without_lone_pool(table)


def scores_table(found: Found, scores: Scores) -> Table:
    """Scores of every layer, how well standing ranks them, and its seconds beside the probes'."""
    pools = {pool for _, pool in scores.layers}
    names = [f"{layer} {pool}" if len(pools) > 1 else layer for layer, pool in scores.layers]
    shown = (
        columns.text("score"),
        *(Column(name, format=_score) for name in names),
        columns.plain("tau", "weighted tau", 2),
        columns.seconds("seconds"),
    )
    rows = []
    for row in scores.scores:
        values = (row.values[0] if row.of_network and layer == "fc" else None for layer, _ in scores.layers)
        rows.append((row.title, *(values if row.of_network else row.values), row.tau, row.seconds))
    plain = found.of_kind("layer")
    best = [max(row.validation for row in plain if (row.layer, row.pool) == layer) for layer in scores.layers]
    rows.append(("probes, best head's validation accuracy", *best, None, sum(row.seconds for row in plain)))
    notes = [
        f"on {scores.rows:,} training rows, stratified, none of them validation or test; higher is better",
        "weighted tau: Kendall's rank correlation with the best head's validation accuracy; seconds: of all layers",
    ]
    if any(row.of_network for row in scores.scores):
        notes.append("LEEP and NCE read the classifier's output: they belong to the network and rank no layers")
    return Table("Scores that need no training", shown, tuple(rows), tuple(notes))


def cka_table(scores: Scores) -> Table:
    """Linear CKA between layers."""
    shown = (
        columns.text("layer"),
        *(columns.plain(f"{name} ", name, 2) for name in scores.cka_layers),
    )
    rows = tuple((name, *values) for name, values in zip(scores.cka_layers, scores.cka, strict=True))
    return Table("How alike the layers are (linear CKA)", shown, rows, ("1 is alike up to rotation and scale",))


def _layer_name(row: ProbeRow) -> str:
    return {"head2toe": f"Head2Toe: {row.layer}", "selection": f"selected: {row.layer}"}.get(row.kind, row.layer)


def _verdict(standing: Standing, best: ProbeRow) -> str:
    if standing.row is best:
        return "best on validation"
    return "not distinguishable" if not standing.distinguishable else "better" if standing.better else "worse"


def _points(value: float | None) -> str:
    return percent(value, 1)


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
