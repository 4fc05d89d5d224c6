"""A step's memory is its own: what earlier ones left is given back first, and nobody waits where they left nothing."""

import gc
import subprocess
import sys

import numpy as np
import pytest

from classify.measure.memory import peak_memory
from features.memory import _LARGE_PAGES, _limits, keep_freed_memory, lines_of

MEGABYTE = 2**20


class _Circle:
    """Something large that refers to itself, as networks with hooks do."""

    def __init__(self, megabytes: int) -> None:
        self.numbers = np.ones(megabytes * MEGABYTE, dtype=np.uint8)
        self.circle = self


@pytest.fixture
def looks():
    """How often all objects were looked at since."""
    counted = []

    def count(phase, info):
        if phase == "stop" and info["generation"] == 2:
            counted.append(info)

    with peak_memory():
        pass
    gc.callbacks.append(count)
    yield counted
    gc.callbacks.remove(count)


@pytest.mark.skipif(sys.platform != "linux", reason="the largest figure cannot be forgotten there")
def test_what_an_earlier_step_left_in_a_circle_is_no_part_of_the_next(looks):
    with peak_memory() as before:
        pass
    _Circle(300)
    with peak_memory() as after:
        pass
    assert looks and after.host < before.host + 100 * MEGABYTE


def test_a_step_has_what_it_took_at_its_most(looks):
    with peak_memory() as small:
        pass
    with peak_memory() as large:
        _Circle(300)
    assert large.host > small.host + 250 * MEGABYTE


def test_little_by_little_is_given_back_too(looks):
    """Each of the steps leaves less than is worth a look."""
    with peak_memory() as before:
        pass
    for _ in range(20):
        _Circle(40)
        with peak_memory() as after:
            pass
    assert looks and after.host < before.host + 200 * MEGABYTE


def test_where_nothing_is_left_nobody_waits(looks):
    keep_freed_memory()  # as after a pass, whose process keeps what is freed until it is asked for it
    for _ in range(20):
        with peak_memory():
            np.ones(300 * MEGABYTE, dtype=np.uint8)
    assert not looks


_LOOK = """
import resource, sys
if sys.argv[1] == "limited":
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, resource.RLIM_INFINITY))
from features.memory import _LARGE_PAGES, _limits, keep_freed_memory, lines_of
keep_freed_memory()
heap, flags = False, []
for line in open("/proc/self/smaps"):
    first = line.split()[0]
    heap = line.rstrip().endswith("[heap]") if "-" in first else heap
    if heap and first == "VmFlags:":
        flags += line.split()
print("hg" in flags)
"""


@pytest.mark.skipif("[madvise]" not in "".join(lines_of(_LARGE_PAGES)), reason="large pages are not to be asked for")
@pytest.mark.parametrize("limit", ["free", "limited"])
def test_large_pages_are_asked_for_where_memory_is_not_limited(limit):
    done = subprocess.run([sys.executable, "-c", _LOOK, limit], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(limit == "free" and not any(_limits()))
