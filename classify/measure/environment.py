"""What a result was computed with: versions and processor, nothing that names a machine or a person."""

import os
import platform
from pathlib import Path
from typing import Any

from features.versions import version_of

_DISTRIBUTIONS = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "h5py")


def this_environment() -> dict[str, Any]:
    """Versions of python, layerprobe and the libraries (None where absent), processor, cores at hand and platform.

    Versions come from the packages' metadata; nothing is imported for them.
    """
    return {
        "layerprobe": version_of("layerprobe"),
        "python": platform.python_version(),
        **{name: version_of(name) for name in _DISTRIBUTIONS},
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    """The processor's name as Linux spells it, else what Python knows."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
