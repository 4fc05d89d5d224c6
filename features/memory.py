"""How much memory this process can still take: the least of what the machine has and what limits leave it.

And whether what it has freed goes back at once: a network's maps are freed and asked for again with every batch.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# From glibc's malloc.h, and Linux' mman.h.
_MALLOC_TRIM_THRESHOLD, _MALLOC_MMAP_THRESHOLD, _MALLOC_ARENA_MAX = -1, -3, -8
_MADV_HUGEPAGE = 14
_ALWAYS_KEPT = 1 << 30
_AHEAD = 1 << 29  # bytes of the heap that are advised before anything stands there: maps of a batch or two
_LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_CGROUPS = Path("/sys/fs/cgroup")


def memory_at_hand() -> int | None:
    """Bytes, from the machine's free memory, its control groups and this process's own limits (`ulimit -v`, `-d`).

    None where the system says nothing of it.
    """
    return min(_known(), default=None)


def keep_freed_memory() -> None:
    """Have large blocks that are freed kept for the next batch, instead of given back and asked for page by page, and
    the pages be large ones (2 MB), as numpy has them for its arrays.

    By default glibc maps every block of more than 32 MB anew; for a batch of ResNet18 at 224 pixels the pages alone
    then take a fifth of the time. In small pages maps that no cache holds are written at half of the rate on a virtual
    machine. Elsewhere than under glibc nothing is changed.
    """
    library = _c_library()
    if mallopt := getattr(library, "mallopt", None):
        mallopt(_MALLOC_MMAP_THRESHOLD, _ALWAYS_KEPT)
        mallopt(_MALLOC_TRIM_THRESHOLD, _ALWAYS_KEPT)
        if "[madvise]" in "".join(lines_of(_LARGE_PAGES)) and not any(_limits()):
            mallopt(_MALLOC_ARENA_MAX, 1)  # threads take from the heap as well
            _take_large_pages(library)


def _take_large_pages(library: Any) -> None:
    """Advise the kernel to have large pages for the heap, and for what it will grow by."""
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    ahead = library.malloc(_AHEAD)
    for line in lines_of("/proc/self/maps"):
        if line.endswith("[heap]"):
            first, end = (int(address, 16) for address in line.split()[0].split("-"))
            library.madvise(first, end - first, _MADV_HUGEPAGE)
    library.free(ahead)


def give_back_freed_memory() -> None:
    """Give back, once, what `keep_freed_memory` has had kept."""
    if trim := getattr(_c_library(), "malloc_trim", None):
        trim(0)


def _c_library() -> Any:
    return ctypes.CDLL(None) if sys.platform.startswith("linux") else None


def _known() -> Iterator[int]:
    if free := _fields("/proc/meminfo").get("MemAvailable"):
        yield free
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        # Without a figure for what is free: half of what there is.
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    yield from _left_by_cgroups()
    used = _fields("/proc/self/status")
    for name, most in _limits():
        if name in used:
            yield max(0, most - used[name])


def _limits() -> Iterator[tuple[str, int]]:
    """The limits on this process's own memory, each by the name of what it is held against in /proc/self/status."""
    if sys.platform.startswith("linux"):
        import resource

        for limit, name in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
            soft, _ = resource.getrlimit(limit)
            if soft != resource.RLIM_INFINITY:
                yield name, soft


def _left_by_cgroups() -> Iterator[int]:
    """What each control group that this process is in leaves, of version 2 and of version 1."""
    for line in lines_of("/proc/self/cgroup"):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers == "":
            root, limit, used, idle = _CGROUPS, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, limit, used = _CGROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            idle = "total_inactive_file"
        else:
            continue
        folder = root / path.strip("/")
        # In a container the path is often that of the machine, and the group itself stands at the root.
        for group in {folder, *folder.parents, root}:
            if group.is_relative_to(root) and (most := _number(group / limit)) is not None:
                counted = _fields(group / "memory.stat").get(idle, 0)
                yield max(0, most - max(0, (_number(group / used) or 0) - counted))


def _number(path: Path) -> int | None:
    text = "".join(lines_of(path)).strip()
    return int(text) if text.isdecimal() else None


def _fields(path: Path | str) -> dict[str, int]:
    """Lines such as `MemAvailable:  123 kB` or `inactive_file 123`, in bytes."""
    fields = {}
    for line in lines_of(path):
        words = line.replace(":", " ").split()
        if len(words) >= 2 and words[1].isdecimal():
            fields[words[0]] = int(words[1]) * (1024 if words[2:3] == ["kB"] else 1)
    return fields


def lines_of(path: Path | str) -> list[str]:
    """The lines of a file of the system's; none where it cannot be read."""
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
