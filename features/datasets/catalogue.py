"""The names of the data sets, and the one door through which they are opened.

A kind of data set is a module with a function `open_named(name, path)`, given the name and the path behind the colon
(absolute, or None). To add one, write the module and give it a line in `KINDS`. Nothing heavy is imported here, so
that a command line can list the names.
"""

import importlib
import re
import typing
from pathlib import Path
from typing import Any

from features.errors import UserError, nearest
from features.home import user_path
from features.plugins import Plugin, blamed, plugins

if typing.TYPE_CHECKING:
    from features.datasets.dataset import Dataset

KINDS = {
    "mnist": "features.datasets.mnist",
    "fashion-mnist": "features.datasets.mnist",
    "kmnist": "features.datasets.mnist",
    "qmnist": "features.datasets.mnist",
    "emnist-digits": "features.datasets.mnist",
    "emnist-letters": "features.datasets.mnist",
    "usps": "features.datasets.usps",
    "svhn": "features.datasets.torchvision_arrays",
    "cifar10": "features.datasets.torchvision_arrays",
    "cifar100": "features.datasets.torchvision_arrays",
    "digits": "features.datasets.digits",
    "imagenet": "features.datasets.imagenet",
    "folder": "features.datasets.folder",
    "csv": "features.datasets.table",
    "npz": "features.datasets.npz",
    "hf": "features.datasets.hub",
    "transfer": "features.datasets.transfer",
}
NEED_A_PATH = ("folder", "csv", "npz", "hf")
MAY_BE_ELSEWHERE = ("hf",)  # where no path is there it is a name on a hub
NEED_TWO_PATHS = ("transfer",)
TAKE_NO_PATH = ("digits",)
TAKE_COLUMNS = ("csv", "hf")  # behind the path: ?path=COLUMN&label=COLUMN&group=COLUMN
TAKE_GROUPS = ("folder", "csv", "transfer")  # behind the path: ?group_by=REGEX, as `with_groups` spells it
ARROW = "->"  # between two paths
GROUP_BY = "?group_by="  # behind a spec, a regular expression with %XX for what is not plain
READABLE = "readable:"  # before the spec of a data set: without the images in it that cannot be read


def dataset_names() -> tuple[str, ...]:
    """The names that `open_dataset` takes, for people: 'mnist', ..., 'folder:PATH', 'transfer:SOURCE->TARGET'."""
    endings = {**dict.fromkeys(NEED_A_PATH, ":PATH"), **dict.fromkeys(NEED_TWO_PATHS, ":SOURCE->TARGET")}
    return tuple(name + endings.get(name, "") for name in (*KINDS, *_brought()))


def _brought() -> dict[str, Plugin]:
    """The data sets that plug-ins bring, by name."""
    return {name: plugin for name, plugin in plugins("datasets").items() if name not in KINDS}


def dataset_plugin(spec: str) -> str:
    """'package 1.2' of the plug-in that brings a data set; '' for ours."""
    name = spec.removeprefix(READABLE).partition(":")[0].partition("[")[0].strip().lower().replace("_", "-")
    return plugin.origin if (plugin := _brought().get(name)) else ""


