"""Where things are kept: `$LAYERPROBE_HOME`, or the user's cache folder, with one folder for each kind of thing.

Nothing here creates a folder; whoever writes does.
"""

import os
from pathlib import Path


def home() -> Path:
    """The folder that holds data sets, weights and features."""
    if chosen := os.environ.get("LAYERPROBE_HOME"):
        return user_path(chosen).absolute()
    from platformdirs import user_cache_path

    return user_cache_path("layerprobe")


def user_path(text: str) -> Path:
    """The path that a user wrote, `~` meaning a home folder; as it stands where there is no such user, as in shells."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def datasets_folder() -> Path:
    """Where data sets are downloaded to and looked for."""
    return home() / "datasets"


def weights_folder() -> Path:
    """Where pre-trained weights are downloaded to and looked for."""
    return home() / "weights"


def features_folder() -> Path:
    """Where the cached features stand."""
    return home() / "features"
