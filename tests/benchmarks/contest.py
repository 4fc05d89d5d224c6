"""Contenders that take turns at the same work, A B A B, and what came of it: seconds, ratios, shares of a limit.

A ratio is taken within a round, so that what the machine is doing beside hits both alike; of the ratios the minimum,
the median and the maximum are told. What is alternated, and beside which limit, is each subject's own file's business.
"""

import dataclasses
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.served import processor_seconds


@dataclass(frozen=True)
class Contender:
    """One that takes turns. turn: does the work once and returns its seconds, as it measured them itself.

    operations: floating-point operations (or bytes copied) of one turn, to be held against `limit`, the name of one.
    said: what it is, for the table.
    """

    name: str
    turn: Callable[[], float]
    limit: str | None = None
    operations: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What a contest came to. The first `ours` contenders are ours; all seconds are divided by each of theirs."""

    title: str
    amount: float
    unit: str
    seconds: dict[str, list[float]]
    limits: dict[str, float]
    contenders: tuple[Contender, ...] = field(repr=False)
    ours: int = 1
    remark: str = ""

    def saying(self, remark: str) -> "Outcome":
        """The same with a line below its table."""
        return dataclasses.replace(self, remark=remark)

    def ratios(self, name: str, ours: str) -> list[float]:
        """How many times as long as one of ours this one took, round by round."""
        return [theirs / mine for theirs, mine in zip(self.seconds[name], self.seconds[ours], strict=True)]

    def share(self, contender: Contender) -> float | None:
        """The part of its limit that a contender reached, by its median; None where it has none."""
        if contender.limit is None:
            return None
        return contender.operations / statistics.median(self.seconds[contender.name]) / self.limits[contender.limit]

    def __str__(self) -> str:
        letters = [chr(ord("A") + place) for place in range(self.ours)]
        against = [f"seconds / {letter}'s" for letter in letters]
        rows = [("", "", "seconds min / median / max", f"{self.unit}/s", *against, "of the limit")]
        for place, contender in enumerate(self.contenders):
            taken, share = self.seconds[contender.name], self.share(contender)
            ratios = [
                "-" if mine is contender else _three(self.ratios(contender.name, mine.name))
                for mine in self.contenders[: self.ours]
            ]
            rows.append(
                (
                    letters[place] if place < self.ours else "",
                    contender.name,
                    _three(taken),
                    f"{self.amount / statistics.median(taken):,.1f}",
                    *ratios,
                    "" if share is None else f"{share:.0%} ({contender.limit})",
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        told = [
            f"limit: {name} {rate / 1e9:,.1f} G/s (the best of what was tried)" for name, rate in self.limits.items()
        ]
        rounds = len(self.seconds[self.contenders[0].name])
        remark = [self.remark] if self.remark else []
        return "\n".join([f"{self.title} ({rounds} rounds)", *lines, *told, *remark])

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "title": self.title,
            "amount": self.amount,
            "unit": self.unit,
            "seconds": self.seconds,
            "ratios": {
                mine.name: {each.name: self.ratios(each.name, mine.name) for each in self.contenders}
                for mine in self.contenders[: self.ours]
            },
            "limits": self.limits,
            "remark": self.remark,
            "shares": {each.name: self.share(each) for each in self.contenders if each.limit},
        }


def compete(
    title: str,
    contenders: Sequence[Contender],
    *,
    amount: float,
    unit: str,
    rounds: int,
    limits: dict[str, Callable[[], float]] | None = None,
    ours: int = 1,
) -> Outcome:
    """Let the contenders take turns, the first `ours` of which are ours.

    amount: of `unit` (images, rows) in one turn. limits: in operations a second, measured in every round, of which the
    best counts.
    """
    limits = limits or {}
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    best = dict.fromkeys(limits, 0.0)
    for _ in range(rounds):
        for name, measure in limits.items():
            best[name] = max(best[name], measure())
        for contender in contenders:
            seconds[contender.name].append(contender.turn())
            # Whoever stops it has seen what there was.
            print(f"{contender.name}: {seconds[contender.name][-1]:.2f} s", file=sys.stderr, flush=True)
    return Outcome(title, amount, unit, seconds, best, tuple(contenders), ours)


def timed(work: Callable[[], Any], clock: str = "wall") -> Callable[[], float]:
    """A turn that is the whole of `work`, by the clock 'wall' or 'cpu' (this process's and its ended children's)."""
    now = time.perf_counter if clock == "wall" else processor_seconds

    def turn() -> float:
        started = now()
        work()
        return now() - started

    return turn


def machine() -> str:
    """One line on where this is measured, and what the machine does beside."""
    names = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    return f"{names[0] if names else 'a processor'}, {cores} cores{load}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _three(values: list[float]) -> str:
    return " / ".join(f"{value:.2f}" for value in (min(values), statistics.median(values), max(values)))
