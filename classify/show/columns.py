"""The words of all tables: what is measured of a row, spelled in one way wherever it stands.

A table takes the columns that it needs, under another heading (`called`) where its own words ask for one.
"""

from classify.measure import wording
from classify.measure.metrics import Metrics
from classify.measure.wording import MISSING, decimal, duration, percent, percent_interval
from classify.show.table import Column


def text(name: str, header: str = "") -> Column:
    """A column of words."""
    return Column(name, header, align="left")


def accuracy(name: str = "accuracy", header: str = "accuracy %") -> Column:
    """Of (value, low, high), as `estimate` has them: percent ± half the width of the 95 % interval."""
    return Column(name, header, format=percent_interval, parts=("", "low", "high"))


def share(name: str, header: str = "") -> Column:
    """A fraction, in percent."""
    return Column(name, header, format=percent)


def seconds(name: str, header: str = "") -> Column:
    """A time."""
    return Column(name, header, format=duration)


def number(name: str, header: str = "") -> Column:
    """A count, or the mean of several."""
    return Column(name, header, format=wording.whole)


def plain(name: str, header: str = "", digits: int = 4) -> Column:
    """A decimal number."""
    return Column(name, header, format=lambda value: decimal(value, digits))


def gigabytes(name: str, header: str = "") -> Column:
    """Bytes of memory."""
    return Column(name, header, format=wording.gigabytes)


def p_value(header: str = "p") -> Column:
    """Of McNemar's test against the best."""
    return Column("p_value", header, format=spelled_p)


VALIDATION = share("validation", "validation %")
MACRO_F1 = share("macro_f1", "macro F1 %")
LOG_LOSS = Column("log_loss", "log loss", format=decimal)
ECE = share("ece", "ECE %")
ACCURACY_NOTE = "accuracy on the test set ± half the width of its 95 % interval"
BEST_NOTE = "best on validation"


def estimate(metrics: Metrics) -> tuple[float, float, float]:
    """Accuracy and its 95 % interval, as `accuracy` takes them."""
    return metrics.accuracy, *metrics.accuracy_interval


def spelled_p(value: float | None) -> str:
    """A p-value as it is read."""
    return MISSING if value is None else f"{value:.2g}" if value >= 1e-4 else "< 0.0001"
