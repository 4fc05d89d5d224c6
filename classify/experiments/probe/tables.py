"""The tables of a probe; nothing is computed here."""

import dataclasses
import math
from collections.abc import Callable, Sequence

from classify.experiments.probe.entries import CANDIDATES
from classify.experiments.probe.found import ProbeRow, Standing, find, of_kind
from classify.experiments.probe.scoring import ScoreRow, Scores
from classify.measure.wording import MISSING, counted, decimal, duration, percent
from classify.show import columns
from classify.show.table import Cell, Column, Table, table_of

# Accuracies that do not grow with the share of the largest class.
_BALANCED: tuple[Cell, ...] = (
    (columns.BALANCED, lambda row: row.result.metrics.balanced_accuracy),
    (columns.MACRO_F1, lambda row: row.result.metrics.macro_f1),
)
_NARROW = 60  # characters for the columns of CKA, beyond which layers are numbered instead of named
_NAMES = {"pca": "PCA", "projection": "random projection"}


def shown_tables(
    rows: Sequence[ProbeRow], best: ProbeRow, standings: Sequence[Standing], scores: Scores | None
) -> tuple[Table, ...]:
    """All tables of a probe that have something to say, the most important first."""
    tables = [layers_table(rows, best), standings_table(standings, best)]
    if of_kind(rows, "pca"):
        tables.append(widths_table(rows))
    if scores:
        tables.append(scores_table(rows, scores))
        alike = cka_table(scores, best.network)
        if len(alike.rows) > 1:
            tables.append(alike)
    return tuple(tables)


def rows_table(rows: Sequence[ProbeRow]) -> Table:
    """One line for every row, controls among them; what `--csv` writes."""
    cells: tuple[Cell, ...] = (
        (columns.text("kind"), lambda row: row.kind),
        *_networks(rows),
        (columns.text("layer"), lambda row: row.layer),
        (columns.text("pool"), lambda row: row.pool),
        (columns.text("head"), lambda row: row.head),
        (columns.number("features"), lambda row: row.width),
        (columns.VALIDATION, lambda row: row.validation),
        (columns.accuracy(), lambda row: row.estimate),
        *_BALANCED,
        (columns.seconds("search_seconds", "search"), lambda row: row.result.seconds.get("search")),
        (columns.FIT, lambda row: row.result.seconds.get("fit")),
    )
    return table_of("All rows", rows, cells, [_majority(rows[0])] if rows else [])


def layers_table(rows: Sequence[ProbeRow], best: ProbeRow) -> Table:
    """Layers x heads, and beside each row its controls; pixels stand last and are no candidate."""
    plain = of_kind(rows, *CANDIDATES)

    def control(kind: str) -> Callable[[ProbeRow], float | None]:
        def accuracy(row: ProbeRow) -> float | None:
            beside = find(rows, kind, row) if row.kind != "pixels" else None
            return beside.accuracy if beside else None

        return accuracy

    def selectivity(row: ProbeRow) -> float | None:
        shuffled = control("shuffled")(row)
        return None if shuffled is None else row.accuracy - shuffled

    kinds = {row.kind for row in rows}
    pools = len({row.pool for row in plain}) > 1
    shown = [*plain, *of_kind(rows, "pixels")]
    random: tuple[Cell, ...] = ((columns.share("random", "random weights %"), control("random")),)
    shuffled: tuple[Cell, ...] = (
        (columns.share("shuffled", "shuffled labels %"), control("shuffled")),
        (Column("selectivity", "selectivity", format=_points), selectivity),
    )
    cells: tuple[Cell, ...] = (
        *_networks(shown),
        (columns.text("layer"), _layer_name),
        *([(columns.text("pool"), lambda row: row.pool or MISSING)] if pools else []),
        (columns.text("head"), lambda row: row.head),
        (columns.number("features", "numbers"), lambda row: row.width),
        (columns.VALIDATION, lambda row: row.validation),
        (columns.accuracy(header="test %"), lambda row: row.estimate),
        *_BALANCED,
        *(random if "random" in kinds else ()),
        *(shuffled if "shuffled" in kinds else ()),
        (columns.seconds("seconds", "search + fit"), lambda row: row.seconds),
    )
    notes = [f"test %: {columns.ACCURACY_NOTE}", _majority(best)]
    if "shuffled" in kinds:
        notes.append("selectivity: points above the same head fitted to shuffled labels")
    if unfinished := sum(row.result.converged is False for row in rows):
        notes.append(f"{unfinished} of {counted(len(rows), 'solver')} stopped before converging")
    notes.append("* best on validation")
    table = table_of("Layers and heads", shown, cells, notes)
    return dataclasses.replace(table, marked=frozenset({(plain.index(best), table.index("validation"))}))


