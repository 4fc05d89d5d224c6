"""The rows of a comparison: those that stand in the folder are taken, all others fitted, and at the very end tested.

Rows are fitted one after the other with the machine to themselves, since their times are part of the answer. Fitted
heads wait for their test in `home()/fitted` and networks beside the results, so a comparison that is stopped carries
on. Nothing in `Pending.fit` opens the test split.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from classify.experiments.evaluate import Row, Settings, fit_row
from classify.experiments.making import digest_of, fit_aside, read_fitted, test_aside
from classify.experiments.network_row import NetworkRow
from classify.experiments.networks import FittedNetwork, OnEpoch, alone, fit_network, test_network
from classify.experiments.sources import CachedLayer
from classify.experiments.untouched import FittedReading, UntouchedRow, fit_reading, test_reading
from classify.heads import HEADS
from classify.heads.search import Search, Trial
from classify.measure.outcome import plain_json
from classify.measure.results import SavedResult, find_result
from features.digests import remembered_answer, sha256_json
from features.home import home

Say = Callable[[str], None]

SCOUT = "ridge"


@dataclass(frozen=True)
class Making:
    """How rows are made: where results are kept, whether known ones are made again, on how many cores."""

    folder: Path
    command: str = ""
    again: bool = False
    compiled: str = "auto"
    jobs: int | None = None
    say: Say = print
    on_epoch: OnEpoch | None = None


@dataclass
class Pending:
    """Rows that are known or fitted, by the digest of their configuration."""

    making: Making
    known: dict[str, SavedResult] = field(default_factory=dict)
    networks: dict[str, FittedNetwork | FittedReading] = field(default_factory=dict)
    heads: dict[str, tuple[CachedLayer, Path]] = field(default_factory=dict)

    def fit_network(self, row: NetworkRow | UntouchedRow) -> str:
        """Train a network, or learn the reading of the untouched one, unless it is known; its digest."""
        name = sha256_json(plain_json(row.config))
        making = self.making
        if name in self.networks or self._is_known(name, row.config):
            return name
        shared: dict[str, Any] = {"compiled": making.compiled, "jobs": making.jobs}
        if isinstance(row, UntouchedRow):
            self.networks[name] = fit_reading(row, **shared)
        else:
            kept = {"folder": making.folder, "again": making.again, "say": making.say, "on_epoch": making.on_epoch}
            with alone(row, making.folder, making.say):
                if not self._is_known(name, row.config):
                    self.networks[name] = fit_network(row, **kept, **shared)
        return name

    def fit_head(self, source: CachedLayer, head: str, settings: Settings) -> tuple[str, str]:
        """Fit a head on training rows alone, and again on training and validation rows after the same search.

        The digests of the two rows, the refitted one last.
        """
        names, searched = [], None
        for refit in (False, True):
            row = Row(source, HEADS[head], replace(settings, refit=refit), searched=searched)
            name = digest_of(row)
            names.append(name)
            if self._is_known(name, row.config):
                searched = _search_of(self.known[name].result.to_json())
                continue
            path = home() / "fitted" / f"{name}.joblib"
            if name not in self.heads:
                refitted = ", refitted" if refit else ""
                self.making.say(f"{fit_aside(row, path, self.making.again)}{refitted}")
                self.heads[name] = source, path
            searched = _search_of(read_fitted(path).fields)
        return names[0], names[1]

    def scout(self, source: CachedLayer, settings: Settings) -> float:
        """The validation accuracy of ridge, the head that is fitted soonest, on a layer."""
        row = Row(source, HEADS[SCOUT], replace(settings, refit=False))
        if self._is_known(digest_of(row), row.config):
            return self.known[digest_of(row)].result.validation_accuracy
        question = f"validation accuracy, {digest_of(row)}"
        return float(remembered_answer(question, lambda: repr(fit_row(row).fields["validation_accuracy"])))

    def test(self) -> Mapping[str, SavedResult]:
        """Test everything that waits; the results of all rows by their digests. The test split is opened here."""
        making = self.making
        results = dict(self.known)
        groups: dict[str, tuple[CachedLayer, list[Path]]] = {}
        for source, path in self.heads.values():
            groups.setdefault(sha256_json(plain_json(source.config)), (source, []))[1].append(path)
        for source, paths in groups.values():
            for saved in test_aside(source, paths, making.folder, making.command):
                results[saved.result.digest] = saved
        for name, fitted in self.networks.items():
            # Another process that waited for the same network may have tested it in the meantime.
            if self._is_known(name, fitted.row.config):
                results[name] = self.known[name]
                continue
            test = test_reading if isinstance(fitted, FittedReading) else test_network
            results[name] = test(fitted, folder=making.folder, command=making.command)
        for _, path in self.heads.values():
            path.unlink(missing_ok=True)
        return results

    def _is_known(self, name: str, config: dict[str, Any]) -> bool:
        if name not in self.known and not self.making.again:
            found = find_result(self.making.folder, config)
            if found is not None:
                self.known[name] = found
        return name in self.known


def _search_of(fields: Mapping[str, Any]) -> Search:
    """The search that a fitted row's, or a result's, fields tell of."""
    trials = tuple(
        Trial({key: value for key, value in trial.items() if key not in ("accuracy", "seconds")}, *_measured(trial))
        for trial in fields["extra"]["trials"]
    )
    best = max((trial.accuracy for trial in trials), default=float("nan"))
    return Search(dict(fields["chosen"]), best, trials, fields["rows"]["search"], fields["seconds"]["search"])


def _measured(trial: Mapping[str, Any]) -> tuple[float, float]:
    return trial["accuracy"], trial["seconds"]
