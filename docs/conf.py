"""How Sphinx builds these pages: MyST Markdown, notebooks as executed, API from docstrings, options from parsers.

python -m sphinx -W --keep-going -b html docs docs/_build
"""

import configparser
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # the packages of this checkout, installed or not

_setup = configparser.ConfigParser()
_setup.read(HERE.parent / "setup.cfg", encoding="utf-8")

project = "layerprobe"
author = _setup["metadata"]["author"]
copyright = f"2026, {author}"
release = version = _setup["metadata"]["version"]

extensions = ["myst_nb"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist", "attrs_block"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are committed as executed; a test runs them again

html_theme = "furo"
html_title = "layerprobe"
html_show_sourcelink = False
