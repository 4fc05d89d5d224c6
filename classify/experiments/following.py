"""A probe, a comparison or a study followed as a whole while it goes: what `--progress` shows."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from features.commands.progress import course
from features.request import Request

# What people ask for most of the fields of `features.request.Request` that these functions take as `**options`.
ASKED_FOR = ("weights", "image_size", "limit", "limit_test", "seed", "device")

Call = TypeVar("Call", bound=Callable[..., Any])


def followed(function: Call) -> Call:
    """The same function, whose rows are counted while it runs; its option `progress` says where that is shown.

    Its signature names `ASKED_FOR` too, for `help` and for completion in notebooks.
    """

    @functools.wraps(function)
    def following(*arguments: Any, **options: Any) -> Any:
        with course(function.__name__, options.get("progress") or "auto"):
            return function(*arguments, **options)

    signature = inspect.signature(function)
    *named, rest = signature.parameters.values()
    fields = inspect.signature(Request).parameters
    asked_for = [
        fields[name].replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name in ASKED_FOR
        if name != "seed" or "seeds" not in signature.parameters
    ]
    following.__signature__ = signature.replace(parameters=[*named, *asked_for, rest])  # type: ignore[attr-defined]
    return following  # type: ignore[return-value]  # it takes and gives what the function does
