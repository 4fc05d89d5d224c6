"""Where the alternatives live: each in a folder of its own, made with pip on first use, never in this environment."""

import os
import subprocess
import sys
from pathlib import Path

# thingsvision pins torch 2.0 and TensorFlow, and needs the setuptools of its time.
_THINGSVISION = ("thingsvision==2.7.3", "setuptools<70")
_IMG2VEC = ("img2vec_pytorch==1.0.2",)


def thingsvision_python(folder: Path, given: str | None) -> str:
    """The interpreter that has thingsvision: the one given, or that of a virtual environment in the folder."""
    if given:
        return given
    python = folder / "thingsvision" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *_THINGSVISION], check=True)
    return str(python)


def img2vec_path(folder: Path) -> str:
    """A PYTHONPATH on which img2vec is found, beside the torch and torchvision that are here."""
    target = folder / "img2vec"
    if not target.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), *_IMG2VEC]
        subprocess.run(command, check=True)
    return os.pathsep.join([str(target), str(Path.cwd())])
