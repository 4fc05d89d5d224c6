"""`transfer:SOURCE->TARGET`: train on the images of one folder, test on those of another that has the same classes.

Both hold one sub-folder per class, as `folder:PATH` has it; all images of the first are the split 'train', all of the
second 'test'. That is how the domains of Office-31 and its like are used.
"""

from pathlib import Path

from features.datasets.catalogue import ARROW
from features.datasets.dataset import name_of
from features.datasets.folder import classes_in, labelled_rows
from features.datasets.labels import as_seen
from features.datasets.listed import ListedImages
from features.datasets.tree import Seen
from features.errors import UserError


def open_named(name: str, source: Path, target: Path) -> ListedImages:
    """The data set of two folders; UserError where one is empty, or the second has a class that the first has not."""
    seen = Seen()
    classes = classes_in(source, seen)
    there = set(map(as_seen, classes_in(target, seen)))
    if missing := [name for name in classes if as_seen(name) not in there]:
        raise UserError(
            f"{target} has not the class '{missing[0]}', which {source} has; both should have the same sub-folders"
        )
    rows = {
        "train": labelled_rows(source, classes, seen),
        "test": labelled_rows(target, classes, seen, known_as=str(source)),
    }
    # Office-31 keeps a domain's classes in amazon/images: every domain would be called alike.
    domains = [folder.parent if folder.name == "images" else folder for folder in (source, target)]
    called = f"{name_of(name, domains[0])}-to-{name_of(name, domains[1]).removeprefix(f'{name}-')}"
    spec, root = f"{name}:{source}{ARROW}{target}", source.parent
    return ListedImages(called, spec, classes, root, rows, seen.notes(root), seen.later, findings=seen.findings(root))
