"""The parts of a result's record that are read by name: its row's configuration, and what its head has to say besides.

Each is a read-only mapping, exactly what stands in the file, whose known fields are attributes with a type: an absent
one has its default. ValueError, naming the field, for a value of another type; fields that are not known stay.
"""

import functools
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, NotRequired, TypedDict, Union


class EpochRecord(TypedDict):
    """One epoch of a network's history, as `classify.heads.network.progress.Epoch` is written."""

    epoch: int
    step: NotRequired[int]
    loss: float
    penalty: float
    learning_rate: NotRequired[float]
    seconds: float
    validation_loss: NotRequired[float | None]
    validation_accuracy: float | None
    validation_macro_f1: NotRequired[float | None]


class Calibration(TypedDict):
    """What calibrating a head did to its probabilities on the test images; None where there were none to measure."""

    temperature: float
    log_loss_before: float | None
    ece_before: float | None
    log_loss_after: float | None
    ece_after: float | None


class Half(TypedDict):
    """Accuracy out of folds of heads that saw half of the images and of those that saw the whole, both in the first
    draw of the folds alone, and whether they differ."""

    accuracy: float
    whole: float
    p_value: float


class TypedMapping(Mapping[str, Any]):
    """A read-only mapping from JSON whose annotated fields are attributes as well."""

    _values: dict[str, Any]

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        values = dict(values or {})
        for name, kind in _fields(type(self)).items():
            if name in values and not fits(values[name], kind):
                raise ValueError(f"its {name} cannot be {str(values[name])[:40]!r}")
            self.__dict__[name] = values.get(name, getattr(type(self), name))
        self.__dict__["_values"] = values

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a {type(self).__name__} cannot be changed; make another one")

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values!r})"


class RowConfig(TypedMapping):
    """All that determines a row, as its record has it; a row's codec (`classify.experiments.row`) writes and reads it.

    What is left out of a record stands here at what version 0.1.0 did, whatever users get by default today: these
    defaults never change. preprocessing, revisions (of each layer joined), architecture and views are those of the
    cache keys; corrections: names of what version 0.1.0 computed wrongly for such a row, and this one does not. pool is
    absent for networks, training for classical heads, reading for all but the untouched network. groups: SHA-256 of
    which rows belong together, where that decides on which of them is chosen or tested. plugins: the packages, with
    their versions, that bring its data set, backbone or head.
    """

    dataset: str = ""
    dataset_sha256: str = ""
    backbone: str | None = None
    weights: str | None = None
    weights_sha256: str | None = None
    layer: str = ""
    pool: str | None = None
    image_size: int | None = None
    precision: str | None = None
    dtype: str | None = None
    preprocessing: dict[str, Any] | None = None
    revisions: list[int] | None = None
    architecture: str | None = None
    corrections: list[str] | None = None
    views: str | None = None
    test_views: int = 1
    limit: int | None = None
    limit_test: int | None = None
    head: str = ""
    seed: int = 0
    row_seed: int | None = None
    class_weight: str | None = None
    search: bool = True
    refit: bool = False
    search_rows: int | None = None
    head_params: dict[str, Any] | None = None
    validation: bool = True
    validation_share: float = 0.1
    calibrate: bool = False
    validate: str = "holdout"
    score: str = "accuracy"
    test: str = "split"
    labels: str | None = None
    training_set: str | None = None
    groups: str | None = None
    reduction: str | None = None
    width: int | None = None
    side: int | None = None
    colour: bool = False
    reading: str | None = None
    unfreeze: str | None = None
    fresh_above: str | None = None
    until: str | None = None
    maps: str | None = None
    regularizers: list[str] | None = None
    training: dict[str, Any] | None = None
    plugins: list[str] | None = None

    @property
    def on_folds(self) -> bool:
        """Whether it was chosen on folds of the training rows."""
        return self.validate != RowConfig.validate

    @property
    def is_network(self) -> bool:
        """Whether a network was trained."""
        return self.training is not None

    @property
    def network_label(self) -> str:
        """A network's row in a few words: 'finetune layer4, bss=0.001'."""
        part = self.unfreeze or self.reading
        name = f"{self.head} {part}" if part else self.head
        name += f" until {self.until}" if self.until else ""
        drawn = [f"reinitialised above {self.fresh_above}"] if self.fresh_above else []
        return ", ".join([name, *drawn, *(self.regularizers or ())])


