"""A data set whose images are files in a list, whoever made the list: a folder's tree, ImageNet's, a CSV file.

Its fingerprint is made of the files' digests and labels in order, and of the class names. Paths are not in it: a
folder that is moved or a file that is renamed without changing the order holds the same rows.
"""

import contextlib
import dataclasses
import os
import re
import signal
import threading
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from features.datasets.catalogue import GROUP_BY, READABLE
from features.datasets.dataset import Dataset, Split, Survey
from features.datasets.doubles import find_copies, find_divided, find_doubles
from features.datasets.findings import Finding, Item, find_class_sizes
from features.datasets.forms import find_forms, forms_of
from features.datasets.images import READING, ImageFiles
from features.datasets.labels import alike_classes, as_seen
from features.datasets.splitting import cut_test_rows, require_two_of_each
from features.datasets.survey import Held, UnreadableImages, held_by, white_remarks, why_not_opened
from features.datasets.tree import below, some
from features.digests import sha256_files, sha256_json, sha256_rows
from features.errors import UserError
from features.grouping import group_codes

_MOST_SECONDS = 20.0  # of the processor, for an expression that looks into paths
UNCUT = "uncut"  # stands for a split where training and test rows are still to be cut

Rows = tuple[tuple[Path, ...], np.ndarray]


@dataclass(frozen=True, eq=False)
class ListedImages(Dataset):
    """Image files with labels.

    listed: for each split, or for `UNCUT`, the paths and their labels, int64 (N,), in order. root: the folder or file
    whose list it is; the digests of its images are remembered together. remarks: what people should hear of how the
    list was made, whole lines. later: whether version 0.1.0 would have made another list. grouped: the names of the
    rows' groups, as long as the lists; those of an uncut list are on one side. groups_asked: they were asked for, and
    did not just stand there. findings: what is wrong with the list, besides its images.
    """

    name: str
    spec: str
    classes: tuple[str, ...]
    root: Path
    listed: Mapping[str, Rows]
    remarks: tuple[str, ...] = ()
    later: bool = False
    grouped: Mapping[str, tuple[str, ...]] | None = None
    groups_asked: bool = False
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        if UNCUT in self.listed:
            # Whether there are enough images is known without reading one.
            labels, groups = self.listed[UNCUT][1], self._uncut_groups
            if groups is None:
                require_two_of_each(labels, self.classes, self.root)
            else:
                cut_test_rows(labels, self.classes, self.root, groups=groups)

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "test") if UNCUT in self.listed else tuple(self.listed)

    @property
    def cuts_test(self) -> bool:
        return UNCUT in self.listed

    def fingerprint(self) -> str:
        digests = self._digests
        content = {
            split: {"files": [digests[path] for path in paths], "labels": sha256_rows(labels)}
            for split, (paths, labels) in self._parts.items()
        }
        # What is white is told where it is not what version 0.1.0 took for it.
        white = self._held.white.unlike_0_1_0
        later = {"white": white} if white else {}
        return sha256_json({"images": content, "classes": self.classes, "reading": READING, **later})

    def survey(self) -> Survey:
        digests, held = self._digests, self._held
        if unreadable := self._unreadable:
            raise UnreadableImages(unreadable)
        findings = [*self.findings, *self._findings(digests, held)]
        remarks = [*self.remarks, *(f"{self.root}: {line}" for line in white_remarks(held.white))]
        remarks += [f"{self.root}: {finding.line}" for finding in findings]
        later = self.later or self._copies or held.white.unlike_0_1_0
        rule = 3 if self._uncut_groups is not None and not self.groups_asked else 2 if later else 1
        return Survey(tuple(remarks), rule, held.white, tuple(findings))

    def _findings(self, digests: Mapping[Path, str], held: Held) -> Iterator[Finding]:
        """What is wrong with the images, or may be."""
        parts = {split: (self.digests(split), labels) for split, (_, labels) in self._parts.items()}
        items = [
            Item(self._short(path), split, row, self.classes[label])
            for split, (paths, labels) in self._parts.items()
            for row, (path, label) in enumerate(zip(paths, labels.tolist(), strict=True))
        ]
        content = [digest for own, _ in parts.values() for digest in own]
        if alike := alike_classes(self.classes):
            yield Finding("classes called alike", alike)
        yield from find_class_sizes({split: labels for split, (_, labels) in parts.items()}, self.classes)
        yield from find_doubles(parts, self.classes, self.name_of)
        if self.grouped is not None and UNCUT not in self.listed:
            yield from find_divided(self.grouped, self.name_of)
        yield from find_copies(parts, self.classes, self.name_of, cut=UNCUT in self.listed)
        yield from held.findings(dict(zip(reversed(content), reversed(items), strict=True)))
        forms = forms_of({digest: path for path, digest in digests.items()})
        labels = np.concatenate([labels for _, labels in parts.values()])
        yield from find_forms([forms.get(digest) for digest in content], items, labels, self.classes)

    def grouped_by(self, expression: str) -> "ListedImages":
        return dataclasses.replace(
            self,
            spec=f"{self.spec}{GROUP_BY}{urllib.parse.quote(expression, safe='')}",
            grouped={
                split: groups_in([self._short(path) for path in paths], expression)
                for split, (paths, _) in self.listed.items()
            },
            groups_asked=True,
        )

    def groups(self, split: str) -> np.ndarray | None:
        self.require(split)
        if self.grouped is None:
            return None
        names = [name for split_names in self.grouped.values() for name in split_names]
        ends = np.cumsum([len(split_names) for split_names in self.grouped.values()])[:-1]
        codes = dict(zip(self.grouped, np.split(group_codes(names), ends), strict=True))
        return codes[UNCUT][self._cut[split]] if UNCUT in codes else codes[split]

    def name_of(self, split: str, row: int) -> str:
        return self._short(self._parts[split][0][row])

    def digests(self, split: str) -> list[str]:
        return [self._digests[path] for path in self._parts[split][0]]

    @property
    def _uncut_groups(self) -> np.ndarray | None:
        return None if self.grouped is None or UNCUT not in self.grouped else group_codes(self.grouped[UNCUT])

    def readable(self) -> "ListedImages":
        try:
            unreadable = self._unreadable
        except UnreadableImages as error:
            unreadable = error.reasons
        return self.without(unreadable)

    def without(self, unreadable: Mapping[Path, str]) -> "ListedImages":
        """The same without some images, which is said; unreadable: why they are left out. UserError where a class has
        none left."""
        if not unreadable:
            return self
        listed, grouped = {}, {}
        for split, (paths, labels) in self.listed.items():
            rows = np.array([row for row, path in enumerate(paths) if path not in unreadable], dtype=np.int64)
            emptied = sorted(set(labels.tolist()) - set(labels[rows].tolist()))
            if emptied and (split in ("train", UNCUT) or not len(rows)):
                where = "" if split == UNCUT else f" to {split}"
                raise UserError(
                    f"{self.root} has no readable image of class '{self.classes[emptied[0]]}'{where}; add some, or "
                    "leave the class out"
                )
            listed[split] = (tuple(paths[row] for row in rows), labels[rows])
            if self.grouped is not None:
                grouped[split] = tuple(self.grouped[split][row] for row in rows)
        files = [f"{self._short(path)}: {reason}" for path, reason in unreadable.items()]
        count = "1 unreadable image is" if len(files) == 1 else f"{len(files):,} unreadable images are"
        remark = f"{self.root}: {count} left out ({some(files)})"
        return dataclasses.replace(
            self,
            listed=listed,
            remarks=(*self.remarks, remark),
            spec=READABLE + self.spec.removeprefix(READABLE),
            grouped=grouped if self.grouped is not None else None,
        )

    def files(self) -> tuple[Path, ...]:
        return tuple(path for paths, _ in self.listed.values() for path in paths)

    def load(self, split: str) -> Split:
        self.require(split)
        paths, labels = self._parts[split]
        return Split(ImageFiles(paths, self._held.white), labels)

    def _short(self, path: Path) -> str:
        return below(self.root if self.root.is_dir() else self.root.parent, path)

    @cached_property
    def _digests(self) -> dict[Path, str]:
        """The SHA-256 of every file, in the order of `files`."""
        paths = self.files()
        try:
            return self._read_digests(paths)
        except OSError as error:
            unopened = {path: reason for path in paths if (reason := why_not_opened(path))}
            unopened = unopened or {Path(error.filename or self.root): str(error.strerror)}
            # All that is broken is named at once.
            others = self._read_digests([path for path in paths if path not in unopened])
            raise UnreadableImages(unopened | held_by(others).unreadable_of(others)) from error

    def _read_digests(self, paths: Sequence[Path]) -> dict[Path, str]:
        return dict(zip(paths, sha256_files(paths, together=self.root), strict=True))

    @cached_property
    def _held(self) -> Held:
        return held_by(self._digests)

    @property
    def _unreadable(self) -> dict[Path, str]:
        return self._held.unreadable_of(self._digests)

    @cached_property
    def _cut(self) -> Mapping[str, np.ndarray]:
        """For each split its rows in the uncut list; equal files are cut into the same one, and so are groups."""
        paths, labels = self.listed[UNCUT]
        content = [self._digests[path] for path in paths]
        cut = cut_test_rows(labels, self.classes, self.root, content=content, groups=self._uncut_groups)
        return dict(zip(self.splits, cut, strict=True))

    @cached_property
    def _parts(self) -> Mapping[str, Rows]:
        """For each split its paths and labels."""
        if UNCUT not in self.listed:
            return self.listed
        paths, labels = self.listed[UNCUT]
        return {split: (tuple(paths[row] for row in rows), labels[rows]) for split, rows in self._cut.items()}

    @cached_property
    def _copies(self) -> int:
        """How many images that were cut into training and test rows are copies of another one."""
        digests = [self._digests[path] for path in self.listed[UNCUT][0]] if UNCUT in self.listed else []
        return len(digests) - len(set(digests))