def standings_table(standings: Sequence[Standing], best: ProbeRow) -> Table:
    """Every layer under its best head: what it costs, and whether it differs from the best."""

    def verdict(standing: Standing) -> str:
        if standing.row is best:
            return "best on validation"
        return "not distinguishable" if not standing.distinguishable else "better" if standing.better else "worse"

    pools = len({standing.row.pool for standing in standings}) > 1
    networks = _networks([standing.row for standing in standings])
    cells: tuple[Cell, ...] = (
        *((column, lambda standing, of=of: of(standing.row)) for column, of in networks),
        (columns.text("layer"), lambda standing: _layer_name(standing.row)),
        *([(columns.text("pool"), lambda standing: standing.row.pool)] if pools else []),
        (columns.BEST_HEAD, lambda standing: standing.row.head),
        (columns.accuracy(header="test %"), lambda standing: standing.row.estimate),
        (columns.BALANCED, lambda standing: standing.row.result.metrics.balanced_accuracy),
        (columns.MACRO_F1, lambda standing: standing.row.result.metrics.macro_f1),
        (columns.called(columns.P_VALUE, "p against the best"), lambda standing: standing.p_value),
        (columns.text("verdict"), verdict),
        (
            columns.GFLOP,
            lambda standing: None if standing.flops is None else standing.flops / 1e9,
        ),
        (columns.BYTES, lambda standing: standing.bytes),
    )
    notes = (
        _majority(best),
        "best head: on validation; p: of McNemar's mid-p test on the same test images, Holm's correction over layers",
        "GFLOP: up to the layer, a multiply-add counted as two; bytes: of its features in the cache",
    )
    return table_of("Against the best", standings, cells, notes)


def widths_table(rows: Sequence[ProbeRow]) -> Table:
    """The readings at one common width beside the plain ones."""
    reduced = of_kind(rows, *_NAMES)
    places = list(dict.fromkeys(row.place[1:] for row in reduced))
    placed: dict[tuple[str, ...], ProbeRow] = {(*row.place, row.head): row for row in rows}
    pools = len({pool for _, pool, _ in places}) > 1
    networks = [(columns.text("backbone"), lambda place: place[2])] if any(place[2] for place in places) else []
    widths = {row.place[1:]: row.width for row in rows if row.kind == "layer"}
    cells: list[Cell] = [
        *networks,
        (columns.text("layer"), lambda place: place[0]),
        *([(columns.text("pool"), lambda place: place[1])] if pools else []),
        (columns.number("features", "numbers"), widths.__getitem__),
    ]

    def accuracy(kind: str, head: str) -> Callable[[tuple[str, ...]], float | None]:
        return lambda place: placed[kind, *place, head].accuracy if (kind, *place, head) in placed else None

    for head in dict.fromkeys(row.head for row in reduced):
        for kind, name in (("layer", ""), *_NAMES.items()):
            if any((kind, *place, head) in placed for place in places):
                header = f"{head}, {name} %" if name else f"{head} %"
                cells.append((columns.share(f"{head} {kind if name else 'plain'}", header), accuracy(kind, head)))
    note = "accuracy on the test set; PCA fitted on training rows alone; the projection is Gaussian, drawn once"
    title = f"At one common width: {min(row.width for row in reduced)} numbers of every layer"
    return table_of(title, places, cells, [note, _majority(rows[0])])