class Extra(TypedMapping):
    """What a head adds to its result. Shares are between 0 and 1, times in seconds, memory in bytes.

    Of all: places (option -> where data and weights stood), white (of the images, see `features.datasets.white`; absent
    from records of version 0.1.0), crop_mode (of the images; version 0.1.0 noted none, and had a rule of its own),
    trained_parameters, peak_host_bytes and peak_device_bytes, cluster, ranges (of int8). Of heads on features: features
    (their number), trials of the search, read ('in blocks'), kept_by_layer, head_one_seconds, validation_scores (by
    name, of what was predicted for the validation rows; the log loss at the temperature that suits them best), outer
    (the same for each fold of a test by cross-validation), half (accuracy out of folds of heads that saw half of the
    images, of those that saw the whole, and whether they differ), calibration (the temperature, and log loss and ECE of
    the test images before and after), unlike (share of the test images that are said to be unlike the training images).
    Of networks: epochs and steps, stopped_early, history, regularizer_notes, learned, predict_one_seconds, and the
    SHA-256 of the network's two files. Of the untouched network: seen_as (label -> [source class, share]), map (label
    -> source class), top-1 and top-5 accuracy, ours and as published.
    """

    places: dict[str, str] | None = None
    white: dict[str, float] | None = None
    crop_mode: str | None = None
    trained_parameters: int | None = None
    peak_host_bytes: int | None = None
    peak_device_bytes: int | None = None
    cluster: dict[str, Any] | None = None
    ranges: dict[str, Any] | None = None
    features: int | None = None
    trials: list[dict[str, Any]] | None = None
    read: str | None = None
    kept_by_layer: list[int] | None = None
    validation_scores: dict[str, float] | None = None
    outer: list[dict[str, float]] | None = None
    half: Half | None = None
    head_one_seconds: float | None = None
    calibration: Calibration | None = None
    unlike: float | None = None
    predict_one_seconds: float | None = None
    epochs: int | None = None
    steps: int | None = None
    stopped_early: bool = False
    history: list[EpochRecord] | None = None
    regularizer_notes: list[str] | None = None
    learned: dict[str, Any] | None = None
    network_sha256: str | None = None
    network_json_sha256: str | None = None
    seen_as: dict[str, list[tuple[str, float]]] | None = None
    map: dict[str, str] | None = None
    top1: float | None = None
    top5: float | None = None
    published_top1: float | None = None
    published_top5: float | None = None


@functools.cache
def _fields(kind: type[TypedMapping]) -> dict[str, Any]:
    return {name: hint for name, hint in typing.get_type_hints(kind).items() if name != "_values"}


def fits(value: Any, kind: Any) -> bool:
    """Whether a JSON value is of a type that a field is annotated with."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or origin in (Union, types.UnionType):
        return kind is Any or any(fits(value, part) for part in parts)
    if origin is NotRequired:
        return fits(value, parts[0])
    if typing.is_typeddict(kind):
        return isinstance(value, dict) and all(
            fits(value[name], hint) if name in value else name not in kind.__required_keys__
            for name, hint in typing.get_type_hints(kind, include_extras=True).items()
        )
    if origin is tuple:  # of JSON, a list
        return isinstance(value, list) and len(value) == len(parts) and all(map(fits, value, parts))
    if origin is list:
        return isinstance(value, list) and all(fits(item, parts[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(item, parts[1]) for item in value.values())
    return type(value) in (int, float) if kind is float else type(value) is kind
