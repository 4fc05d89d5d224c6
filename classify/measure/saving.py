"""A result written into a folder: whole or not at all, in one step, in the place of an earlier one."""

import contextlib
import dataclasses
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from classify.measure.kept_heads import in_skops_format, write_joblib
from classify.measure.outcome import Predictions, Result
from classify.measure.record import Extra
from classify.measure.results import (
    FORMAT,
    SUFFIXES,
    VERSION,
    SavedResult,
    aside_name,
    network_aside,
    read_record,
    sealed,
    sha256_of,
)
from features.errors import UserError
from features.notes import write_json
from features.ranges import is_int8, ranges_of
from features.whole import NewFile, left_aside


def make_place(path: Path, folder: Path | str) -> None:
    """Make a folder for what is kept in the results' folder, or for that itself; UserError where it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: results cannot be saved there ({error.strerror}); choose another folder") from error


def save_result(folder: Path | str, result: Result, predictions: Predictions, head: Any | None = None) -> SavedResult:
    """Write a result into a folder, in place of an earlier one of the same configuration.

    head: what was fitted, or the folder of a trained network. A kill leaves the earlier result or this one, whole: what
    belongs to it is complete on disk under other names before the record appears, which changes in one step, and gets
    its own names then. The ranges of features computed in int8 go into it, so that new images can be computed alike
    wherever it is taken.
    """
    from features.store.locks import lock_digest

    folder = Path(folder)
    precisions = {str(key.get("precision")) for key in result.keys.values()}
    if ranges := {precision: ranges_of(precision) for precision in precisions if is_int8(precision)}:
        result = dataclasses.replace(result, extra=Extra({**result.extra, "ranges": ranges}))
    make_place(folder, folder)
    record = folder / f"{result.stem}.json"
    arrays = {name: value for name, value in vars(predictions).items() if value is not None}
    writers: dict[str, Callable[[BinaryIO], Any]] = {"predictions": lambda stream: np.savez(stream, **arrays)}
    network = head if isinstance(head, Path) else None
    if head is not None and network is None:
        writers["head"] = lambda stream: write_joblib(head, stream)
        if (content := in_skops_format(head)) is not None:
            writers["skops"] = lambda stream: stream.write(content)
    # Not the lock of whoever fits the row, who holds that one.
    with lock_digest(f"saving-{result.digest[:16]}", wait=True, folder=folder, doing="saving the same result"):
        _sweep(record)
        try:
            files = {kind: _write_aside(record, kind, write) for kind, write in writers.items()}
            if network is not None:
                shutil.copytree(network, network_aside(record, result))
            body = {"format": FORMAT, "version": VERSION, "digest": result.digest, "files": files}
            write_json(record, sealed({**body, "result": result.to_json()}))
            _name(record, files, result if network is not None else None)
        except BaseException as error:
            with contextlib.suppress(OSError):
                _sweep(record)
            if isinstance(error, OSError) and error.errno is not None:
                raise UserError(
                    f"{record}: cannot be written ({error.strerror}), and what stood there stands; make room in "
                    f"{folder}, or name another --results"
                ) from error
            raise
    return SavedResult(record, result, files)


def _write_aside(record: Path, kind: str, write: Callable[[BinaryIO], Any]) -> str:
    """Write a file of a result under the name that it has until its record stands; its SHA-256."""
    new = record.with_name(f".{record.stem}-new{SUFFIXES[kind]}")
    with io.BufferedWriter(NewFile(new, record.with_suffix(SUFFIXES[kind]))) as stream:
        write(stream)
        stream.flush()
        os.fsync(stream.fileno())
    with new.open("rb") as written:
        digest = sha256_of(written)
    new.replace(aside_name(record, kind, digest))
    return digest


def _name(record: Path, files: dict[str, str], network: Result | None) -> None:
    """Give what a new record names its own names, in the place of what belonged to an earlier one."""
    for kind, suffix in SUFFIXES.items():
        path = record.with_suffix(suffix)
        if kind in files:
            aside_name(record, kind, files[kind]).replace(path)
        else:
            path.unlink(missing_ok=True)
    beside = record.with_suffix("")
    shutil.rmtree(beside, ignore_errors=True)
    if network is not None:
        network_aside(record, network).replace(beside)


def _sweep(record: Path) -> None:
    """Finish what a killed process left of this result: its record may stand, and what it names lack its name."""
    saved = None
    with contextlib.suppress(UserError):
        saved = read_record(record) if record.is_file() else None
    named = [] if saved is None else [aside_name(record, kind, digest) for kind, digest in saved.files.items()]
    for kind, path in zip(saved.files if saved else (), named, strict=True):
        if path.is_file():
            path.replace(record.with_suffix(SUFFIXES[kind]))
    if saved is not None and (network := network_aside(record, saved.result)).is_dir():
        shutil.rmtree(record.with_suffix(""), ignore_errors=True)
        network.replace(record.with_suffix(""))
    for pattern in (f".{record.stem}-*", f"{left_aside(record)}*.tmp"):
        for left in record.parent.glob(pattern):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
