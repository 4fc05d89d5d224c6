"""Which data set a saved model is for. Its content says so, not its name: two folders may be called alike.

A data set that has changed is another one in the same place; of those the one used last counts. A record may come from
anybody: the files that it names are opened where this home has used them before, or the user names them.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from classify.measure.results import SavedResult, recorded_option
from features.datasets import open_dataset
from features.datasets.catalogue import READABLE, absolute_spec
from features.errors import UserError


def for_one_data_set(results: Sequence[SavedResult], folder: Path, asked: str | None) -> list[SavedResult]:
    """The results, out of a folder, for the data set that is asked for, or for the only one that there is.

    asked: a data set as training takes it, or its name in the records. UserError where there is none, or several.
    """
    groups = _by_place(results)
    if asked is not None:
        groups = _answering(groups, asked)
        if not groups:
            there = ", ".join(_called(_by_place(results)))
            raise UserError(f"{folder} holds no model for {asked}, but for {there}; name one of these, or train one")
    if len(groups) > 1:
        names = _called(groups)
        raise UserError(
            f"{folder} holds models for {', '.join(names)}, and accuracies on different images have no best; say which "
            f"with --dataset {names[0]}, or name a record with --from"
        )
    return groups[0]


def _by_place(results: Iterable[SavedResult]) -> list[list[SavedResult]]:
    """The results for each data set, in the order of their names: of a place only those of the content that was used
    there last."""
    contents: dict[tuple, list[SavedResult]] = {}
    for saved in results:
        config = saved.result.config
        contents.setdefault((config.dataset, config.dataset_sha256), []).append(saved)
    newest: dict[tuple, list[SavedResult]] = {}
    for group in sorted(contents.values(), key=lambda group: max(saved.result.created for saved in group)):
        newest[_name(group), _place(max(group, key=lambda saved: saved.result.created))] = group
    return sorted(newest.values(), key=lambda group: (_name(group), _place(group[0])))


def _answering(groups: Sequence[list[SavedResult]], asked: str) -> list[list[SavedResult]]:
    """The groups that a name, a place or the content standing there means, in that order."""
    if named := [group for group in groups if _name(group) == asked]:
        return named
    place = absolute_spec(asked)
    try:
        digest = open_dataset(place).fingerprint() if ":" in place else None
    except UserError:
        digest = None  # the images need not be here any more
    same = [group for group in groups if digest and group[0].result.config.dataset_sha256 == digest]
    if same:
        return same
    standing = [(group, {_place(saved) for saved in group}) for group in groups]
    # A list is meant by whichever of its columns where these are not said.
    loosely = [(group, set(map(_without_columns, own))) for group, own in standing]
    # Whoever asks for a data set means it without its broken images too, where no model is for all of them.
    for places in (standing, loosely):
        for spec in (place, READABLE + place):
            if there := [group for group, own in places if spec in own]:
                return there
    return []


def _without_columns(spec: str) -> str:
    """A data set as it is named where the names of its list's columns are not said."""
    return re.sub(r"\?[^\[]*", "", spec, count=1)


def _called(groups: Sequence[list[SavedResult]]) -> list[str]:
    """What to call each data set: by its name, or by its place where another one is called alike."""
    names = [_name(group) for group in groups]
    return [name if names.count(name) == 1 else _place(group[-1]) for name, group in zip(names, groups, strict=True)]


def _name(group: Sequence[SavedResult]) -> str:
    return group[0].result.config.dataset


def _place(saved: SavedResult) -> str:
    """Where its data set stood, as `--dataset` takes it; a command's relative path is taken from here."""
    place, config = recorded_option(saved, "dataset"), saved.result.config
    return absolute_spec(place) if place else f"{config.dataset} of SHA-256 {str(config.dataset_sha256)[:8]}"
