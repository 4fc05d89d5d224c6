"""One row for a network: trained on the rows that classical heads train on, its epoch chosen on the same validation
rows, tested once, and kept in the same form.

A network that trains from above its input reads the cached maps below the cut; others read images. A run that was
killed carries on from its last epoch, and one that only lacks its test is not trained again.
"""

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from classify.experiments.network_row import NetworkRow, check_row, take, training_image
from classify.experiments.timing import seconds_for_one
from classify.heads.estimator import FitError
from classify.heads.network import NETWORKS
from classify.heads.network.trained import TrainedNetwork
from classify.measure.memory import peak_memory
from classify.measure.metrics import measure
from classify.measure.outcome import Predictions, Result, plain_json
from classify.measure.results import SavedResult, find_result, make_place, save_result
from extract.commands.ensure import ensure_features
from features.digests import read_json, sha256_file, sha256_json, write_json
from features.errors import UserError
from features.rows import train_and_validation
from features.store.locks import lock_digest

Say = Callable[[str], None]
# What is told of every epoch of a row: the row and an `Epoch`.
OnEpoch = Callable[[NetworkRow, Any], None]


@dataclass(frozen=True, eq=False)
class FittedNetwork:
    """A row whose network is trained and waits in `folder` for its test; fields are those of the `Result`."""

    row: NetworkRow
    folder: Path
    fields: dict[str, Any]
    validation_rows: np.ndarray | None
    validation_predicted: np.ndarray | None


def evaluate_network(
    row: NetworkRow,
    *,
    folder: Path | str = "results",
    command: str = "",
    again: bool = False,
    compiled: str = "auto",
    jobs: int | None = None,
    say: Say = print,
    on_epoch: OnEpoch | None = None,
) -> SavedResult:
    """Train and test a network and keep the result in `folder`; one that stands there is returned as it is, unless it
    is to be made `again`."""
    check_row(row)
    if not again and (known := find_result(folder, row.config)) is not None:
        return known
    how = {"again": again, "compiled": compiled, "jobs": jobs, "say": say, "on_epoch": on_epoch}
    with alone(row, folder, say):
        if not again and (known := find_result(folder, row.config)) is not None:
            return known
        fitted = fit_network(row, folder=folder, **how)
        return test_network(fitted, folder=folder, command=command)


def alone(row: NetworkRow, folder: Path | str, say: Say = print) -> contextlib.AbstractContextManager:
    """The right to train a row in `folder`: a second process waits, and then finds what the first one made."""
    make_place(Path(folder), folder)
    return lock_digest(row.digest[:16], wait=True, say=say, folder=Path(folder), doing="training the same network")


def fit_network(
    row: NetworkRow,
    *,
    folder: Path | str = "results",
    again: bool = False,
    compiled: str = "auto",
    jobs: int | None = None,
    say: Say = print,
    on_epoch: OnEpoch | None = None,
) -> FittedNetwork:
    """Train a row's network, or carry on where a killed run stopped; the test split is not opened.

    What is trained waits in `folder`/.running-<digest>, and goes when it has been tested.
    """
    running = Path(folder) / f".running-{row.digest[:16]}"
    if again:
        shutil.rmtree(running, ignore_errors=True)
    if (noted := _noted(running / "fitted.json")) is not None:
        say(f"{row.label}: trained in an earlier run")
        held = [noted.pop(name) for name in ("validation_rows", "predicted")]
        return FittedNetwork(row, running, noted, *(each and np.array(each, dtype=np.int64) for each in held))
    _limit_threads(jobs)
    if row.reads_maps:
        ensure_features(row.answer.request, compiled=compiled, jobs=jobs, quiet=True)
    make_place(running, folder)
    inputs, labels, index = row.read("train")
    if row.change:
        kept, labels = row.change.apply(labels, row.settings.seed)
        inputs, index = take(inputs, kept), index[kept]
    train, validation = train_and_validation(labels, row.settings.seed, row.validation, row.validation_share)
    network, trained_here = row.build(), []

    def told(epoch: Any) -> None:
        trained_here.append(epoch.seconds)
        say(f"{row.label}: {epoch}")
        if on_epoch is not None:
            on_epoch(row, epoch)

    started = time.perf_counter()
    try:
        with peak_memory() as peak:
            network.fit(
                take(inputs, train),
                labels[train],
                (take(inputs, validation), labels[validation]) if len(validation) else None,
                checkpoint=running / "run",
                on_epoch=told,
            )
    except FitError:
        # The same settings would fail again; others make a run of their own.
        shutil.rmtree(running, ignore_errors=True)
        raise
    preparing = max(0.0, time.perf_counter() - started - sum(trained_here))
    predicted = network.predict(take(inputs, validation)) if len(validation) else None
    fields = plain_json(
        {
            **_fields(row, network, preparing),
            "validation_accuracy": None if predicted is None else float(np.mean(predicted == labels[validation])),
            "rows": {"train": len(train), "validation": len(validation)},
        }
    )
    fields["extra"] |= peak.to_json()
    network.save(running / "network")
    held = (None, None) if predicted is None else (index[validation], predicted)
    lists = (each if each is None else each.tolist() for each in held)
    noted = {**fields, **dict(zip(("validation_rows", "predicted"), lists, strict=True))}
    write_json(running / "fitted.json", {"noted": noted, "sha256": sha256_json(noted)})
    # The last epoch's state is of no use any more, and takes three times the network's room.
    shutil.rmtree(running / "run", ignore_errors=True)
    return FittedNetwork(row, running, fields, *held)


