"""One result on disk: a JSON record, the predictions beside it, and the fitted head where it is kept.

`<slug>-<ten hex digits of the configuration>.json`, with the same stem `.npz`, `.skops` and `.joblib`. The record is
written last and at once, and holds the SHA-256 of the others and of itself: a result that was half written is not
found, and one whose files were altered later is noticed. Reading a record needs neither torch nor scikit-learn.
"""

import contextlib
import functools
import glob
import hashlib
import html
import io
import itertools
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from classify.measure.kept_heads import read_joblib, read_skops
from classify.measure.outcome import Predictions, Result, plain_json, slug_of
from classify.measure.record import RowConfig
from classify.measure.soundness import fault_of
from classify.measure.wording import one_line, settings
from features.bombs import refuse_zip_bomb
from features.commands.speaking import tell
from features.datasets.catalogue import absolute_spec
from features.digests import sha256_json
from features.errors import UserError
from features.ranges import keep_ranges
from features.regular import open_regular, read_regular

FORMAT = "layerprobe result"
VERSION = 1
RESULTS_FOLDER = Path("results")
# What a record may name beside itself, and how these files end.
SUFFIXES = {"predictions": ".npz", "head": ".joblib", "skops": ".skops"}
_RECORD_NAME = re.compile(r".+-[0-9a-f]{10}\.json")


@dataclass(frozen=True)
class SavedResult:
    """A result that stands in a folder; predictions and head are read when they are asked for.

    files: 'predictions' and, where they were kept, 'head' and 'skops' (the same head in skops' format) -> the SHA-256
    that the record gives for it.
    """

    path: Path
    result: Result
    files: dict[str, str]

    @property
    def network_path(self) -> Path:
        """The folder of the trained network, where one was kept."""
        aside = network_aside(self.path, self.result)
        return aside if aside.is_dir() else self.path.with_suffix("")

    @property
    def head_path(self) -> Path | None:
        """Where the fitted head is, or None if it was not kept."""
        return self.path.with_suffix(".joblib") if "head" in self.files else None

    @property
    def is_pickle(self) -> bool:
        """Whether the fitted head was kept as a pickle alone, which runs code when it is read."""
        return "head" in self.files and "skops" not in self.files

    @property
    def skops_path(self) -> Path | None:
        """Where the fitted head is in skops' format, or None if it was not kept so."""
        return self.path.with_suffix(".skops") if "skops" in self.files else None

    @functools.cached_property
    def fault(self) -> str | None:
        """Why it is known to be wrong, or may be; None where it is not."""
        places = {name: place for name in ("dataset", "weights") if (place := recorded_option(self, name))}
        return fault_of(self.result, places, lambda: self.predictions().rows)

    @property
    def command(self) -> str:
        """The command that made it, for a shell; '' where it was made otherwise."""
        return one_line(self.result.command)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}: {self.result!r}>"

    def _repr_html_(self) -> str:
        return f"{self.result._repr_html_()}<p>{html.escape(str(self.path))}</p>"

    def predictions(self) -> Predictions:
        """The predictions; UserError if their file is missing or is not the one that the record names."""
        path = self.path.with_suffix(".npz")
        with self._opened("predictions", "predictions") as stream:
            if sha256_of(stream) != self.files["predictions"]:
                raise UserError(
                    f"{path}: the predictions are not those that {self.path.name} was written with (their SHA-256 "
                    f"differs); remove {self.path.name} and run it again"
                )
            try:
                with np.load(stream, allow_pickle=False) as arrays:
                    refuse_zip_bomb(path, arrays.zip)
                    return self._sound({name: arrays[name] for name in arrays.files})
            except UserError:
                raise
            except Exception as error:  # numpy meets damaged files with exceptions of every kind
                raise UserError(
                    f"{path}: no predictions in it ({one_line(error)[:200]}); remove {self.path.name} and rerun"
                ) from error

    def _sound(self, arrays: dict[str, np.ndarray]) -> Predictions:
        """The predictions that arrays hold; ValueError for what no test of this result could have given."""
        if strange := [name for name, array in arrays.items() if array.dtype.kind not in "iuf"]:
            raise ValueError(f"{strange[0]} holds no numbers")
        metrics, kept = self.result.metrics, Predictions(**arrays)
        counted = [kept.labels, kept.predicted, kept.validation_predicted, kept.validation_labels]
        if kept.folds is None:  # of all images, those of the training split are counted down from -1
            counted += [kept.rows, kept.validation_rows]
        if len(kept.rows) != metrics.n or any(part is not None and (part < 0).any() for part in counted):
            raise ValueError(f"they are not those of {metrics.n} test images")
        if (outer := self.result.extra.outer) is not None and (
            kept.folds is None or not 0 <= kept.folds.min(initial=0) <= kept.folds.max(initial=0) < len(outer)
        ):
            raise ValueError(f"they are not those of {len(outer)} folds")
        if (kept.labels >= len(metrics.classes)).any():
            raise ValueError(f"there are labels beyond the {len(metrics.classes)} classes")
        if kept.probabilities is not None and not np.isfinite(kept.probabilities).all():
            raise ValueError("there are probabilities that are no numbers")
        return kept

    def load_head(self, trust: bool = False) -> Any:
        """The fitted head, from its skops file where there is one, else from its joblib file.

        A skops file is read only if it is byte for byte the one that this result was saved with, unless the caller says
        to trust it; one with types that are not our own, numpy's or scikit-learn's is refused even then. A joblib file
        is a pickle, which runs any code when it is read, and that its SHA-256 stands in the record says nothing about
        who wrote both: UserError unless the caller trusts it.
        """
        if self.head_path is None:
            raise UserError(f"{self.path}: this result was saved without its head; run it again and keep the head")
        kind = "head" if self.is_pickle else "skops"
        path = self.path.with_suffix(SUFFIXES[kind])
        if self.is_pickle and not trust:
            raise UserError(
                f"{path}: this head was saved as a pickle alone, and reading one runs any code that its author put "
                "there; give --trust if you know who made it, or run its result again"
            )
        with self._opened(kind, "head") as stream:
            if not trust and sha256_of(stream) != self.files[kind]:
                raise UserError(
                    f"{path}: not the file that {self.path.name} was written with (its SHA-256 differs), and it may "
                    "predict anything; give --trust if you know where it is from, or rerun it"
                )
            try:
                return read_joblib(stream) if kind == "head" else read_skops(stream, path)
            except UserError:
                raise
            except Exception as error:  # A pickle can raise anything at all while it is read.
                raise UserError(
                    f"{path}: the head cannot be loaded ({type(error).__name__}: {one_line(error)}); it was "
                    f"saved with {one_line(settings(self.result.environment))}"
                ) from error

    def bring_ranges(self) -> None:
        """Have the ranges of int8 at hand that the record holds; UserError where they are not those of its keys."""
        for precision, ranges in (self.result.extra.ranges or {}).items():
            try:
                sound = keep_ranges(ranges) == precision
            except (ValueError, TypeError, AttributeError):
                sound = False
            if not sound:
                raise UserError(f"{self.path}: the ranges in it are not those of {precision[:24]}; run it again")

    def _opened(self, kind: str, what: str) -> io.BufferedReader:
        # Under the name that it has until its own is free, where a kill came between, or it is just being renamed.
        path = self.path.with_suffix(SUFFIXES[kind])
        try:
            with contextlib.suppress(FileNotFoundError):
                return open_regular(aside_name(self.path, kind, self.files[kind]))
            return open_regular(path)
        except OSError as error:
            raise UserError(
                f"{path}: the {what} of {self.path.name} cannot be read ({error.strerror}); put the file back, or "
                f"remove {self.path.name} and run it again"
            ) from error


