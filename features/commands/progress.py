"""A progress bar with rate and time left, on the terminal; nothing where it is no terminal, or quiet."""

import contextlib
from collections.abc import Callable, Iterator

from features.commands.speaking import is_quiet


@contextlib.contextmanager
def row_progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """A function to be called with what is being worked on, the rows done and the rows in all, None if unknown."""
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
