"""Where the tables of `features.datasets.hub` come from, files at a path or the hub, and which of their splits and
columns are meant."""

import contextlib
import re
import socket
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from features.datasets.parts import PARTS, part_called
from features.errors import UserError
from features.home import datasets_folder, user_path

_KINDS = {".parquet": "parquet", ".arrow": "arrow", ".tar": "webdataset"}
_IMAGES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "pixel_values")
_LABELS = ("label", "labels", "class", "target", "category", "cls", "fine_label", "label_name", "y")
_WAIT = 4.0  # seconds for the hub to answer at all


def imported(spec: str) -> Any:
    """The package `datasets`, silent; UserError where it is missing."""
    try:
        import datasets

        # A folder of that name counts as a package too.
        _ = datasets.load_from_disk, datasets.load_dataset
    except (ImportError, AttributeError) as error:
        raise UserError(f"the data set '{spec}' needs one more package: pip install 'layerprobe[hf]'") from error
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    return datasets


def of_path(package: Any, path: Path, spec: str) -> Mapping[str, Any]:
    """The tables at a path, by the names of their splits."""
    with _read(spec):
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            loaded = package.load_from_disk(str(path.absolute()))
            return loaded if hasattr(loaded, "items") else {"train": loaded}
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in _KINDS)
        suffixes = sorted({file.suffix for file in files})
        if len(suffixes) != 1 or suffixes[0] not in _KINDS:
            raise UserError(
                f"{spec}: what save_to_disk wrote should be there, or files of one kind ({', '.join(_KINDS)}); there "
                f"are {' and '.join(suffixes) or 'none'}, and folders of images are folder:PATH"
            )
        by_part: dict[str, list[str]] = {}
        for file in files:
            below = file.relative_to(path).parts if path.is_dir() else (file.name,)
            words = [*below[:-1], re.sub(r"[-_]?\d+(-of-\d+)?$", "", file.stem)]
            called = next((part[0] for word in words if (part := part_called(word))), "train")
            by_part.setdefault(called, []).append(str(file.absolute()))
        return package.load_dataset(_KINDS[suffixes[0]], data_files=by_part, cache_dir=str(datasets_folder() / "hf"))


def of_hub(package: Any, name: str, config: str | None, spec: str) -> Mapping[str, Any]:
    """The tables of a data set on the hub, which is asked within `_WAIT` seconds or not at all."""
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise UserError(f"{user_path(name)} does not exist; the data set '{spec}' should be there")
    import huggingface_hub.constants as hub

    host = urllib.parse.urlparse(hub.ENDPOINT).hostname or "huggingface.co"
    offline = hub.HF_HUB_OFFLINE or not _answers(host)
    before = hub.HF_HUB_OFFLINE, package.config.HF_HUB_OFFLINE
    hub.HF_HUB_OFFLINE = package.config.HF_HUB_OFFLINE = offline
    aside = datasets_folder() / "hf"
    try:
        return package.load_dataset(name, config, cache_dir=str(aside))
    except Exception as error:
        if offline:
            raise UserError(
                f"{spec}: there is no {user_path(name)} here, it is not in {aside}, and {host} cannot be reached; run "
                "this once where it can, or give the path of a copy that save_to_disk wrote"
            ) from error
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{spec} cannot be read from {host} ({type(error).__name__}: {reason})") from error
    finally:
        hub.HF_HUB_OFFLINE, package.config.HF_HUB_OFFLINE = before


def _answers(host: str) -> bool:
    """Whether a host, or the proxy before it, takes a connection; looking its name up may hang by itself."""
    import urllib.request

    proxy = urllib.parse.urlparse(urllib.request.getproxies().get("https", ""))
    place = (proxy.hostname, proxy.port or 8080) if proxy.hostname else (host, 443)
    connected = threading.Event()

    def connect() -> None:
        with contextlib.suppress(OSError), socket.create_connection(place, timeout=_WAIT):
            connected.set()

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_WAIT)
    return connected.is_set()


@contextlib.contextmanager
def _read(spec: str) -> Iterator[None]:
    """What the package says of files that it cannot read becomes one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise UserError(f"{spec} cannot be read ({type(error).__name__}: {reason}); write it again") from error


def named_parts(tables: Mapping[str, Any], spec: str) -> dict[str, Any]:
    """The tables by part, train first; one alone is to be cut."""
    named: dict[str, Any] = {}
    for split, table in tables.items():
        called = part_called(split)
        if called and called[0] not in named:
            named[called[0]] = table
    if len(tables) == 1:
        return {"train": next(iter(tables.values()))}
    if "train" not in named:
        raise UserError(f"{spec} has the splits {', '.join(tables) or '(none)'}, and one called train is needed")
    if "test" not in named and "validation" in named:
        named["test"] = named.pop("validation")
    return {part: named[part] for part in PARTS if part in named}


def found_columns(table: Any, asked: Mapping[str, str], spec: str) -> dict[str, str]:
    """The columns of images, labels and groups."""
    kinds = {name: type(feature).__name__ for name, feature in table.features.items()}
    images = [name for name, kind in kinds.items() if kind == "Image"] or [n for n in _IMAGES if n in kinds]
    labels = [name for name in _LABELS if name in kinds] or [n for n, kind in kinds.items() if kind == "ClassLabel"]
    candidates = {
        "path": images[:1] if len(images) == 1 or (images and images[0] in _IMAGES) else [],
        "label": labels[:1],
    }
    options = {"path": "--path-column", "label": "--label-column", "group": "--group-column"}
    columns = {}
    for kind, option in options.items():
        name = asked.get(kind) or next(iter(candidates.get(kind, [])), None)
        if name is None and kind == "group":
            continue
        if name is None or name not in kinds:
            what = {"path": "images", "label": "labels", "group": "groups"}[kind]
            said = f"no column {name!r}" if name else f"no column of {what} that is called so"
            raise UserError(f"{spec} has {said}; name one of {', '.join(kinds)} with {option}")
        columns[kind] = name
    if kinds[columns["label"]] in ("List", "LargeList", "Sequence", "list"):
        raise UserError(
            f"{spec}: the column {columns['label']} has several labels for an image (multi-label), and one class each "
            "is asked for; name another one with --label-column"
        )
    return columns


def with_raw_images(package: Any, parts: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """The tables with the columns that are read alone, images as the bytes that they are."""
    tables = {}
    for part, table in parts.items():
        table = table.select_columns(list(dict.fromkeys(columns.values()))).with_format(None)
        if type(table.features[columns["path"]]).__name__ == "Image":
            table = table.cast_column(columns["path"], package.Image(decode=False))
        tables[part] = table
    return tables
