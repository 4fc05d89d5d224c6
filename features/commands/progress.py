"""How far things are: a bar for the rows of a pass, and one for a probe or a comparison as a whole, with the time left.

On a terminal rich draws them, in a notebook the cell's output shows the whole, elsewhere nothing is shown unless one
asks for it: then a line now and then. Nothing where it is quiet.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from features.commands.speaking import is_quiet, tell

_EVERY = 10.0  # seconds between lines, and before a notebook shows anything
_bars: Any = None


@dataclass(eq=False)
class Course:
    """Something long as a whole, in units of its own: what is expected of it, and what is done.

    shown: called after each step; it says what there is to be seen. What was done before does not tell how fast it goes
    on: it is taken off what is expected.
    """

    name: str
    shown: Callable[["Course"], None] = lambda course: None
    is_bar: bool = False
    expected: float = 0.0
    done: float = 0.0
    doing: str = ""
    started: float = field(default_factory=time.monotonic)
    advanced: float = 0.0

    def expect(self, amount: float) -> None:
        """So much more is to be done; less where it is negative."""
        if not self.done:
            self.started = time.monotonic()
        self.expected = max(self.done, self.expected + amount)
        self.shown(self)

    def advance(self, amount: float, doing: str = "") -> None:
        """So much more is done."""
        self.done, self.doing, self.advanced = min(self.expected, self.done + amount), doing, time.monotonic()
        self.shown(self)

    @property
    def share(self) -> float:
        """What is done of it, from 0 to 1."""
        return self.done / self.expected if self.expected else 0.0

    def seconds_left(self, now: float | None = None) -> float | None:
        """As things went up to the last step, less the time since then; None before there is anything to go by, and
        once that time is over."""
        if not self.done:
            return None
        expected = (self.advanced - self.started) * (self.expected - self.done) / self.done
        since = (time.monotonic() if now is None else now) - self.advanced
        return expected - since if since <= expected else None

    def __str__(self) -> str:
        left = self.seconds_left()
        about = "" if left is None else f", about {_spelled(left)} left"
        return f"{self.name}: {self.share:.0%}{about}"


_going = Course("nothing")


def going() -> Course:
    """The course that this process is on; where nobody follows one it shows nothing."""
    return _going


@contextlib.contextmanager
def course(name: str, show: str = "auto") -> Iterator[Course]:
    """Inside the block what `going` advances is shown as a whole.

    show: 'auto', 'on' (outside terminals too) or 'off'.
    """
    global _going
    before = _going
    with contextlib.ExitStack() as stack:
        _going = Course(name)
        if show != "off" and not is_quiet():
            if (notebook := _notebook()) is not None:
                _going.shown = stack.enter_context(_in_notebook(notebook, at_once=show == "on"))
            elif sys.stderr.isatty():
                _going.shown, _going.is_bar = stack.enter_context(_on_terminal(_going)), True
            elif show == "on":
                _going.shown = _in_lines()
        try:
            yield _going
        finally:
            _going = before


# Called with what is being worked on, what is done and what there is in all, None if unknown.
Advance = Callable[[str, int, int | None], None]
_SLOW = 1.5  # seconds


@contextlib.contextmanager
def row_progress() -> Iterator[Advance]:
    """A bar for each thing that is worked on."""
    tasks: dict[str, Any] = {}
    first: dict[str, int] = {}
    with _drawn() as bars:

        def advance(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name], first[name] = bars.add_task(name, total=total, rate="", left=None), done
            task = next(task for task in bars.tasks if task.id == tasks[name])
            rate = (done - first[name]) / task.elapsed if task.elapsed else 0
            bars.update(tasks[name], completed=done, rate=f"{rate:,.0f}/s" if rate else "")

        try:
            yield advance
        finally:
            for task in tasks.values():
                bars.remove_task(task)


@contextlib.contextmanager
def progress_if_slow() -> Iterator[Advance]:
    """The same for what takes no time as a rule: bars are there only once it has taken more than a second or so."""
    started = time.monotonic()
    shown: Advance | None = None
    with contextlib.ExitStack() as stack:

        def advance(name: str, done: int, total: int | None) -> None:
            nonlocal shown
            if shown is None and time.monotonic() - started > _SLOW:
                shown = stack.enter_context(row_progress())
            if shown is not None:
                shown(name, done, total)

        yield advance


@contextlib.contextmanager
def _drawn() -> Iterator[Any]:
    """rich's bars, one set of them for all that goes on."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Done(MofNCompleteColumn):
        def render(self, task: Any) -> Text:
            followed = task.fields["left"]
            if followed is None:
                return super().render(task)
            return Text(f"{followed.share:.0%}" if followed.expected else "")

    class Left(ProgressColumn):
        usual = TimeRemainingColumn()

        def render(self, task: Any) -> Text:
            if (followed := task.fields["left"]) is None:
                return self.usual.render(task)
            left = followed.seconds_left()
            return Text("" if left is None else f"about {_spelled(left)} left", "cyan")

    global _bars
    if _bars is not None:
        yield _bars
        return
    console = Console(stderr=True)
    shown = console.is_terminal and not is_quiet()
    columns = (TextColumn("{task.description}"), BarColumn(), Done(), TextColumn("{task.fields[rate]}"), Left())
    _bars = Progress(*columns, console=console, transient=True, disable=not shown)
    try:
        # Bars that are not shown are not begun: rich before 15 ends those with an empty line.
        with _bars if shown else contextlib.nullcontext():
            yield _bars
    finally:
        _bars = None


@contextlib.contextmanager
def _on_terminal(followed: Course) -> Iterator[Callable[[Course], None]]:
    with _drawn() as bars:
        # A bar without a total moves to and fro: there is nothing of which it could be a share yet.
        task = bars.add_task(followed.name, total=None, rate="", left=followed)
        yield lambda course: bars.update(
            task, total=1.0 if course.expected else None, completed=course.share, rate=course.doing[:40]
        )


def _in_lines() -> Callable[[Course], None]:
    """A line now and then, for logs."""
    said = time.monotonic()

    def show(course: Course) -> None:
        nonlocal said
        if course.done and time.monotonic() - said >= _EVERY:
            said = time.monotonic()
            tell(course)

    return show


def _notebook() -> Any:
    """IPython's display module where this runs in a notebook's kernel; None elsewhere."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    import IPython.display

    return IPython.display


@contextlib.contextmanager
def _in_notebook(display: Any, *, at_once: bool) -> Iterator[Callable[[Course], None]]:
    """A bar of HTML in the cell's output, which goes when it is done; it needs no widgets."""
    began, handle = time.monotonic(), None

    def show(course: Course) -> None:
        nonlocal handle
        if not at_once and time.monotonic() - began < _EVERY:
            return
        bar = display.HTML(f'<progress value="{course.share:.3f}" max="1"></progress> {course}')
        if handle is None:
            handle = display.display(bar, display_id=True)
        else:
            handle.update(bar)

    try:
        yield show
    finally:
        if handle is not None:
            handle.update(display.HTML(""))


def _spelled(seconds: float) -> str:
    """Roughly, as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
