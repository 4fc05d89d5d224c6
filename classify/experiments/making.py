"""From entries to results: those that stand in the folder are taken, all others fitted, and at the very end tested.

A fitted head waits for its test in `home()/fitted`: a probe that is stopped carries on with the rows that it lacks.
Nothing in `fit_entries` opens the test split, and nothing after `test_entries` chooses anything.
"""

import dataclasses
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from classify.experiments.evaluate import Row, fit_row, test_rows
from classify.experiments.parallel import in_parallel
from classify.experiments.sources import Source
from classify.measure.outcome import plain_json
from classify.measure.results import SavedResult, find_result
from classify.measure.wording import duration, percent
from extract.cluster import cluster_client, threads_each
from features.digests import sha256_json
from features.errors import UserError
from features.home import home

if TYPE_CHECKING:
    from classify.experiments.probe.entries import Entry

Say = Callable[[str], None]

# Bytes of the SHA-256 before a fitted head: a pickle is not read unless it is the one that was written.
_SUM = hashlib.sha256().digest_size


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Entries with a known result or a fitted head each, by the digest of their configuration.

    known: results that stood in the folder. waiting: digest -> file of the fitted head, still to be tested.
    """

    known: dict[str, SavedResult]
    waiting: dict[str, Path]


def digest_of(row: Row) -> str:
    """What names a row: the digest of its configuration, as in its result."""
    return sha256_json(plain_json(row.config))


def fit_entries(
    entries: Sequence["Entry"],
    *,
    folder: Path | str,
    jobs: int | None,
    again: bool = False,
    say: Say = lambda line: None,
) -> Fitted:
    """Fit every row that has no result yet, the widest first."""
    rows = {digest_of(entry.row): entry.row for entry in entries}
    known = {} if again else {name: find_result(folder, row.config) for name, row in rows.items()}
    known = {name: saved for name, saved in known.items() if saved is not None}
    todo = sorted((name for name in rows if name not in known), key=lambda name: -_cost(rows[name]))
    if known:
        say(f"{len(known)} of {len(rows)} rows stand in {folder} already")
    waiting = {name: home() / "fitted" / f"{name}.joblib" for name in todo}
    cores = _threads_each(jobs, len(todo))
    tasks = [(_alone(rows[name], cores), waiting[name], again) for name in todo]
    for number, line in enumerate(in_parallel(fit_aside, tasks, jobs), start=1):
        say(f"{number}/{len(tasks)} {line}")
    return Fitted(known, waiting)


def fit_aside(row: Row, path: Path, again: bool) -> str:
    """Fit a row into a file, unless it waits there from an earlier run; a line that says what came out."""
    import joblib

    name = _label(row)
    if path.exists() and not again:
        return f"{name}: fitted in an earlier run"
    started = time.perf_counter()
    fitted = fit_row(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w+b") as stream:
            stream.write(bytes(_SUM))
            joblib.dump(fitted, stream)
            stream.seek(_SUM)
            digest = hashlib.file_digest(stream, "sha256").digest()
            stream.seek(0)
            stream.write(digest)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    seconds = duration(time.perf_counter() - started)
    return f"{name}: {percent(fitted.fields['validation_accuracy'])} % on validation, {seconds}"


def test_entries(
    entries: Sequence["Entry"], fitted: Fitted, *, folder: Path | str, command: str, jobs: int | None
) -> dict[str, SavedResult]:
    """The result of every row by its digest; the test split of each source is opened here, once, by one task."""
    groups: dict[str, tuple[Source, list[Path]]] = {}
    for entry in entries:
        name = digest_of(entry.row)
        if name in fitted.waiting:
            source = entry.row.source
            paths = groups.setdefault(sha256_json(plain_json(source.config)), (source, []))[1]
            if fitted.waiting[name] not in paths:
                paths.append(fitted.waiting[name])
    results = dict(fitted.known)
    tasks = [(source, paths, folder, command) for source, paths in groups.values()]
    for saved in in_parallel(test_aside, tasks, jobs):
        results |= {each.result.digest: each for each in saved}
    for path in fitted.waiting.values():
        path.unlink(missing_ok=True)
    return results


def test_aside(source: Source, paths: list[Path], folder: Path | str, command: str) -> list[SavedResult]:
    """Test the heads that wait in these files on their source."""
    return test_rows(source, map(read_fitted, paths), folder=folder, command=command)


# pytest would take the names for those of tests.
test_entries.__test__ = test_aside.__test__ = False


def read_fitted(path: Path):
    """The row that `fit_aside` left in a file; UserError where the file is gone or is not what was written."""
    import joblib

    try:
        with path.open("rb") as stream:
            digest = stream.read(_SUM)
            if hashlib.file_digest(stream, "sha256").digest() != digest:
                raise UserError(f"{path}, a head that waits for its test, is damaged; remove it and run the same again")
            stream.seek(_SUM)
            return joblib.load(stream)
    except FileNotFoundError:
        raise UserError(f"{path} was removed while it was waiting for its test; run the same command again") from None


def _label(row: Row) -> str:
    parts = [row.source.layer, row.source.config.get("pool"), row.head.name]
    weights = str(row.source.config.get("weights"))
    parts.append("random weights" if weights.startswith("random (") else None)
    parts.append("shuffled labels" if row.shuffled else None)
    parts.append(f"{row.reduction.kind} to {row.reduction.width}" if row.reduction else None)
    return " ".join(part for part in parts if part)


def _cost(row: Row) -> float:
    """What orders tasks from the longest to the shortest, so that no long one is left alone at the end."""
    widths = getattr(row.source, "widths", (1000,))
    width = min(sum(widths), row.reduction.width) if row.reduction else sum(widths)
    # Iterative solvers take longer the more candidates they try; closed forms try them all at once.
    return width * (10 if row.head.search_rows else 1)


def _threads_each(jobs: int | None, tasks: int) -> int:
    import joblib

    if (client := cluster_client()) is not None:
        return threads_each(client, jobs)
    cores = jobs or joblib.cpu_count()
    return max(1, cores // max(1, min(cores, tasks)))


def _alone(row: Row, threads: int) -> Row:
    """The row as one process fits it, on its share of the cores.

    The processes' threads are limited already, by `in_parallel`. A head that limits them again looks for the libraries
    each time, which for closed forms takes a hundred times as long as a candidate; so only heads that fit every
    candidate on its own, some of them in libraries that take a number of jobs, are told.
    """
    kind = row.head.estimator_class()
    shares_work = hasattr(kind, "fit_path") or hasattr(kind, "predict_path")
    return dataclasses.replace(row, settings=dataclasses.replace(row.settings, jobs=None if shares_work else threads))
