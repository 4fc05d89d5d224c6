"""Training curves and hyper-parameters of networks as TensorBoard reads them (extra `tensorboard`).

A folder for each network, named as its row is. What stands in a result is written from the result, so a network that
was trained earlier has its curves as well.
"""

import dataclasses
import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from classify.measure.outcome import Result, plain_json
from classify.measure.record import RowConfig
from features.digests import sha256_json
from features.errors import UserError

# Tag -> field of an `Epoch`.
_CURVES = {
    "train/loss": "loss",
    "train/penalty": "penalty",
    "train/learning_rate": "learning_rate",
    "train/seconds": "seconds",
    "validation/loss": "validation_loss",
    "validation/accuracy": "validation_accuracy",
    "validation/macro_f1": "validation_macro_f1",
}
_HEADLINE = ("dataset", "backbone", "weights", "image_size", "head", "unfreeze", "regularizers", "maps", "seed")


class TensorBoardLog:
    """Writes under `folder`; a context manager. UserError, at once, where tensorboard is not installed."""

    def __init__(self, folder: Path | str) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise UserError("--tensorboard needs one more package: pip install 'layerprobe[tensorboard]'")
        self.folder = Path(folder)
        self._writers: dict[str, Any] = {}

    def __enter__(self) -> "TensorBoardLog":
        return self

    def __exit__(self, *_: Any) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def run_folder(self, config: RowConfig) -> Path:
        """Where the row with this configuration is logged."""
        label = re.sub(r"[^a-z0-9.+=]+", "-", config.network_label.lower()).strip("-.")[:60]
        return self.folder / f"{label or 'network'}-{sha256_json(plain_json(config))[:10]}"

    def epoch(self, row: Any, epoch: Any) -> None:
        """Write what one `Epoch` of a network's row did, as soon as it is over."""
        self._write(row.config, dataclasses.asdict(epoch))

    def finish(self, result: Result) -> None:
        """Write the hyper-parameters with what they reached, and the curves if these were not written yet."""
        place = self.run_folder(result.config)
        if not any(place.glob("events.out.tfevents.*")):
            for epoch in result.extra.history or ():
                self._write(result.config, epoch)
        writer = self._writers.pop(str(place), None)
        if writer is None:
            # Its hyper-parameters stand there too, from the run that trained it.
            return
        reached = {"hparam/test_accuracy": result.metrics.accuracy, "hparam/test_macro_f1": result.metrics.macro_f1}
        if result.validation_accuracy is not None:
            reached["hparam/validation_accuracy"] = result.validation_accuracy
        writer.add_hparams(_hyper_parameters(result.config), reached, run_name=".")
        writer.close()

    def _write(self, config: RowConfig, epoch: Mapping[str, Any]) -> None:
        place = str(self.run_folder(config))
        if place not in self._writers:
            self._writers[place] = self._open(place, epoch["epoch"])
        for tag, name in _CURVES.items():
            if epoch[name] is not None:
                self._writers[place].add_scalar(tag, epoch[name], epoch["epoch"])
        self._writers[place].flush()

    def _open(self, place: str, first: int) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        try:
            # A run that carries on adds to what stands there; one that is made again takes its place.
            return SummaryWriter(place, purge_step=first)
        except OSError as error:
            raise UserError(
                f"--tensorboard {self.folder}: cannot be written to ({error.strerror}); name another folder"
            ) from error


def _hyper_parameters(config: RowConfig) -> dict[str, Any]:
    """What was set, as the scalars that TensorBoard compares runs by."""
    values = {name: config[name] for name in _HEADLINE if name in config} | (config.training or {})
    return {
        name: value if isinstance(value, bool | int | float | str) else _listed(value) for name, value in values.items()
    }


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if value else "none"
