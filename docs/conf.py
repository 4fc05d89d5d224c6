"""How Sphinx builds these pages: MyST Markdown, notebooks as executed, API from docstrings, options from parsers.

python -m sphinx -W --keep-going -b html docs docs/_build/html
"""

import configparser
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "extensions")]  # this checkout, installed or not

_setup = configparser.ConfigParser()
_setup.read(HERE.parent / "setup.cfg", encoding="utf-8")

project = "layerprobe"
author = _setup["metadata"]["author"]
copyright = f"2026, {author}"
release = version = _setup["metadata"]["version"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "command_line"]
exclude_patterns = ["_build", "jupyter_execute", "**.ipynb_checkpoints"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist", "attrs_block"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are committed as executed; a test runs them again

html_theme = "furo"
html_title = "layerprobe"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["pages.css"]

# Types in docstrings are words for people ('ndarray of float32, (N, D)') and lead nowhere.
napoleon_google_docstring = False
napoleon_use_param = napoleon_use_rtype = False
napoleon_use_ivar = True
nitpick_ignore_regex = [("py:.*", ".*")]
autodoc_typehints = "none"
default_role = "code"
