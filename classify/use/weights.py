"""The weights that a result was made with, found again: by name, by the place they stood in, or by their content.

What counts is the SHA-256 over the tensors that stands in the result: a file under the right name with other weights is
skipped.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from classify.measure.results import SavedResult, recorded_option
from features.backbones import Backbone, load_backbone
from features.errors import UserError
from features.home import weights_folder
from features.key import CacheKey
from features.named_code import require_trust
from features.preprocessing import Preparation

_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")


def backbone_of(saved: SavedResult, key: CacheKey, given: str | None = None) -> Backbone:
    """The backbone with the weights in `key`; given: where to take them from, as `--weights` says.

    UserError where none of the places that the record leads to has them.
    """
    require_trust(key.backbone, saved.path)
    recorded_name = str(saved.result.config.weights)
    made_with = f"{saved.path.name} was made with {recorded_name} (SHA-256 of its tensors {key.weights[:16]})"
    prepared = Preparation(key.image_size)  # some networks are made for one size
    tried = []
    for weights, seed in [(given, 0)] if given is not None else _candidates(saved, recorded_name):
        try:
            backbone = load_backbone(key.backbone, weights, seed, sha256=key.weights, prepared=prepared)
            if backbone.weights_sha256 == key.weights:
                return backbone
            tried.append(f"{weights} gives others")
        except UserError as error:
            tried.append(str(error))
    if given is not None:
        raise UserError(f"--weights {given}: {made_with}, and {tried[0]}; leave --weights out to have them looked for")
    raise UserError(
        f"{made_with}, and they are not to be found ({'; '.join(tried[:3]) or 'there was nowhere to look'}); name "
        f"their file with --weights, or put it into {weights_folder()}"
    )


def _candidates(saved: SavedResult, recorded_name: str) -> Iterator[tuple[str, int]]:
    """What to hand to `load_backbone`, the likeliest first, each once."""
    if initialised := re.fullmatch(r"random \(seed (\d{1,10})\)", recorded_name):
        yield "random", int(initialised[1])
        return
    if re.fullmatch(r"[A-Z0-9_]+", recorded_name):
        # The name of one of torchvision's entries: downloaded if need be, as it was then.
        yield recorded_name, 0
        return
    seen = set()
    recorded = recorded_option(saved, "weights")
    folder = weights_folder()
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    # A file may have been renamed; one with the name that it had is read first.
    files.sort(key=lambda path: path.name != recorded_name)
    for text in (recorded, str(Path(recorded_name)), *(str(path) for path in files if path.suffix in _SUFFIXES)):
        if text and text not in seen and (text == "default" or Path(text).is_file()):
            seen.add(text)
            yield text, 0
