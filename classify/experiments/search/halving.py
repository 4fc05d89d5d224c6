"""Successive halving against the clock (Jamieson and Talwalkar 2016): all candidates on few rows, the best third on
three times as many, until all rows are reached, one candidate is left, or the time is up.

Whenever it stops there is a best so far. What is predicted to end too late is not begun: passes over the images by what
an image took at that size or a smaller one, heads by what they took on fewer rows. Nothing here opens the test split.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from classify.experiments.fitting import fit
from classify.experiments.kinds.classical import Classical
from classify.experiments.parallel import in_parallel, threads_of
from classify.experiments.probe.entries import probe_layers
from classify.experiments.row import Row
from classify.experiments.search.grid import Candidate, Pass, joins, narrowed
from classify.experiments.search.question import TIMES, SearchQuestion
from classify.experiments.search.tried import Rung, Tried, best_of, by_merit
from classify.experiments.settings import PLAINLY, How, Settings
from classify.experiments.sources import CachedLayer
from classify.heads import HEADS
from classify.measure.trials import Trial, find_trial
from classify.measure.wording import count, counted, duration, percent
from extract.cost import seconds_to_extract
from extract.planning import plan
from features.commands.progress import going, row_progress
from features.errors import UserError
from features.reading import missing
from features.request import Plan, limited

LEAST_SECONDS = 1e-3  # of a head: clocks are set back
MOST_GROWTH = 3.0  # of a head's seconds with its rows, as a power: what a decomposition grows by
ADMITTED = 0.5  # of the time left, that the passes of a size may take from its first rung to the test
GUESSED = 0.5  # of its share, that a rung may take however long the winner is predicted to take from one rung alone
LEARNT_FROM = ("train", "validation")
Wave = Callable[[], list[Candidate]]


@dataclass(eq=False)
class Halving:
    """A search on its way.

    deadline: of `time.time`, which all processes share. plans: of all rows, by pass; at_limits: those of rungs. rates:
    seconds an image takes. refused: what a network said of a size that it cannot take. too_long: the seconds that the
    passes were predicted to take, from the first rung to the test, of what was therefore left out. made: the trials of
    this search, by their rows' digests. rungs: of this way up. reached: by rows, of all ways up. took: seconds of
    heads, by rows. first_passes: the seconds of those that the first rung reads.
    """

    question: SearchQuestion
    how: How
    deadline: float
    plans: dict[Pass, Plan] = field(default_factory=dict)
    at_limits: dict[tuple[Pass, int | None], Plan] = field(default_factory=dict)
    rates: dict[Pass, float] = field(default_factory=dict)
    rungs: list[Rung] = field(default_factory=list)
    refused: dict[Pass, str] = field(default_factory=dict)
    too_long: dict[Pass, float] = field(default_factory=dict)
    made: dict[str, Trial] = field(default_factory=dict)
    reached: dict[int, Rung] = field(default_factory=dict)
    took: dict[Candidate, dict[int, float]] = field(default_factory=dict)
    first_passes: float = 0.0
    began: float = field(default_factory=time.time)

    def climb(self) -> Tried:
        """The best on the most rows that there was time for.

        As long as time is left and some are untried it goes up again: what is known takes none. `rungs` are those of
        the last way up where nothing was left out of it, else those of all ways together.
        """
        going().expect(self.deadline - self.began)
        limits = self.question.rungs()
        candidates = tuple(self._start(limits[0]))
        while True:
            made, self.rungs = len(self.made), []
            self._climb_once(limits, candidates)
            if all(len(rung.tried) == len(rung.due) for rung in self.rungs):
                break
            if len(self.made) == made:
                # What went up on an earlier way, when fewer were known, has been tried all the same.
                self.rungs = [self.reached[rows] for rows in sorted(self.reached)]
                break
        best = best_of(self.rungs)
        assert best is not None  # of the first rung one is tried whatever the time
        return best

    def _climb_once(self, limits: Sequence[int | None], due: tuple[Candidate, ...]) -> None:
        """From rung to rung: each may take as much of the time left as each of those that follow."""
        for number, limit in enumerate(limits):
            share = 1 / (len(limits) - number)
            candidates = self._affordable(due, limit, share) if number else due
            before = Rung(self._rows(limit), due, extract_seconds=0.0 if number else self.first_passes)
            rung = dataclasses.replace(self.reached.get(before.rows, before), due=due, tried=())
            # One alone has nothing to be held against.
            if len(candidates) > 1 or len(due) == len(candidates):
                rung = self._rung(rung, limit, candidates, share)
            self.rungs.append(rung)
            self._remember(rung)
            if not rung.tried:
                break
            due = tuple(entry.candidate for entry in rung.tried[: math.ceil(len(rung.tried) / TIMES)])
            if len(due) < 2:
                break

    def _remember(self, rung: Rung) -> None:
        """Add what of a rung was tried to what was tried on so many rows before."""
        before = self.reached.get(rung.rows, rung)
        tried = {entry.candidate: entry for entry in (*before.tried, *rung.tried)}
        for entry in rung.tried:
            self.took.setdefault(entry.candidate, {})[rung.rows] = max(LEAST_SECONDS, entry.trial.seconds)
        self.reached[rung.rows] = dataclasses.replace(
            rung,
            due=tuple(dict.fromkeys((*rung.due, *tried))),
            tried=tuple(by_merit(list(tried.values()), self.question.settings.score)),
        )

    @property
    def best(self) -> Tried | None:
        """The best so far."""
        return best_of([self.reached[rows] for rows in sorted(self.reached)])

    def _start(self, limit: int | None) -> list[Candidate]:
        """All candidates, of the passes that there is time for from the first rung to the test."""
        candidates: list[Candidate] = []
        for of_pass in self.question.grid.passes:
            if candidates and (seconds := self._whole_way(of_pass, limit)) > ADMITTED * self._left():
                self.too_long[of_pass] = seconds
                continue
            try:
                places = self._plan(of_pass)
            except UserError as error:
                if self.question.sizes_named:
                    raise
                self.refused[of_pass] = str(error)
                continue
            self.first_passes += self._extract(of_pass, limit, places)
            candidates += self.question.grid.candidates(of_pass, places)
        if not candidates:
            raise UserError(
                f"the network takes none of the sizes {', '.join(map(str, self.refused))} "
                f"({next(iter(self.refused.values()))}); name one with --image-size"
            )
        return candidates

    def _plan(self, of_pass: Pass) -> tuple[tuple[str, str], ...]:
        """Plan a pass; its (layer, pooling) pairs."""
        grid, depth = self.question.grid, self.question.depth
        request = dataclasses.replace(of_pass.of(self.question.request), pools=grid.pool)
        layers = grid.layer
        if layers is None:
            stages = plan(dataclasses.replace(request, layers=("all",))).layers
            every = probe_layers(dataclasses.replace(request, layers=("all",)), depth) if depth != "stage" else stages
            layers = (*every, *joins(stages))
        self.plans[of_pass] = plan(dataclasses.replace(request, layers=layers))
        return self.plans[of_pass].distinct()

    def _whole_way(self, of_pass: Pass, limit: int | None) -> float:
        """Seconds that the passes at this size would take for the first rung, all rows and the test."""
        first = next(iter(self.plans.values()))
        rows = sum(_images(first).values()) + (limit or 0)
        if of_pass not in self.rates:
            largest = max(self.rates)
            return rows * self.rates[largest] * of_pass.work() / largest.work()
        return rows * self.rates[of_pass]

    def _extract(self, of_pass: Pass, limit: int | None, places: Iterable[tuple[str, str]]) -> float:
        """Make what is missing of these pairs for so many training rows; the seconds that it took."""
        part = narrowed(self._limited(of_pass, limit), places, LEARNT_FROM)
        started = time.time()
        if missing(part):
            from extract.extraction import extract

            with row_progress() as progress:
                made = extract(part, compiled=self.how.compiled, jobs=self.how.jobs, progress=progress, say=PLAINLY.say)
            for done in made:
                self.how.say(f"{of_pass}: {counted(done.images, 'image')} in {duration(done.seconds)}")
                # What a pass takes to begin with is much of one of few images, and none of it is in the network.
                self.rates[of_pass] = done.seconds * max(0.5, done.computing) / max(1, done.images)
        if of_pass not in self.rates:
            seconds = [seconds_to_extract(file.key, 1) for file in part.wanted]
            self.rates[of_pass] = max((rate for rate in seconds if rate is not None), default=0.0)
        self._advance(f"{of_pass}")
        return time.time() - started

    def _affordable(self, due: Sequence[Candidate], limit: int | None, share: float) -> tuple[Candidate, ...]:
        """Those of the due ones whose passes and heads on so many rows are predicted to end in time, or are known; the
        best first."""
        known, rows = self._known(self._row_of(limit, due)), self._rows(limit)
        allowed = left = self._allowed(due, share, rows)
        # Whichever wins is to be fitted and tested in time, as the best so far is.
        best = self.best
        assert best is not None
        latest = max(ADMITTED * self._left(), self._finish(best.candidate, max(rows, best.rows)))
        chosen: list[Candidate] = []
        passes: set[Pass] = set()
        for candidate in due:
            cost = 0.0
            if candidate not in known:
                alone = self._expected(candidate, rows)
                cost = alone / self._workers()
                cost += 0.0 if candidate.of_pass in passes else rows * self.rates[candidate.of_pass]
                cost = math.inf if alone > allowed or self._finish(candidate, rows) > latest else cost
            if cost <= left:
                left -= cost
                passes.add(candidate.of_pass)
                chosen.append(candidate)
        return tuple(chosen)

    def _rung(self, rung: Rung, limit: int | None, candidates: Sequence[Candidate], share: float) -> Rung:
        """Try candidates on so many training rows, as long as there is time."""
        started, rows = time.time(), self._row_of(limit, candidates)
        known, extracting = self._known(rows), 0.0
        todo = [candidate for candidate in candidates if candidate not in known]
        for of_pass in sorted({candidate.of_pass for candidate in todo}):
            places = {(candidate.layer, candidate.pool) for candidate in todo if candidate.of_pass == of_pass}
            extracting += self._extract(of_pass, limit, places)
        allowed = self._allowed(candidates, share, rung.rows)
        trials = self._trials(rows, known, rung.rows, time.time() + allowed)
        tried = [Tried(candidate, len(self.rungs), rung.rows, trial) for candidate, trial in trials.items()]
        rung = dataclasses.replace(
            rung,
            tried=tuple(by_merit(tried, self.question.settings.score)),
            extract_seconds=rung.extract_seconds + extracting,
            seconds=rung.seconds + time.time() - started - extracting,
        )
        if rung.tried and (len(trials) > len(known) or rung.rows not in self.reached):
            self.how.say(self._line(rung))
        return rung

    def _row_of(self, limit: int | None, candidates: Iterable[Candidate]) -> dict[Candidate, Row]:
        """The row of each candidate on so many training rows."""
        settings = dataclasses.replace(self.question.trial_settings(limit), jobs=self.how.jobs)
        return {
            candidate: _row(candidate, self._limited(candidate.of_pass, limit), settings) for candidate in candidates
        }

    def last_row(self, candidate: Candidate) -> Row:
        """The row of a candidate on all training rows, as `python -m classify` has it."""
        settings = self.question.last_settings(candidate.head)
        return _row(candidate, self.plans[candidate.of_pass], settings)

    def _limited(self, of_pass: Pass, limit: int | None) -> Plan:
        """The plan of a pass at a limit, for which labels are opened once."""
        if (of_pass, limit) not in self.at_limits:
            self.at_limits[of_pass, limit] = limited(self.plans[of_pass], limit)
        return self.at_limits[of_pass, limit]

    def _known(self, rows: dict[Candidate, Row]) -> dict[Candidate, Trial]:
        """The trials that were made before, or stand in the folder."""
        known = {}
        for candidate, row in rows.items():
            trial = self.made.get(row.digest)
            if trial is None and not self.how.again:
                trial = find_trial(self.how.folder, row.config)
            if trial is not None:
                known[candidate] = trial
        return known

    def _trials(
        self, rows: dict[Candidate, Row], known: dict[Candidate, Trial], number: int, until: float
    ) -> dict[Candidate, Trial]:
        """The trials of rows, known ones and those that end by then."""
        is_first, trials = not self.rungs, dict(known)
        threads = threads_of(self.how.jobs, len(rows) - len(known))
        how = dataclasses.replace(self.how, say=PLAINLY.say, on_epoch=None)
        for wave in self._waves(rows, trials) if is_first else [lambda: list(rows)]:
            todo = [candidate for candidate in wave() if candidate not in trials]
            tasks: list[tuple[Row, How, float]] = []
            for candidate in todo:
                row = rows[candidate]
                row = dataclasses.replace(row, settings=row.head.on_threads(row.settings, threads))
                latest = until if is_first else until - self._expected(candidate, number)
                # One at least is tried, however late it is.
                tasks.append((row, how, math.inf if is_first and not (trials or tasks) else latest))
            for candidate, trial in zip(todo, in_parallel(attempt, tasks, self.how.jobs), strict=True):
                if trial is not None:
                    trials[candidate] = self.made[trial.digest] = trial
                self._advance(f"{len(trials)}/{len(rows)} on {count(number)} rows")
        return trials

    def _waves(self, rows: dict[Candidate, Row], trials: dict[Candidate, Trial]) -> tuple[Wave, Wave]:
        """In which order all are tried for the first time, so that what there is no time for is what promises least:
        each place under the head that takes least, then the others at the places where that did best."""
        score = self.question.settings.score
        by_place: dict[tuple, list[Candidate]] = {}
        for candidate in rows:
            by_place.setdefault((candidate.of_pass, candidate.layer, candidate.pool), []).append(candidate)
        cost = {candidate: row.head.cost(row.source) for candidate, row in rows.items()}
        for there in by_place.values():
            there.sort(key=cost.__getitem__)  # stable: of equal ones the grid's first

        def others() -> list[Candidate]:
            firsts = [Tried(there[0], 0, 0, trials[there[0]]) for there in by_place.values() if there[0] in trials]
            ranked = {entry.candidate: rank for rank, entry in enumerate(by_merit(firsts, score))}
            places = sorted(by_place.values(), key=lambda there: ranked.get(there[0], len(ranked)))
            return [candidate for there in places for candidate in there]

        return lambda: sorted((there[0] for there in by_place.values()), key=cost.__getitem__), others

    def _expected(self, candidate: Candidate, rows: int) -> float:
        """Seconds that a candidate is expected to take on so many rows, by what it took on fewer."""
        *steps, (most, seconds) = sorted(self.took[candidate].items())
        grown = [math.log(seconds / took) / math.log(most / few) for few, took in steps]
        return float(seconds * (rows / most) ** min(max([HEADS[candidate.head].growth, *grown]), MOST_GROWTH))

    def _allowed(self, candidates: Iterable[Candidate], share: float, rows: int) -> float:
        """Seconds that a rung may take: its share of what is left, and no more than leaves the winner its own.

        From the fewest rows alone what the winner's fit will take is a guess, which the first step up makes a better
        one: that step may have a part of its share whatever is guessed.
        """
        left, best, least = self._left(), self.best, 0.0
        if best is None:
            reserve = max(self.rates[candidate.of_pass] for candidate in candidates) * self._images_left(rows)
        else:
            reserve = self._finish(best.candidate, max(rows, best.rows))
            if len(self.rungs) == 1 and best.rung == 0:
                least = min(GUESSED * share * left, left - self.rates[best.candidate.of_pass] * self._images_left(rows))
        return max(0.0, least, min(share * left, left - reserve))

    def _finish(self, candidate: Candidate, rows: int) -> float:
        """Seconds that a winner on so many rows is expected to take: its passes that are not made yet, and its fit."""
        passes = self.rates[candidate.of_pass] * self._images_left(rows)
        return passes + self._expected(candidate, self._rows(self.question.request.limit))

    def _images_left(self, rows: int) -> int:
        """The images that the winner on so many training rows still needs."""
        images = _images(next(iter(self.plans.values())))
        return images["test"] + (0 if rows == images["train"] else images["train"])

    def _rows(self, limit: int | None) -> int:
        """How many training rows a limit takes."""
        every = _images(next(iter(self.plans.values())))["train"]
        return every if limit is None else min(every, limit)

    def _workers(self) -> int:
        import joblib

        return self.how.jobs or joblib.cpu_count()

    def _left(self) -> float:
        return self.deadline - time.time()

    def _advance(self, doing: str) -> None:
        elapsed = min(time.time(), self.deadline) - self.began
        going().advance(max(0.0, elapsed - going().done), doing)

    def _line(self, rung: Rung) -> str:
        """What a rung came to."""
        score = rung.tried[0].score(self.question.settings.score)
        tried = f"{count(len(rung.tried))} of {counted(len(rung.due), 'configuration')}"
        return f"{count(rung.rows)} training rows: {tried}, the best {rung.tried[0].candidate} ({percent(score)} %)"


def _row(candidate: Candidate, whole: Plan, settings: Settings) -> Row:
    """The row of a candidate, whose pass is planned."""
    place = candidate.layer, candidate.pool
    source = CachedLayer(narrowed(whole, [place], whole.splits), *place)
    return Row(source=source, head=Classical(head=HEADS[candidate.head]), settings=settings)


def attempt(row: Row, how: How, latest: float) -> Trial | None:
    """Try a row and keep what came out, unless it is later than that by now."""
    started = time.time()
    if started >= latest:
        return None
    fitted = fit(row, how, weighed=False)
    rows, predicted, labels = fitted.validation_rows, fitted.validation_predicted, fitted.validation_labels
    assert rows is not None and predicted is not None and labels is not None  # a trial is scored on rows
    seconds = max(LEAST_SECONDS, time.time() - started)
    trial = Trial(row.config, fitted.fields, seconds, rows, predicted, labels, fitted.validation_folds)
    trial.save(how.folder)
    return trial


def _images(asked: Plan) -> dict[str, int]:
    """How many images of each split a plan takes."""
    return {split: max(file.rows for file in asked.wanted if file.split == split) for split in asked.splits}
