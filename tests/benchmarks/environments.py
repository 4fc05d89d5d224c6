"""Where the alternatives live: each in a folder of its own, made with pip on first use, never in this environment."""

import os
import subprocess
import sys
from pathlib import Path

# thingsvision pins torch 2.0 and TensorFlow, and needs the setuptools of its time.
_THINGSVISION = ("thingsvision==2.7.3", "setuptools<70")
# What is found beside the torch and torchvision that are here.
_BESIDE = {"img2vec": "img2vec_pytorch==1.0.2", "visbench": "visbench==0.27.0"}


def thingsvision_python(folder: Path, given: str | None) -> str:
    """The interpreter that has thingsvision: the one given, or that of a virtual environment in the folder."""
    if given:
        return given
    python = folder / "thingsvision" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *_THINGSVISION], check=True)
    return str(python)


def path_with(name: str, folder: Path) -> str:
    """A PYTHONPATH on which 'img2vec' or 'visbench' is found, beside the torch and torchvision that are here."""
    target = folder / name
    if not target.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
        subprocess.run([*command, _BESIDE[name]], check=True)
    return os.pathsep.join([str(target), str(Path.cwd())])