def open_dataset(spec: Any) -> "Dataset":
    """The data set of that name, folder, list or file of arrays. Nothing is read or downloaded yet.

    Parameters
    ----------
    spec : str or data
        'mnist' or another name; 'folder:PATH', 'csv:PATH', 'npz:PATH', 'transfer:SOURCE->TARGET'; a name with another
        root for its files, 'mnist:PATH'. '[CLASS,CLASS]' behind it takes some of the classes, 'readable:' before it
        leaves out images that cannot be read. Or the data themselves, such as (X, y): see `features.datasets.given`.

    Returns
    -------
    Dataset
        With `classes`, `splits`, `fingerprint()` and `load(split)`.

    Raises
    ------
    UserError
        For an unknown name, with the nearest ones, and for a path at which the data set cannot be.

    Examples
    --------
    >>> import layerprobe as lp
    >>> digits = lp.open_dataset("digits")
    >>> digits.splits, len(digits.classes)
    (('train', 'test'), 10)
    >>> test = digits.load("test")
    >>> test.images.shape, test.images.dtype.name, test.labels.shape
    ((599, 8, 8), 'uint8', (599,))
    >>> lp.open_dataset("digits[3,5,8]").classes
    ('3', '5', '8')
    """
    if not isinstance(spec, str):
        from features.datasets.given import spec_of

        spec = spec_of(spec)
    place = spec.partition(":")[2]
    # A folder may be called so itself.
    if spec.endswith("]") and "[" in spec and not (place and user_path(place).exists()):
        from features.datasets.subset import with_classes

        whole, _, names = spec[:-1].rpartition("[")
        return with_classes(open_dataset(whole), [name.strip() for name in names.split(",")])
    if GROUP_BY in spec and not (place and user_path(place).exists()):
        return _open_grouped(spec)
    if spec.startswith(READABLE):
        from features.datasets.survey import AbsentImages

        try:
            return open_dataset(spec.removeprefix(READABLE)).readable()
        except AbsentImages as error:
            return error.others().readable()
    name, colon, text = spec.partition(":")
    name = name.strip().lower().replace("_", "-")
    brought = _brought()
    if name not in KINDS and name not in brought:
        raise UserError(_unknown(spec, name))
    if colon and not text.strip():
        raise UserError(f"the data set '{spec}' ends after the colon; write {name}:PATH")
    if name in NEED_A_PATH and not text:
        raise UserError(f"the data set '{name}' needs a path; write {name}:PATH")
    if name in TAKE_NO_PATH and text:
        raise UserError(f"the data set '{name}' comes with scikit-learn and takes no path; write {name}")
    if name in NEED_TWO_PATHS:
        return _open_two(spec, name, text)
    path, query = user_path(text.strip()).absolute() if text else None, ""
    if name in TAKE_COLUMNS and path is not None and not path.exists():
        place, _, query = str(path).partition("?")
        path = Path(place)
    is_elsewhere = name in MAY_BE_ELSEWHERE and path is not None and not path.exists()
    if is_elsewhere:
        place, _, query = text.strip().partition("?")
    elif path is not None and not path.exists():
        raise UserError(f"{path} does not exist; the data set '{spec}' should be there")
    if name in brought:
        return _of_plugin(brought[name], path)
    module = importlib.import_module(KINDS[name])
    if is_elsewhere:
        return module.open_named(name, place, query)
    return module.open_named(name, path, query) if query else module.open_named(name, path)


def _of_plugin(plugin: Plugin, path: Path | None) -> "Dataset":
    """The data set that a plug-in's function `(name, path)` opens."""
    from features.datasets.dataset import Dataset

    open_named = plugin.load()
    with blamed(plugin.name, plugin.origin):
        opened = open_named(plugin.name, path)
    if not isinstance(opened, Dataset):
        raise UserError(
            f"the plug-in {plugin.name} of {plugin.origin} gives a {type(opened).__name__} and no "
            "features.datasets.Dataset; tell its authors"
        )
    return opened


def with_columns(spec: str, *, path: str | None = None, label: str | None = None, group: str | None = None) -> str:
    """The same data set with these columns of its list, as `open_dataset` takes it; UserError where it is no list."""
    import urllib.parse

    pairs = (("path", path), ("label", label), ("group", group))
    columns = {kind: column for kind, column in pairs if column is not None}
    if not columns:
        return spec
    whole, bracket, classes = spec.partition("[") if spec.endswith("]") else (spec, "", "")
    if _kind(spec) not in TAKE_COLUMNS or "?" in whole:
        *others, last = (f"--{kind}-column" for kind, _ in pairs)
        raise UserError(f"{', '.join(others)} and {last} name columns of csv:PATH and hf:PATH; '{spec}' takes none")
    return f"{whole}?{urllib.parse.urlencode(columns)}{bracket}{classes}"


