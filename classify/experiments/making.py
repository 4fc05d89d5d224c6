"""From rows to results: what stands in the folder is taken, all else is fitted, and at the very end tested.

A fitted row waits for its test where its head puts it aside: what is stopped carries on with the rows that it lacks.
What cannot be put aside is held in memory, and fitted again after a kill. Nothing in `Making.fit` opens the test split,
and whoever has several rows chooses before `Making.test`.
"""

import contextlib
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from classify.experiments.fitting import Fitted, fit, test
from classify.experiments.known import known_result
from classify.experiments.parallel import in_parallel, threads_of
from classify.experiments.row import Row
from classify.experiments.settings import PLAINLY, How
from classify.experiments.training_cost import trainings
from classify.measure.results import SavedResult, find_result
from classify.measure.saving import make_place
from classify.measure.wording import counted, duration, percent
from classify.use.choosing import is_kept
from extract.cluster import cluster_client, spread, threads_each
from features.commands.progress import going
from features.commands.speaking import is_verbose
from features.errors import UserError
from features.notes import remembered_answer
from features.request import Request
from features.store.locks import lock_digest


def make(row: Row, how: How = PLAINLY) -> SavedResult:
    """The result of one row: the one that stands in the folder, or else fitted and tested now."""
    return Making(how).make(row)


def make_all(rows: Sequence[Row], how: How = PLAINLY) -> Iterator[SavedResult]:
    """The results of rows that have nothing to do with each other, in their order: one after the other with all cores,
    or on the cluster where there is one."""
    making = Making(how)
    for row in rows:
        # Whoever asks for rows of the cache gets the cache, whether or not their results stand in the folder.
        making.ensure(row)
    client = cluster_client()
    if client is None:
        yield from map(making.make, rows)
        return
    threads = threads_each(client, how.jobs)
    for row in rows:
        # What is to be said of it is said here.
        making.knows(row)
    # Workers start in folders of their own.
    there = replace(_quiet(how), folder=Path(how.folder).absolute())
    tasks = [(replace(row, settings=replace(row.settings, jobs=threads)), there) for row in rows]
    yield from spread(make, tasks, threads=threads)


@dataclass(eq=False)
class Making:
    """Rows on their way to results, by the digests of their configurations.

    known: results that stood in the folder. waiting: rows that are fitted and lack their test. held: the fitted ones of
    those that could not be put aside.
    """

    how: How = PLAINLY
    known: dict[str, SavedResult] = field(default_factory=dict)
    waiting: dict[str, Row] = field(default_factory=dict)
    held: dict[str, Fitted] = field(default_factory=dict)
    _ensured: set[tuple[type, Request]] = field(default_factory=set)
    _said: set[str] = field(default_factory=set)

    def make(self, row: Row) -> SavedResult:
        """The result of a row, which is fitted and tested now where it is not known."""
        if not self.knows(row):
            self.ensure(row)
            with self.alone(row):
                if not self.knows(row):
                    fitted, *_ = _fitted(row, self.how, aside=row.head.one_at_a_time)
                    self.known[row.digest] = test(fitted, row.source.read("test", row.settings.blocks), self.how)
                    row.head.forget(row.place(self.how.folder))
        return self.known[row.digest]

    def fit(self, row: Row, remark: str = "") -> dict[str, Any]:
        """Fit a row, unless its result is known or it waits already, and put it aside; the fields of its `Result`.

        The machine is this row's alone meanwhile, since its seconds are a part of the answer.
        """
        if not self.knows(row):
            self.ensure(row)
            with self.alone(row):
                if row.digest in self.held:
                    return self.held[row.digest].fields
                if not self.knows(row):
                    # What this very run put aside is taken up again whatever `again` says.
                    how = replace(self.how, again=self.how.again and row.digest not in self.waiting)
                    fitted, line, is_aside = _fitted(row, how, aside=True)
                    if not is_aside:
                        self.held[row.digest] = fitted
                    if row.digest not in self.waiting and row.head.announced:
                        self.how.say(f"{line}{remark}")
                    self.waiting[row.digest] = row
                    going().advance(weight(row), row.label)
                    return fitted.fields
        going().expect(-weight(row))
        return self.known[row.digest].result.to_json()

    def fit_side_by_side(self, rows: Sequence[Row]) -> None:
        """Fit many rows on all cores, or on the cluster, those that take longest first."""
        unique = {row.digest: row for row in rows}
        todo = [row for row in unique.values() if not self.knows(row)]
        if len(todo) < len(unique):
            self.how.say(f"{len(unique) - len(todo)} of {counted(len(unique), 'row')} already in {self.how.folder}")
        for row in todo:
            self.ensure(row)
        threads = threads_of(self.how.jobs, len(todo))
        todo = [replace(row, settings=row.head.on_threads(row.settings, threads)) for row in todo]
        todo.sort(key=lambda row: -row.head.cost(row.source))
        tasks = [(row, _quiet(self.how)) for row in todo]
        costs = [row.head.cost(row.source) for row in todo]
        going().expect(WITH_TESTS * sum(costs))
        for number, (line, held) in enumerate(in_parallel(_fit_aside, tasks, self.how.jobs), start=1):
            if held is not None:
                self.held[held.row.digest] = held
            going().advance(costs[number - 1], f"{number}/{len(tasks)}")
            if not going().is_bar or is_verbose():
                self.how.say(f"{number}/{len(tasks)} {line}")
        self.waiting |= {row.digest: row for row in todo}

    def test(self, *, side_by_side: bool = False) -> dict[str, SavedResult]:
        """Test all rows that wait; every result by its row's digest. The test splits are opened here, each once."""
        groups: dict[Any, list[Row]] = {}
        for row in self.waiting.values():
            groups.setdefault((row.source, row.settings.blocks), []).append(row)
        tasks = [
            (rows, {row.digest: self.held[row.digest] for row in rows if row.digest in self.held}, _quiet(self.how))
            for rows in groups.values()
        ]
        tested = (
            in_parallel(_test_aside, tasks, self.how.jobs) if side_by_side else itertools.starmap(_test_aside, tasks)
        )
        rest = going().expected - going().done
        for results in tested:
            self.known |= {saved.result.digest: saved for saved in results}
            going().advance(rest / len(tasks), "test")
        for row in self.waiting.values():
            row.head.forget(row.place(self.how.folder))
        self.waiting.clear()
        self.held.clear()
        return dict(self.known)

    def scout(self, row: Row) -> float:
        """The validation accuracy of a row, which is remembered and not put aside."""
        if self.knows(row):
            accuracy = self.known[row.digest].result.validation_accuracy
        else:
            self.ensure(row)
            question = f"validation accuracy, {row.digest}"
            accuracy = float(remembered_answer(question, lambda: repr(fit(row).fields["validation_accuracy"])))
        return 0.0 if accuracy is None else accuracy

    def knows(self, row: Row) -> bool:
        """Whether a row's result stands in the folder, and is not to be made again."""
        if row.digest not in self.known and not self.how.again:
            saved, remark = known_result(row, self.how.folder)
            if remark and remark not in self._said:
                self._said.add(remark)
                self.how.say(remark)
            needs_model = self.how.with_models and row.keep
            # Whose head is a pickle alone cannot be used without --trust, and is made again.
            if saved is not None and (not needs_model or (is_kept(saved) and not saved.is_pickle)):
                self.known[row.digest] = saved
        return row.digest in self.known

    def ensure(self, row: Row) -> None:
        """Extract what a row reads, with all that its plan holds besides."""
        planned = type(row.source), row.source.request
        if planned not in self._ensured:
            row.source.ensure(compiled=self.how.compiled, jobs=self.how.jobs)
            self._ensured.add(planned)

    def alone(self, row: Row) -> contextlib.AbstractContextManager:
        """The right to fit a row: where that takes long, a second process waits and then finds what the first made."""
        if not row.head.one_at_a_time:
            return contextlib.nullcontext()
        folder = Path(self.how.folder)
        make_place(folder, self.how.folder)
        doing = "training the same network"
        return lock_digest(row.digest[:16], wait=True, say=self.how.say, folder=folder, doing=doing)