def aside_name(record: Path, kind: str, digest: str) -> Path:
    """The name that a file of a result has until its record stands."""
    return record.with_name(f".{record.stem}-{digest[:16]}{SUFFIXES[kind]}")


def network_aside(record: Path, result: Result) -> Path:
    """The folder that a network has until its record stands."""
    return record.with_name(f".{record.stem}-{str(result.extra.network_sha256)[:16]}")


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """A record with the SHA-256 of all that it says."""
    said = {name: value for name, value in record.items() if name != "sha256"}
    return {**said, "sha256": sha256_json(said)}


def load_results(folder: Path | str = RESULTS_FOLDER) -> list[SavedResult]:
    """All results in a folder, oldest first; a folder that is not there holds none.

    Of those that are known to be wrong no more than a line is said. JSON files that are no record of ours are passed
    over; UserError naming the file for a record that is damaged.
    """
    sound, wrong = sorted_out(folder)
    if wrong:
        tell(left_out(folder, wrong))
    return sound


def sorted_out(folder: Path | str) -> tuple[list[SavedResult], list[tuple[SavedResult, str]]]:
    """The results in a folder as `load_results` gives them, and those that are known to be wrong, each with why."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: a folder of results was expected, and this is a file; give the folder it lies in")
    records = (read_record(path) for path in sorted(folder.glob("*.json")) if path.is_file())
    sound, wrong = [], []
    for saved in sorted(filter(None, records), key=lambda saved: (saved.result.created, saved.path.name)):
        if fault := saved.fault:
            wrong.append((saved, fault))
        else:
            sound.append(saved)
    return sound, wrong


def left_out(folder: Path | str, wrong: Sequence[tuple[SavedResult, str]]) -> str:
    """A line on results that are known to be wrong: how many, which, why, and how to have right ones."""
    first = wrong[0][0]
    reasons = [f"{first.path.name}: {wrong[0][1]}"]
    if len(wrong) > 1:
        others: dict[str, int] = {}
        for _, fault in wrong[1:]:
            others[fault] = others.get(fault, 0) + 1
        reasons += [f"{count} more: {'the same' if fault == wrong[0][1] else fault}" for fault, count in others.items()]
    are = "1 result is" if len(wrong) == 1 else f"{len(wrong)} results are"
    again = f"the command in {'its record' if len(wrong) == 1 else 'the record of each'}"
    shown = f", `{first.command}`" if len(wrong) == 1 and first.command else ""
    return (
        f"{folder}: {are} known to be wrong and not used ({'; '.join(reasons)}); make "
        f"{'it' if len(wrong) == 1 else 'them'} again with {again}{shown}, or remove what you do not need"
    )


def open_result(path: Path | str) -> SavedResult:
    """The result whose record, or a file beside it, is at `path`; UserError where there is none."""
    path = Path(path)
    record = path.with_suffix(".json") if path.suffix in SUFFIXES.values() else path
    if not record.is_file():
        raise UserError(f"{path}: there is no record of a result; give one of the .json files in a folder of results")
    saved = read_record(record)
    if saved is None:
        raise UserError(f"{path}: not the record of a result; give one of the .json files in a folder of results")
    if wrong := saved.fault:
        raise UserError(f"{path} is not used: {wrong}; run it again")
    return saved


def find_result(folder: Path | str, config: Mapping[str, Any]) -> SavedResult | None:
    """The result of exactly this configuration, or None; UserError naming the file if its record is damaged."""
    digest = sha256_json(plain_json(config, "config"))
    for path in sorted(Path(folder).glob(f"*-{digest[:10]}.json")):
        saved = read_record(path)
        if saved and saved.result.digest == digest:
            return saved
    return None


def find_read_otherwise(folder: Path | str, config: RowConfig, place: str) -> SavedResult | None:
    """A result of this configuration but for the data set's content, of the data set at this place, that is known to be
    wrong; UserError for a damaged record."""
    for path in sorted(Path(folder).glob(f"{glob.escape(slug_of(config))}-*.json")):
        saved = read_record(path)
        if saved is None or absolute_spec(recorded_option(saved, "dataset") or "") != place:
            continue
        alike = {**saved.result.config, "dataset_sha256": config.dataset_sha256} == dict(config)
        if alike and saved.result.config != config and saved.fault:
            return saved
    return None


def read_record(path: Path) -> SavedResult | None:
    """The saved result in a JSON file, None if the file is something else."""
    try:
        text = read_regular(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); make it readable or move it away") from error
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        if _RECORD_NAME.fullmatch(path.name) or FORMAT.encode() in text:
            raise _damaged(path, "not complete JSON") from error
        return None
    if not isinstance(record, dict):
        return None
    if record.get("format") != FORMAT:
        if {"digest", "files", "result"} <= set(record):
            raise _damaged(path, f"its format is said to be {one_line(record.get('format'))[:40]!r}")
        return None
    if record.get("version") != VERSION:
        raise UserError(
            f"{path}: written in version {one_line(record.get('version'))[:20]} of the record, and this layerprobe "
            f"reads {VERSION}; use the layerprobe that wrote it or move the file away"
        )
    try:
        result = Result.from_json(record.get("result"))
    except (ValueError, TypeError, RecursionError) as error:
        raise _damaged(path, one_line(error)) from error
    files = record.get("files")
    if not isinstance(files, dict) or not _complete(files):
        raise _damaged(path, "it does not say which files belong to it")
    if record.get("digest") != result.digest:
        raise _damaged(path, "its configuration is not the one it was written with")
    if not _is_sealed(record):
        raise _damaged(path, "its SHA-256 differs from the one it was written with")
    return SavedResult(path, result, {name: str(digest) for name, digest in files.items()})


def _is_sealed(record: dict[str, Any]) -> bool:
    """Whether a record says what it was written with; earlier ones have no seal."""
    try:
        return "sha256" not in record or record == sealed(record)
    except (ValueError, TypeError, RecursionError):  # numbers and nesting that we never write
        return False


def _complete(files: dict[str, Any]) -> bool:
    """Whether a record names the files that belong together."""
    return "predictions" in files and set(files) <= set(SUFFIXES) and ("head" in files or "skops" not in files)


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: this record of a result is damaged ({reason}); remove the file and run it again")


def sha256_of(stream: io.BufferedReader) -> str:
    """The SHA-256 of an open file, which is left at its beginning."""
    digest = hashlib.file_digest(stream, "sha256").hexdigest()
    stream.seek(0, io.SEEK_SET)
    return digest


def recorded_option(saved: SavedResult, name: str) -> str | None:
    """What a result was made with, as the command line has it (`weights`, `dataset`): from its record, or its command.

    A path in a command may be relative, and then means something in the folder that one is in.
    """
    if (place := (saved.result.extra.places or {}).get(name)) is not None:
        return place
    try:
        words = shlex.split(saved.result.command)
    except ValueError:
        return None
    for word, following in itertools.zip_longest(words, words[1:], fillvalue=""):
        if word == f"--{name}":
            return following
        if word.startswith(f"--{name}="):
            return word.partition("=")[2]
    return None