def with_groups(spec: str, expression: str | None) -> str:
    """The same data set with groups told by its images' paths, as `open_dataset` takes it: see
    `Dataset.grouped_by`. UserError where it has no such paths, or has groups from elsewhere."""
    import urllib.parse

    if expression is None:
        return spec
    if _kind(spec) not in TAKE_GROUPS:
        *others, last = (f"{name}:..." for name in TAKE_GROUPS)
        raise UserError(f"--group-by reads groups from the paths of {', '.join(others)} or {last}; '{spec}' has none")
    whole, bracket, classes = spec.partition("[") if spec.endswith("]") else (spec, "", "")
    if GROUP_BY in whole or re.search(r"[?&]group=", whole):
        raise UserError(f"groups are told by --group-by or by --group-column, and '{spec}' has them already; give one")
    # Behind all else, so that the rest can be opened by itself.
    return f"{whole}{GROUP_BY}{urllib.parse.quote(expression, safe='')}{bracket}{classes}"


def _kind(spec: str) -> str:
    return spec.removeprefix(READABLE).partition(":")[0].strip().lower()


def _open_grouped(spec: str) -> "Dataset":
    import urllib.parse

    whole, _, quoted = spec.rpartition(GROUP_BY)
    return open_dataset(whole).grouped_by(urllib.parse.unquote(quoted))


def absolute_spec(spec: str) -> str:
    """The data set that `spec` names with absolute paths, as its `spec` says it, whether or not it is there."""
    if spec.startswith(READABLE):
        return READABLE + absolute_spec(spec.removeprefix(READABLE))
    name, colon, text = re.sub(r"\s*,\s*(?=[^\[]*\]$)", ",", spec.strip()).partition(":")
    paths = [str(user_path(path.strip()).absolute()) for path in text.split(ARROW)]
    if name.strip().lower() in MAY_BE_ELSEWHERE and not Path(paths[0].partition("?")[0]).exists():
        paths = [text.strip()]
    return f"{name.strip().lower().replace('_', '-')}{colon}{ARROW.join(paths) if colon else ''}"


def _open_two(spec: str, name: str, text: str) -> "Dataset":
    ends = [part.strip() for part in text.split(ARROW)]
    if len(ends) != 2 or not all(ends):
        raise UserError(f"the data set '{spec}' needs two folders; write {name}:SOURCE->TARGET")
    paths = [user_path(end).absolute() for end in ends]
    for path in paths:
        if not path.is_dir():
            raise UserError(f"{path} is no folder; the data set '{spec}' should have images there")
    return importlib.import_module(KINDS[name]).open_named(name, *paths)


def _unknown(spec: str, name: str) -> str:
    place = user_path(spec)
    if spec and (kind := _kind_at(place)):
        return f"'{spec}' is a path and not the name of a data set; write {kind}:{spec}"
    spellings = dict(zip((*KINDS, *_brought()), dataset_names(), strict=True))
    # What is spelled as a path is no slip of a name.
    if len(Path(spec).parts) > 1 or place.suffix:
        spellings = {}
    spellings |= {neighbour.name: f"{_kind_at(neighbour)}:{neighbour}" for neighbour in _neighbours(place)}
    near = [spellings[known] for known in nearest(place.name if len(Path(spec).parts) > 1 else name, spellings)]
    hint = f"did you mean {' or '.join(near)}? The names are " if near else "the names are "
    return f"there is no data set '{spec}'; {hint}{', '.join(dataset_names())}"


def _kind_at(place: Path) -> str:
    """The kind of the data set that may stand at a path; '' where none does."""
    kind = "folder" if place.is_dir() else place.suffix.lower().lstrip(".") if place.exists() else ""
    return kind if kind in NEED_A_PATH else ""


def _neighbours(place: Path) -> list[Path]:
    """What may be data sets beside a path at which nothing is."""
    try:
        return sorted(path for path in place.parent.iterdir() if _kind_at(path) and not path.name.startswith("."))
    except (OSError, ValueError):
        return []