# What is expected of a whole, in units of what fitting its rows takes.
WITH_TESTS = 1.1


def weight(row: Row) -> float:
    """How long a row takes beside others, roughly: a network trains for as long as many heads are fitted."""
    return 20.0 * trainings(row.settings) if row.head.one_at_a_time else 1.0


def _fitted(row: Row, how: How, *, aside: bool) -> tuple[Fitted, str, bool]:
    """A row fitted now, or in an earlier run that was stopped before its test; a line that says what came out; and
    whether it stands aside."""
    place, head = row.place(how.folder), row.head
    if how.again:
        head.forget(place)
    elif (content := head.take_up(place)) is not None:
        line = f"{row.label}: {head.verb} in an earlier run"
        if not head.announced:
            how.say(line)
        return Fitted(row, **content), line, True
    started = time.perf_counter()
    if head.one_at_a_time:
        make_place(place, how.folder)
    fitted = fit(row, how)
    content = {name: value for name, value in vars(fitted).items() if name != "row"}
    is_aside = aside and head.put_aside(content, place)
    seconds = duration(time.perf_counter() - started)
    return fitted, f"{row.label}: {percent(fitted.fields['validation_accuracy'])} % on validation, {seconds}", is_aside


def _fit_aside(row: Row, how: How) -> tuple[str, Fitted | None]:
    """Fit a row and put it aside, in a process of its own; what it has to say, and the row where it cannot be."""
    fitted, line, is_aside = _fitted(row, how, aside=True)
    return line, None if is_aside else fitted


def _test_aside(rows: Sequence[Row], held: Mapping[str, Fitted], how: How) -> list[SavedResult]:
    """Test rows of one source that wait for it, some of them in memory."""
    saved, inputs = [], None
    for row in rows:
        # Another process that waited for the same network may have tested it in the meantime.
        if row.head.one_at_a_time and not how.again and (tested := find_result(how.folder, row.config)) is not None:
            saved.append(tested)
            continue
        place = row.place(how.folder)
        fitted = held.get(row.digest)
        if fitted is None and (content := row.head.take_up(place)) is not None:
            fitted = Fitted(row, **content)
        if fitted is None:
            raise UserError(f"{place} was removed while it was waiting for its test; run the same command again")
        if inputs is None:
            inputs = row.source.read("test", row.settings.blocks)
        saved.append(test(fitted, inputs, how))
    return saved


def _quiet(how: How) -> How:
    """The same for another process, which has nobody to talk to."""
    return replace(how, say=PLAINLY.say, on_epoch=None)
