"""The training of networks as a value: loss and validation accuracy by epoch, side by side."""

from collections.abc import Sequence

from classify.measure.outcome import Result
from classify.measure.record import EpochRecord
from classify.show.panels import Line, Panel

MOST = 7  # lines that can be told apart


def training_panels(networks: Sequence[tuple[str, Result]]) -> tuple[Panel, ...]:
    """The chart of networks by name; the epoch whose weights were kept is ringed. None where no epochs are known, and
    none of the validation where no network was validated after its epochs."""
    trained = [(name, result, result.extra.history) for name, result in networks if result.extra.history][:MOST]
    if not trained:
        return ()
    last = max(epoch["epoch"] for _, _, history in trained for epoch in history)
    step = max(1, -(-last // 8))
    ticks = tuple((float(epoch), str(epoch)) for epoch in range(step, last + 1, step))
    losses, validated = [], []
    for name, result, history in trained:
        kept = result.chosen.get("epoch")
        losses.append(_line(name, [(epoch, epoch.get("loss")) for epoch in history], kept))
        percents = [(epoch, _percent(epoch.get("validation_accuracy"))) for epoch in history]
        if any(percent is not None for _, percent in percents):
            validated.append(_line(name, percents, kept))
    loss = Panel("", "epoch", "training loss", tuple(losses), ticks=ticks)
    if not validated:
        return (loss,)
    return loss, Panel("", "epoch", "validation accuracy, %", tuple(validated), ticks=ticks, errors=True)


def _line(name: str, heights: Sequence[tuple[EpochRecord, float | None]], kept: int | None) -> Line:
    points = [(float(epoch["epoch"]), height) for epoch, height in heights if height is not None]
    x, y = tuple(place for place, _ in points), tuple(height for _, height in points)
    return Line(name, x, y, ring=None if kept is None else float(kept))


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
