"""A probe, a comparison or a study followed as a whole while it goes: what `--progress` shows."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from features.commands.progress import course

Call = TypeVar("Call", bound=Callable[..., Any])


def followed(function: Call) -> Call:
    """The same function, whose rows are counted while it runs; its option `progress` says where that is shown."""

    @functools.wraps(function)
    def following(*arguments: Any, **options: Any) -> Any:
        with course(function.__name__, options.get("progress") or "auto"):
            return function(*arguments, **options)

    return following  # type: ignore[return-value]  # it takes and gives what the function does
