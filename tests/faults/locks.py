"""A file system without locks: that is said, the work goes on, and alone nothing is lost."""

import errno
import fcntl
import shutil
from collections.abc import Callable

from tests.faults.bench import EXTRACT, Bench, differences, features_of
from tests.faults.tally import Tally, fault

_REFUSALS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@fault("a file system without locks", short=1, long=9)
def without_locks(bench: Bench, tally: Tally, count: int) -> None:
    for number in range(count):
        place = bench.place("lockless")
        process = bench.run(place, "extract", *EXTRACT, first=_refusing(_REFUSALS[number % len(_REFUSALS)]))
        told = process.said + process.complained
        losses = [process.complained if process.status else ""]
        losses.append("" if "knows no locks" in told else "nothing was said")
        tally.count([*losses, differences(bench.extracted.content, features_of(place))])
        shutil.rmtree(place)


def _refusing(number: int) -> Callable[[], None]:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, "no locks here")

    def first() -> None:
        fcntl.flock = flock

    return first