def groups_in(paths: Sequence[str], expression: str) -> tuple[str, ...]:
    """The groups' names that a regular expression finds in paths, see `Dataset.grouped_by`."""
    try:
        pattern = re.compile(expression)
    except re.error as error:
        raise UserError(f"--group-by {expression}: this is no regular expression ({error})") from error
    if not pattern.groups:
        raise UserError(
            f"--group-by {expression}: what tells the group should stand in parentheses, as in '(patient[0-9]+)'"
        )
    with _bounded(expression):
        groups = [match[1] if (match := pattern.search(path.replace(os.sep, "/"))) else None for path in paths]
    if missing := [path for path, name in zip(paths, groups, strict=True) if not name]:
        raise UserError(
            f"--group-by {expression}: it finds no group in {len(missing):,} of {len(paths):,} paths, the first of "
            f"them '{missing[0]}'; correct the expression, which is searched for in paths like this one"
        )
    return tuple(as_seen(name) for name in groups if name)


@contextlib.contextmanager
def _bounded(expression: str) -> Iterator[None]:
    """Meanwhile end what takes too long, by a UserError: expressions with repeats in repeats take for ever, and those
    of a configuration come from anybody. Only the main thread can be stopped so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise UserError(
            f"--group-by {expression}: it takes more than {_MOST_SECONDS:.0f} s of looking into the paths; write it "
            "without repeats in repeats, such as (a+)+"
        )

    # Time of the processor: a busy machine is no reason to stop.
    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, _MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
