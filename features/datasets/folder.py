"""`folder:PATH`: images sorted into one sub-folder per class.

With folders for training and testing (`train/` and `test/`, `Training/` and `Testing/`, `seg_train/` and `seg_test/`)
those are the splits; a validation folder (`val/`, `valid/`) beside them is the split 'validation', and the test set
where there is no other. Else one image in five of each class is the test set, always the same ones, equal files on one
side. Classes are the sub-folders' names, sorted as text, as torchvision's ImageFolder numbers them; sub-folders whose
names look the same are one class. Images may stand in deeper folders; hidden files and folders and other kinds of files
are skipped. What could be parts or classes is refused.
"""

from pathlib import Path

import numpy as np

from features.datasets.dataset import name_of
from features.datasets.images import IMAGE_SUFFIXES
from features.datasets.labels import alike_joined, as_seen
from features.datasets.listed import UNCUT, ListedImages, Rows
from features.datasets.parts import PARTS, are_folds, part_called, parts_among
from features.datasets.tree import Seen, folders_in, images_below, look_into, some
from features.errors import UserError


def open_named(name: str, path: Path) -> ListedImages:
    """The data set in a folder; UserError for an empty one, for a single class, for a class in test alone, and for
    folders that could be parts as well as classes."""
    seen = Seen()
    root = _unnested(path)
    folders, _ = look_into(root)
    parts = {part: root / folder for part, folder in parts_among(folders, root).items()}
    if parts:
        parts = {part: _unnested(folder) for part, folder in _settled(parts, folders, seen).items()}
        classes = classes_in(parts["train"], seen)
        rows = {
            part: labelled_rows(parts[part], classes, seen, known_as="" if part == "train" else str(parts["train"]))
            for part in PARTS
            if part in parts
        }
    else:
        _refuse_parts(root, folders, seen)
        classes = classes_in(root, seen)
        rows = {UNCUT: labelled_rows(root, classes, seen)}
    name, spec = name_of(name, path), f"{name}:{path}"
    return ListedImages(name, spec, classes, path, rows, seen.notes(path), seen.later, findings=seen.findings(path))


def classes_in(folder: Path, seen: Seen | None = None) -> tuple[str, ...]:
    """The names of the sub-folders, each as it is seen once; UserError where there are fewer than two."""
    folders, loose = look_into(folder, seen)
    if not folders:
        content = "holds images but no sub-folders" if loose else "holds no images"
        lists = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".csv", ".tsv"))
        hint = f"; if {lists[0].name} lists them with their labels, name csv:{lists[0]}" if lists else ""
        raise UserError(
            f"{folder} {content}; it should have one sub-folder per class, named after it, with its images{hint}"
        )
    joined, remarks = alike_joined(folders)
    classes = sorted({joined.get(name, name) for name in folders})
    if len(classes) == 1:
        inner = folder / folders[0]
        hint = f"; if the classes are in it, name {inner}" if len(folders_in(inner)) > 1 else ""
        raise UserError(f"{folder} has the one class '{classes[0]}'; two are needed, one sub-folder each{hint}")
    if seen is not None:
        seen.loose += loose
        seen.remarks += remarks
        seen.later = seen.later or bool(joined)
    return tuple(classes)


def labelled_rows(folder: Path, classes: tuple[str, ...], seen: Seen, known_as: str = "") -> Rows:
    """Paths and labels below `folder`; for a test folder `known_as` is the one that has all classes."""
    folders, loose = look_into(folder)
    of_class: dict[str, list[str]] = {as_seen(class_name): [] for class_name in classes}
    for name in folders:
        if known_as and as_seen(name) not in of_class:
            raise UserError(
                f"{folder} has the class '{name}', which {known_as} has not; both should have the same sub-folders"
            )
        of_class.setdefault(as_seen(name), []).append(name)
    if known_as and (others := [name for name in folders if name not in classes]):
        _, remarks = alike_joined([*classes, *others])
        seen.remarks += [remark for remark in remarks if remark not in seen.remarks]
        seen.later = True
    paths, labels = [], []
    for label, class_name in enumerate(classes):
        images = [path for name in of_class[as_seen(class_name)] for path in images_below(folder / name, seen)]
        if not images and not known_as:
            raise UserError(
                f"{folder / class_name} holds no image ({', '.join(IMAGE_SUFFIXES)}); add images or delete the folder"
            )
        paths += images
        labels += [label] * len(images)
    if not paths:
        content = "holds images without a class" if loose else "holds no image"
        raise UserError(f"{folder} {content}; it should have one sub-folder per class with its images")
    return tuple(paths), np.array(labels, dtype=np.int64)


