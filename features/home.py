"""Where things are kept: `$LAYERPROBE_HOME`, or the user's cache folder, with one folder for each kind of thing.

Nothing here creates a folder; whoever writes does.
"""

import os
from pathlib import Path


def home() -> Path:
    """The folder that holds data sets, weights and features."""
    if chosen := os.environ.get("LAYERPROBE_HOME"):
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("layerprobe")


def datasets_folder() -> Path:
    """Where data sets are downloaded to and looked for."""
    return home() / "datasets"


def weights_folder() -> Path:
    """Where pre-trained weights are downloaded to and looked for."""
    return home() / "weights"


def features_folder() -> Path:
    """Where the cached features stand."""
    return home() / "features"
