"""The words of all tables: what is measured of a row, spelled in one way wherever it stands.

A table takes the columns that it needs, under another heading (`called`) where its own words ask for one.
"""

import dataclasses
from typing import Any

from classify.measure import wording
from classify.measure.metrics import Metrics
from classify.measure.wording import MISSING, decimal, duration, percent, percent_interval
from classify.show.table import Cell, Column

# What stands behind an accuracy; `percent_interval` writes it.
ENDS = "; + and - to its ends where ± would go below 0 or above 100"
INTERVAL = f"± half the width of the 95 % interval{ENDS}"


def called(column: Column, header: str, **changes: Any) -> Column:
    """The same column under another heading."""
    return dataclasses.replace(column, header=header, **changes)


def text(name: str, header: str = "", means: str = "") -> Column:
    """A column of words."""
    return Column(name, header, align="left", means=means)


def accuracy(name: str = "accuracy", header: str = "accuracy %") -> Column:
    """Of (value, low, high), as `estimate` has them: percent with the 95 % interval, as `INTERVAL` explains."""
    means = f"on the test images, {INTERVAL}"
    return Column(name, header, format=percent_interval, parts=("", "low", "high"), means=means)


def share(name: str, header: str = "", means: str = "") -> Column:
    """A fraction, in percent."""
    return Column(name, header, format=percent, means=means)


def seconds(name: str, header: str = "", means: str = "") -> Column:
    """A time."""
    return Column(name, header, format=duration, means=means)


def number(name: str, header: str = "", means: str = "") -> Column:
    """A count, or the mean of several."""
    return Column(name, header, format=wording.whole, means=means)


def plain(name: str, header: str = "", digits: int = 4, means: str = "") -> Column:
    """A decimal number."""
    return Column(name, header, format=lambda value: decimal(value, digits), means=means)


def gigabytes(name: str, header: str = "", means: str = "") -> Column:
    """Bytes of memory."""
    return Column(name, header, format=wording.gigabytes, means=means)


def spelled_p(value: float | None) -> str:
    """A p-value as it is read."""
    return MISSING if value is None else f"{value:.2g}" if value >= 1e-4 else "< 0.0001"


def _mean(value: tuple[float, float | None] | None) -> str:
    return MISSING if value is None else f"{percent(value[0])} ± {percent(value[1])}"


MODEL = text("model", means="head or network; the link leads to where its numbers come from")
CUT = text("layer", "cut", "the layer that it starts from")
FITTED_ON = text("fitted_on", "fitted on", "rows of the last fit")
VALIDATION = share("validation", "validation %", "accuracy on the validation rows, by which everything is chosen")
OVER_SEEDS = Column(
    "seeds",
    "mean ± sd %",
    format=_mean,
    parts=("mean", "sd"),
    means="mean and standard deviation of the test accuracy over seeds",
)
MACRO_F1 = share("macro_f1", "macro F1 %", "mean F1 over the classes, on the test images")
BALANCED = share("balanced_accuracy", "balanced %", "mean recall over the classes, on the test images")
LOG_LOSS = plain("log_loss", "log loss", means="mean of -log of the label's probability; lower is better")
ECE = share("ece", "ECE %", "expected calibration error in 15 bins; lower is better")
PARAMETERS = number("trained_parameters", "parameters", "numbers that were trained")
EXTRACT = seconds("extract_seconds", "extract", "pass of the training images through the frozen part")
TRAIN = seconds("train_seconds", "train", "search and last fit")
FIT = seconds("fit_seconds", "fit")
ONE_IMAGE = seconds("one_seconds", "one image", "from its pixels to its class")
MEMORY = gigabytes("peak_memory", "memory", "of the whole process at its most")
GPU_MEMORY = gigabytes("peak_gpu_memory", "GPU memory", "of the GPU at its most")
BEST_HEAD = text("head", "best head", "chosen on validation")
GFLOP = plain("gflop", "GFLOP an image", 2, "up to the layer, a multiply-add counted as two")
BYTES = number("bytes", "bytes an image", "of its features in the cache")
P_VALUE = Column(
    "p_value",
    "p",
    format=spelled_p,
    means="McNemar's mid-p test against the row best on validation, Holm's correction",
)
ACCURACY_NOTE = f"accuracy on the test set {INTERVAL}"
BEST_NOTE = "best on validation"


def estimate(metrics: Metrics) -> tuple[float, float, float]:
    """Accuracy and its 95 % interval, as `accuracy` takes them."""
    return metrics.accuracy, *metrics.accuracy_interval


def majority_note(metrics: Metrics) -> str:
    """What stands below every table of test accuracies: what they have to be better than."""
    largest = wording.one_line(metrics.classes[metrics.support.index(max(metrics.support))])
    return f"majority baseline: {percent(metrics.majority)} % (always class '{largest}')"


# What every result has reached.
REACHED: tuple[Cell, ...] = (
    (VALIDATION, lambda result: result.validation_accuracy),
    (accuracy(), lambda result: estimate(result.metrics)),
    (BALANCED, lambda result: result.metrics.balanced_accuracy),
    (MACRO_F1, lambda result: result.metrics.macro_f1),
    (LOG_LOSS, lambda result: result.metrics.log_loss),
)