def _unnested(folder: Path) -> Path:
    """Where a folder holds nothing but one of its own name, as archives are unpacked, that one."""
    while look_into(folder) == ([folder.name], []):
        folder = folder / folder.name
    return folder


def _settled(parts: dict[str, Path], folders: list[str], seen: Seen) -> dict[str, Path]:
    """The folders of the splits, after noting what is to be said of them."""
    if "test" not in parts:
        parts["test"] = parts.pop("validation")
        seen.remarks.append(f"{parts['test'].name}/ is the test set, since there is no other")
    else:
        if (parts["train"].name, parts["test"].name) != ("train", "test"):
            seen.remarks.append(f"{parts['train'].name}/ is for training, {parts['test'].name}/ for testing")
        if "validation" in parts:
            seen.remarks.append(
                f"{parts['validation'].name}/ is the validation set, and what is chosen is chosen on it"
            )
            seen.later = True
    # Those that version 0.1.0 did not know for parts were its classes.
    if parts["train"].name != "train" or parts["test"].name not in ("test", "val", "validation"):
        seen.later = True
    if aside := [f"{name}/" for name in folders if name not in {folder.name for folder in parts.values()}]:
        seen.remarks.append(f"beside these parts, {some(aside)} {'is' if len(aside) == 1 else 'are'} left out")
    return parts


def _refuse_parts(root: Path, folders: list[str], seen: Seen) -> None:
    """UserError where folders that would be read as classes are parts of some kind, or may be; what is called like a
    part and is a class is noted."""
    inside = {name: look_into(root / name) for name in folders}
    advice = "sort the images into train/CLASS and test/CLASS, or list them in a file for csv:PATH"
    if len(folders) > 1 and are_folds(folders):
        raise UserError(f"{root} holds the folds of a cross-validation ({some(folders)}), not classes; {advice}")
    for name, (inner, _) in inside.items():
        if len(folders) > 1 and parts_among(inner, root / name):
            raise UserError(f"{root / name} is split for itself into {some(inner)}; {advice}")
    for name in folders:
        if not (called := part_called(name)):
            continue
        inner, loose = inside[name]
        twin = next((other for other in folders if other != name and len({*inner} & {*inside[other][0]}) > 1), None)
        if twin:
            raise UserError(
                f"{root} holds {name}/ and {twin}/, which have the same sub-folders ({some(inner)}) and are not called "
                f"as parts of one data set; {advice}"
            )
        if called[1]:
            continue
        if len(folders) > 1 and (loose or not inner):
            beside = next(other for other in folders if other != name)
            seen.remarks.append(f"{name}/ is read as a class, like {beside}/")
            seen.later = seen.later or name == "train"
        else:
            wanted = "neither test/ nor val/" if called[0] == "train" else "no train/"
            raise UserError(
                f"{root} has {name}/ and {wanted}; add what is missing, or name {root / name} itself to have a test "
                "set cut from it"
            )
    first = inside[folders[0]][0] if folders else []
    if len(folders) > 1 and len(first) > 1 and all(content == (first, []) for content in inside.values()):
        seen.remarks.append(
            f"{some(folders)} are read as the classes, though all hold the same folders ({some(first)}); name one of "
            "them if those are the classes"
        )
