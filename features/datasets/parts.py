"""The parts of a data set, by the names that people give them: `Train`, `seg_test`, `training_set`, `valid`, `cv`."""

import re
import unicodedata
from collections.abc import Iterable

from features.errors import UserError

PARTS = ("train", "validation", "test")
_WORDS = {
    "train": "training|train|trn|treinamento|treino|entrenamiento|entra[iî]nement",
    "test": "testing|test|tst|teste|pruebas?|hold[ _-]?out",
    "validation": "validation|validate|valid|val|dev|cv|evaluation|eval|valida[cç][aã]o|validaci[oó]n",
}
_WORD = "|".join(f"(?P<{part}>{words})" for part, words in _WORDS.items())
# What may stand beside the word and says nothing: `Training Data`, `test_set`, `train_images2`, `cross-validation`.
_FILLER = "data[ _-]?sets?|sets?|data|images?|imgs?|pictures?|photos?|samples?|splits?|dir|folder|cross"
_PART = re.compile(
    rf"(?:(?P<before>.*)[\W\d_])?(?:{_WORD})(?:{_FILLER}|[\W\d_])*(?:(?<=[\W\d_])(?P<after>.+))?", re.IGNORECASE
)
# `fold_1`, `cv-fold 2`, `kfold3`, `split0`: parts of a cross-validation.
_FOLD = re.compile(
    r"(?:cv|k|cross[\W_]*validation)?[\W_]*(?:folds?|split|cv)[\W_]*\d+(?:[\W_]*of[\W_]*\d+)?", re.IGNORECASE
)


def part_called(name: str) -> tuple[str, str] | None:
    """The part that a name means ('train', 'test' or 'validation') and what else it says, without digits; or None.

    'seg_train' is ('train', 'seg') and 'bullet train' ('train', 'bullet'): parts of one data set say the same beside.
    """
    # `segTrain` has two words as `seg_train` has.
    name = unicodedata.normalize("NFC", name.strip())
    match = _PART.fullmatch(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name))
    if not match:
        return None
    part = next(part for part in PARTS if match[part])
    words = re.split(r"[\W\d_]+", f"{match['before'] or ''} {match['after'] or ''}".casefold())
    return part, " ".join(word for word in words if word and not re.fullmatch(_FILLER, word))


def parts_among(names: Iterable[str], where: object) -> dict[str, str]:
    """Those of some names that are the parts of one data set, by part; none without one to train on and another one.

    UserError where they could be put together in several ways.
    """
    sets: dict[str, dict[str, list[str]]] = {}
    for name in names:
        if called := part_called(name):
            part, around = called
            sets.setdefault(around, {}).setdefault(part, []).append(name)
    sets = {around: parts for around, parts in sets.items() if "train" in parts and len(parts) > 1}
    sets = {"": sets[""]} if "" in sets else sets  # `train_masks` stands beside `train`
    all_names = [name for parts in sets.values() for members in parts.values() for name in members]
    if len(sets) > 1 or any(len(members) > 1 for parts in sets.values() for members in parts.values()):
        raise UserError(
            f"{where} has several parts of one kind ({', '.join(all_names[:6])}); move away those that are not meant, "
            "or list the images in a file for csv:PATH"
        )
    return {part: members[0] for parts in sets.values() for part, members in parts.items()}


def are_folds(names: Iterable[str]) -> bool:
    """Whether all of some names are those of a cross-validation's folds."""
    return all(_FOLD.fullmatch(name.strip()) for name in names)
