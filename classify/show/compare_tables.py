"""The table of a comparison. Results are read here, never computed."""

from classify.experiments.compared import LEVEL, ComparedRow, ComparisonResult
from classify.measure.wording import MISSING, count, decimal, duration, percent, percent_interval
from classify.show.table import Column, Table


def comparison_table(result: ComparisonResult) -> Table:
    """One line for each model: what it reaches, what it costs, and whether it differs from the best on validation."""
    several = len(result.seeds) > 1
    on_gpu = any(row.extra("peak_device_bytes") is not None for row in result.rows)
    columns = [
        Column("model", align="left"),
        Column("layer", "cut", align="left"),
        Column("fitted_on", "fitted on", align="left"),
        Column("validation", "validation %", format=percent),
        Column("accuracy", "accuracy %", format=percent_interval, parts=("", "low", "high")),
        *([Column("seeds", "mean ± sd %", format=_mean, parts=("mean", "sd"))] if several else []),
        Column("macro_f1", "macro F1 %", format=percent),
        Column("log_loss", "log loss", format=decimal),
        Column("ece", "ECE %", format=percent),
        Column("trained_parameters", "parameters", format=_count),
        Column("extract_seconds", "extract", format=duration),
        Column("train_seconds", "train", format=duration),
        Column("one_seconds", "one image", format=duration),
        Column("peak_memory", "memory", format=_gigabytes),
        *([Column("peak_gpu_memory", "GPU memory", format=_gigabytes)] if on_gpu else []),
        Column("p_value", "p", format=_p_value),
    ]
    rows = []
    for row, p_value in zip(result.rows, result.p_values, strict=True):
        metrics = row.first.metrics
        rows.append(
            (
                row.model,
                row.layer,
                "train + validation" if row.refit else "nothing" if _untrained(row) else "train",
                row.validation,
                (metrics.accuracy, *metrics.accuracy_interval),
                *([(row.accuracy, row.deviation)] if several else []),
                row.mean(lambda each: each.metrics.macro_f1),
                row.mean(lambda each: each.metrics.log_loss),
                row.mean(lambda each: each.metrics.ece),
                row.extra("trained_parameters"),
                row.seconds("extract"),
                row.seconds("search", "fit"),
                row.one_seconds,
                row.extra("peak_host_bytes"),
                *([row.extra("peak_device_bytes")] if on_gpu else []),
                p_value,
            )
        )
    place = next(number for number, row in enumerate(result.rows) if row is result.best)
    marked = frozenset({(place, [column.name for column in columns].index("validation"))})
    return Table(_title(result), tuple(columns), tuple(rows), _notes(result, several), marked)


def _title(result: ComparisonResult) -> str:
    config, rows = result.best.first.config, result.best.first.rows
    counted = f"{count(rows['train'])} + {count(rows['validation'])} training and validation images"
    return f"{config['dataset']}: {counted}, {count(rows['test'])} test images"


def _notes(result: ComparisonResult, several: bool) -> tuple[str, ...]:
    notes = ["* best on validation"]
    notes.append("accuracy: on the test set ± half the width of its 95 % interval")
    if several:
        seeds = " ".join(map(str, result.seeds))
        notes[-1] += f", with seed {result.seeds[0]}; mean and standard deviation over seeds {seeds}"
        notes.append("all other figures are means over seeds")
    notes.append(
        "fitted on: a head's hyper-parameters and a network's epoch are chosen on validation; networks are not fitted "
        "again after that, so compare them with the rows fitted on train"
    )
    notes.append(
        "extract: of the training images, all layers of the pass; train: search and last fit; one image: from its "
        "pixels to its class; memory: of the whole process at its most"
    )
    silent = dict.fromkeys(row.model for row in result.rows if row.first.metrics.log_loss is None)
    if silent:
        notes.append(f"log loss, ECE: of probabilities, which there are none of for {', '.join(silent)}")
    which = f" with seed {result.seeds[0]}" if several else ""
    notes.append(
        f"p: McNemar's mid-p test against the row best on validation{which}, Holm's correction over all rows; below "
        f"{LEVEL:g} they differ"
    )
    if any(row.first.metrics.outside for row in result.rows):
        notes.append("untouched own: its own classes taken for labels; predictions that are no label count as wrong")
    return tuple(notes)


def _untrained(row: ComparedRow) -> bool:
    return row.first.extra.get("trained_parameters") == 0


def _mean(value: tuple[float, float | None] | None) -> str:
    return MISSING if value is None else f"{percent(value[0])} ± {percent(value[1])}"


def _count(value: float | None) -> str:
    return MISSING if value is None else count(round(value))


def _gigabytes(value: float | None) -> str:
    return MISSING if value is None else f"{value / 1e9:.2f} GB"


def _p_value(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2g}" if value >= 1e-4 else "< 0.0001"
