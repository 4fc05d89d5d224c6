"""What the passes of a request need on the machine that they run on, here or a cluster's worker: network and data.

Weights, data and rows are held against the keys of the files before anything is computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from extract.preprocess import Preprocessor
from extract.trunk import Output, Recipe, Trunk, choose_recipe, torch_threads
from features import store
from features.backbones import Backbone, requested_backbone
from features.cut import Cut
from features.datasets import Dataset, Split, open_dataset
from features.device import resolve_device
from features.digests import sha256_rows
from features.errors import UserError
from features.request import PLANS, Request, Wanted, selected_rows
from features.views import Views


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of a split in their order, and the files that they are computed for."""

    split: str
    data: Split
    rows: np.ndarray
    wanted: tuple[Wanted, ...]

    @property
    def views(self) -> Views:
        """How each of its images is seen."""
        return Views.parse(self.wanted[0].key.views)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that are computed, as they were asked for."""
        return tuple(wanted.layer for wanted in self.wanted)

    def open(self, wanted: Wanted, recipe: dict[str, Any], division: store.Division | None = None) -> store.PartialFile:
        """The file to write for these rows, or with a division its shard of them, begun by this recipe or anew."""
        key = division.key_of(self.rows) if division else wanted.key
        return store.PartialFile.open(
            key,
            division.about if division else wanted.about,
            shape=(len(self.rows), *wanted.shape),
            dtype=key.dtype,
            labels=self.data.labels[self.rows],
            index=self.rows,
            recipe=recipe,
            folder=division.folder if division else None,
        )


@dataclass(frozen=True, eq=False)
class Bench:
    """The network of a request, cut, with its preprocessing, on the device; and the data."""

    request: Request
    device: torch.device
    backbone: Backbone
    cut: Cut
    preprocessor: Preprocessor
    dataset: Dataset

    @classmethod
    def of(cls, request: Request) -> "Bench":
        """Load the network and open the data."""
        device = resolve_device(request.device)
        backbone = requested_backbone(request)
        cut = backbone.cut(request.image_size)
        preprocessor = Preprocessor(backbone.preprocessing, device)
        return cls(request, device, backbone, cut, preprocessor, open_dataset(request.dataset))

    def part(self, split: str, wanted: Sequence[Wanted]) -> Part:
        """The rows of a split for these files; UserError where weights, data or rows are not those in their keys: a
        plan may be remembered, or waited for long."""
        data = self.dataset.load(split)
        rows = selected_rows(data.labels, self.request, split)
        key = wanted[0].key
        digests = {
            "the weights": (key.weights, self.backbone.weights_sha256),
            "the data": (key.dataset, self.dataset.fingerprint()),
            "the rows taken": (key.rows, sha256_rows(rows)),
        }
        for name, (planned, current) in digests.items():
            if planned != current:
                raise UserError(
                    f"{name} changed since this was planned (SHA-256 {planned[:8]} then, {current[:8]} now), and "
                    "nothing was written under the old name; run it again, after removing "
                    f"{PLANS.folder} if it says the same"
                )
        return Part(split, data, rows, tuple(wanted))

    def recipe(self, wanted: Sequence[Wanted], *, images: int, compiled: str, grey: bool = False) -> Recipe:
        """How these files are computed here; see `choose_recipe`."""
        asked = {"precision": wanted[0].key.precision, "compiled": compiled}
        return choose_recipe(self.cut, _outputs(wanted), images=images, device=self.device, grey=grey, **asked)

    def trunk(self, wanted: Sequence[Wanted], recipe: Recipe) -> Trunk:
        """The trunk that computes these files."""
        with torch_threads(recipe.threads):
            return Trunk(self.cut, _outputs(wanted), recipe, self.device, self.preprocessor.steps)


def _outputs(wanted: Sequence[Wanted]) -> list[Output]:
    return [Output(file.key.layer, file.key.pool) for file in wanted]
