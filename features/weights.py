"""Files of weights: downloaded once with their hash checked, read without running anything in them, known by content.

A zip archive's own check sums are looked at first: `torch.load` takes a file with a flipped byte without a word.
"""

import hashlib
import http.client
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from features.bombs import refuse_zip_bomb
from features.digests import sha256_file
from features.errors import UserError
from features.home import weights_folder

_OFFLINE_HINT = (
    "without a network, run `python -m extract --dataset digits --backbone efficientnet_lite0 --layer all`, or give "
    "a file with --weights PATH"
)


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


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors in a `.pth`, `.pt` or `.safetensors` file, on the CPU; UserError where it is damaged or no such file.

    Checkpoints that keep their tensors under `state_dict` or `model`, and names that begin with `module.` (from
    DataParallel), are understood.
    """
    damaged = f"{path} is damaged or cut short"
    again = "get a fresh copy of it, or remove it so that it is downloaded again"
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(f"{damaged} ({error}); {again}") from error
    if zipfile.is_zipfile(path):
        _check_zip(path, damaged, again)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch raises pickle's, zip's and its own errors here, whatever the file inspires it to.
        if "Unsupported global" in str(error) or "Unsupported class" in str(error):
            raise UserError(
                f"{path} holds Python objects beside tensors, which could run anything when read, and is refused; "
                "save the model's state_dict() alone, or convert it to .safetensors"
            ) from error
        raise UserError(f"{damaged}, or no file of weights ({type(error).__name__}); {again}") from error
    return _flat_tensors(loaded, path)


def _check_zip(path: Path, damaged: str, again: str) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            refuse_zip_bomb(path, archive)
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, ValueError) as error:
        raise UserError(f"{damaged} ({error}); {again}") from error
    if broken:
        raise UserError(f"{damaged} (its part {broken} fails its check sum); {again}")


def _flat_tensors(loaded: Any, path: Path) -> dict[str, torch.Tensor]:
    for nest in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(nest), dict):
            loaded = loaded[nest]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(v, torch.Tensor) for v in loaded.values()):
        raise UserError(f"{path} holds no state dict (names and tensors); save the model's state_dict()")
    return {str(name).removeprefix("module."): tensor for name, tensor in loaded.items()}


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