def _fields(row: NetworkRow, network: TrainedNetwork, preparing: float) -> dict[str, Any]:
    """What a trained network says of itself, as fields of the `Result`; preparing: seconds before its first step."""
    seconds = {"fit": network.seconds_ + preparing}
    if row.reads_maps and (extracting := row.source.extract_seconds()) is not None:
        seconds["extract"] = extracting
    return {
        "chosen": {"epoch": network.best_epoch_} if row.validation and not row.settings.steps else {},
        "refit": False,
        "converged": network.converged_,
        "seconds": seconds,
        "keys": row.source.keys() if row.reads_maps else {},
        "extra": {
            "places": row.source.places(),
            "trained_parameters": network.trained_parameters_,
            "epochs": network.history_[-1].epoch,
            "steps": network.n_iter_,
            "stopped_early": network.stopped_early_,
            "history": [dataclasses.asdict(epoch) for epoch in network.history_],
            "regularizer_notes": list(getattr(network, "regularizer_notes_", ())),
            **({"learned": learned} if (learned := getattr(network, "learned_", None)) else {}),
            "predict_one_seconds": seconds_for_one(network.predict, training_image(row.request)),
        },
    }


def test_network(fitted: FittedNetwork, *, folder: Path | str = "results", command: str = "") -> SavedResult:
    """Test a trained network and keep the result; the test split is opened here."""
    row = fitted.row
    network = NETWORKS[row.network].estimator_class().load(fitted.folder / "network", device=row.request.device)
    inputs, labels, index = row.read("test")
    started = time.perf_counter()
    logits = network.decision_function(inputs)
    seconds = time.perf_counter() - started
    predictions = Predictions(
        rows=index,
        labels=labels,
        predicted=network.classes_[logits.argmax(axis=1)],
        probabilities=softmax(logits.astype(np.float64), axis=1),
        validation_rows=fitted.validation_rows,
        validation_predicted=fitted.validation_predicted,
    )
    weights = fitted.folder / "network" / "network.safetensors"
    classes = row.answer.wanted[0].about.classes
    result = Result(
        config=row.config,
        metrics=measure(labels, predictions.predicted, predictions.probabilities, classes),
        command=command,
        **{
            **fitted.fields,
            "seconds": {**fitted.fields["seconds"], "predict": seconds},
            "rows": {**fitted.fields["rows"], "test": len(labels)},
            "extra": {**fitted.fields["extra"], **(_digests(weights.parent) if row.keep else {})},
        },
    )
    place = Path(folder) / result.stem
    shutil.rmtree(place, ignore_errors=True)
    if row.keep:
        shutil.copytree(weights.parent, place)
    saved = save_result(folder, result, predictions)
    shutil.rmtree(fitted.folder, ignore_errors=True)
    return saved


# pytest would take the name for that of a test.
test_network.__test__ = False


def load_network(saved: SavedResult, device: str = "auto") -> TrainedNetwork:
    """The trained network of a saved result; UserError where it was not kept or is no longer the one it was."""
    wanted = saved.result.extra.get("network_sha256")
    folder = saved.path.with_suffix("")
    if wanted is None:
        raise UserError(f"{saved.path}: this result was saved without its network; run it again")
    weights, about = folder / "network.safetensors", folder / "network.json"
    # Earlier records say nothing about the second file.
    for path, digest in ((weights, wanted), (about, saved.result.extra.get("network_json_sha256"))):
        if not path.is_file() or (digest is not None and sha256_file(path, fresh=True) != digest):
            raise UserError(f"{path}: not the network that {saved.path.name} was written with; run it again")
    return NETWORKS[saved.result.config["head"]].estimator_class().load(folder, device=device)


def _digests(folder: Path) -> dict[str, str]:
    """What a record says of the network's two files."""
    names = {"network_sha256": "network.safetensors", "network_json_sha256": "network.json"}
    return {key: sha256_file(folder / name, fresh=True) for key, name in names.items()}


def _noted(path: Path) -> dict[str, Any] | None:
    """What was noted of a trained network; None where there is nothing, or not what was written: it trains again."""
    note = read_json(path)
    noted = note.get("noted") if isinstance(note, dict) else None
    return noted if isinstance(noted, dict) and note.get("sha256") == sha256_json(noted) else None


def _limit_threads(jobs: int | None) -> None:
    if jobs is not None:
        import torch

        torch.set_num_threads(jobs)
