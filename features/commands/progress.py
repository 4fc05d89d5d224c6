"""A progress bar with rate and time left, on the terminal; nothing where it is no terminal, or quiet."""

import contextlib
import time
from collections.abc import Callable, Iterator

from features.commands.speaking import is_quiet

# Called with what is being worked on, what is done and what there is in all, None if unknown.
Advance = Callable[[str, int, int | None], None]
_SLOW = 1.5  # seconds


@contextlib.contextmanager
def row_progress() -> Iterator[Advance]:
    """A bar for each thing that is worked on."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    shown = console.is_terminal and not is_quiet()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    first: dict[str, int] = {}
    with Progress(*columns, console=console, transient=True, disable=not shown) as bars:

        def advance(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name], first[name] = bars.add_task(name, total=total, rate=""), done
            task = bars.tasks[tasks[name]]
            rate = (done - first[name]) / task.elapsed if task.elapsed else 0
            bars.update(tasks[name], completed=done, rate=f"{rate:,.0f}/s" if rate else "")

        yield advance


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