def scores_table(rows: Sequence[ProbeRow], scores: Scores) -> Table:
    """Scores of every layer beside what its best head reaches, how well standing ranks them, and their seconds."""
    of_layers = [score for score in scores.scores if not score.of_network]
    plain = of_kind(rows, "layer")
    best: dict[tuple[str, ...], float] = {}
    for row in plain:
        best[row.place[1:]] = max(row.validation, best.get(row.place[1:], 0.0))
    pools = len({pool for _, pool in scores.layers}) > 1
    shown = (
        *([columns.text("backbone")] if scores.networks else []),
        columns.text("layer"),
        *([columns.text("pool")] if pools else []),
        columns.share("probes", "best head's validation %"),
        *(Column(score.name, score.title, format=_score) for score in of_layers),
    )
    lines = []
    for number, (layer, pool, network) in enumerate(scores.places):
        place = (*([network] if network else []), layer, *([pool] if pools else []))
        lines.append((*place, best[layer, pool, network], *(score.values[number] for score in of_layers)))
    took = f"{duration(sum(row.seconds for row in plain))} of probing"
    tau = "weighted Kendall tau with the best head's validation accuracy"
    notes = [
        f"on {scores.rows:,} training rows, stratified, none of them validation or test; higher is better",
        _of_each(tau, of_layers, lambda score: decimal(score.tau, 2)),
        _of_each(f"computed for all layers, beside {took}, in", of_layers, lambda score: duration(score.seconds)),
    ]
    if of_network := [score for score in scores.scores if score.of_network]:
        of_each = _of_each(
            "of the network, read from its classifier's output", of_network, lambda s: _score(s.values[0])
        )
        notes.append(of_each)
    return Table("Scores that need no training", shown, tuple(lines), tuple(notes))


def _of_each(what: str, scores: Sequence[ScoreRow], spelled: Callable[[ScoreRow], str]) -> str:
    return f"{what}: {', '.join(f'{score.title} {spelled(score)}' for score in scores)}"


def cka_table(scores: Scores, network: str = "") -> Table:
    """Debiased linear CKA between layers, of one network where there are several."""
    networks = scores.cka_networks or ("",) * len(scores.cka_layers)
    own = [place for place, other in enumerate(networks) if other == network]
    names = [scores.cka_layers[place] for place in own]
    numbered = sum(max(4, len(name)) + 2 for name in names) > _NARROW
    headers = [str(number) for number in range(1, len(own) + 1)] if numbered else names
    shown = (
        columns.text("layer"),
        *(columns.plain(f"{name} ", header, 2) for name, header in zip(names, headers, strict=True)),
    )
    rows = tuple(
        (f"{number} {name}" if numbered else name, *(scores.cka[place][other] for other in own[:number]))
        + (None,) * (len(own) - number)
        for number, (name, place) in enumerate(zip(names, own, strict=True), start=1)
    )
    return Table(
        f"How alike the layers{f' of {network}' if network else ''} are (debiased linear CKA)",
        shown,
        rows,
        ("1 is alike up to rotation and scale, 0 unrelated",),
    )


def _networks(rows: Sequence[ProbeRow]) -> tuple[Cell, ...]:
    """The column that says of which network each is, where there are several."""
    several = any(row.network for row in rows)
    return ((columns.text("backbone"), lambda row: row.network or None),) if several else ()


def _majority(best: ProbeRow) -> str:
    return columns.majority_note(best.result.metrics)


def _layer_name(row: ProbeRow) -> str:
    return {"head2toe": f"Head2Toe: {row.layer}", "selection": f"selected: {row.layer}"}.get(row.kind, row.layer)


def _points(value: float | None) -> str:
    return percent(value, 1)


def _score(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}" if math.fabs(value) < 1000 else f"{value:.4g}"
