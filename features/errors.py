"""The one exception for a user's mistake; the command line prints it as one line and exits with status 2."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator

# By difflib's measure: `svn` is near `svm`, and `nope` is not near `npz`.
_NEAR = 0.6
_TELLING = 3  # letters that a name begins with and is known by


class UserError(Exception):
    """What is wrong, what was expected and what to do next, in one line that needs no traceback."""

    def __str__(self) -> str:
        # What a user typed, or a name in a file, may hold line breaks.
        return " ".join(super().__str__().splitlines())


def unknown(problem: str, name: str, names: Iterable[str], more: str = "") -> UserError:
    """The error for a name that is none of those known: the problem, the nearest of them, all of them, then `more`."""
    names = tuple(names)
    near = nearest(name, names)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return UserError(f"{problem}; {hint}choose from {', '.join(names)}{more}")


def nearest(name: str, names: Iterable[str], most: int = 3) -> tuple[str, ...]:
    """Of some names those that are meant where one's fingers or memory slip: nearly the same, or longer; none where
    none is near."""
    spelled = {known.lower(): known for known in reversed(tuple(names))}
    typed = name.lower()
    near = difflib.get_close_matches(typed, spelled, n=most, cutoff=_NEAR)
    longer = [known for known in reversed(spelled) if len(typed) >= _TELLING and known.startswith(typed)]
    return tuple(spelled[known] for known in dict.fromkeys([*near, *longer]))[:most]


@contextlib.contextmanager
def blaming(whom: str, advice: str) -> Iterator[None]:
    """Whatever else than a UserError other people's code raises in the block becomes one that names it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{whom} failed ({said[:300]}); {advice}") from error
