"""`hf:PATH` and `hf:OWNER/NAME`: data sets that Hugging Face's package `datasets` reads (the extra `hf`).

A path is a folder that `save_to_disk` wrote, or parquet, arrow or webdataset files (.tar), or a folder of them;
whatever else is the name of a data set on the hub, brought by that package's own code and never by code from the hub.
The columns of images and labels are found by their names and types or given,
`hf:PATH?path=COLUMN&label=COLUMN&group=COLUMN` (`config=NAME` is a data set's configuration on the hub). Parts are
those that are called train, validation and test; without one for the test one image in five of each class is cut off,
always the same ones.

Images stay in the files, which are mapped into memory, and are read by the row: no process holds a list of them. Who
they are is the SHA-256 of the images' bytes and labels in order, whatever files they stand in, worked out once and
remembered. They are decoded by the code that decodes image files.
"""

import dataclasses
import hashlib
import io
import json
import os
import re
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from features.commands.progress import progress_if_slow
from features.datasets.dataset import Dataset, Split, Survey
from features.datasets.doubles import find_copies, find_divided, find_doubles
from features.datasets.findings import Finding, Item, find_class_sizes
from features.datasets.hub_tables import found_columns, imported, named_parts, of_hub, of_path, with_raw_images
from features.datasets.images import READING, ImageFiles
from features.datasets.labels import ordered_classes, stands_for_none
from features.datasets.splitting import CUT, TEST_FRACTION, cut_test_rows
from features.datasets.survey import Held, look_at, summed_up, white_remarks
from features.digests import sha256_files, sha256_json, sha256_rows
from features.errors import UserError
from features.grouping import group_codes
from features.home import user_path
from features.notes import remembered_answer

_OPTIONS = ("path", "label", "group", "config")
_ROWS = 512  # read at once in the one pass over all images
_RULE = 1  # of that pass


def open_named(name: str, place: str | Path, query: str = "") -> "HubDataset":
    """The data set at a path, or of that name on the hub; UserError where it cannot be had, or lacks a column."""
    text = str(place)
    spec = f"{name}:{text}{f'?{query}' if query else ''}"
    asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    if strange := [option for option, value in asked.items() if option not in _OPTIONS or not value]:
        raise UserError(f"{spec}: '{strange[0]}' names nothing here; write ?path=COLUMN&label=COLUMN&group=COLUMN")
    package = imported(spec)
    is_local = user_path(text).exists()
    tables = of_path(package, user_path(text), spec) if is_local else of_hub(package, text, asked.get("config"), spec)
    parts = named_parts({str(split): table for split, table in tables.items() if len(table)}, spec)
    columns = found_columns(next(iter(parts.values())), asked, spec)
    unread = [str(split) for split, table in tables.items() if all(table is not part for part in parts.values())]
    remarks = (f"the splits {', '.join(unread)} are not read",) if unread else ()
    called = re.sub(r"[^\w.-]+", "-", user_path(text).stem if is_local else text)
    return HubDataset(f"{name}-{called}", spec, with_raw_images(package, parts, columns), columns, remarks)


@dataclass(frozen=True, eq=False)
class RowImages(ImageFiles):
    """Images in rows of tables that are mapped from files. Can be pickled, and read from several threads.

    tables: the package's data sets. column: of the images in them. rows: int64 (N,), counted through all tables.
    """

    tables: Sequence[Any] = ()
    column: str = ""
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def identity(self) -> str:
        return sha256_json([[table._fingerprint for table in self.tables], sha256_rows(self.rows)])

    def take(self, rows: np.ndarray) -> "RowImages":
        return dataclasses.replace(self, rows=self.rows[rows])

    def joined(self, other: ImageFiles) -> "RowImages":
        assert isinstance(other, RowImages)  # of the same data set
        return dataclasses.replace(self, rows=np.concatenate([self.rows, other.rows]))

    def source(self, row: int) -> Path | BinaryIO:
        return _source(self._cell(row))

    def name(self, row: int) -> str:
        path = _path(self._cell(row))
        return path or f"row {self.rows[row]}"

    def _cell(self, row: int) -> Any:
        number = int(self.rows[row])
        for table in self.tables:
            if number < len(table):
                return table[number][self.column]
            number -= len(table)
        raise IndexError(row)


@dataclass(frozen=True, eq=False)
class HubDataset(Dataset):
    """Tables of images and labels. tables: by part, train first; one alone is cut. columns: of images, labels and, if
    any, groups. remarks: what people should hear of how they were found."""

    name: str
    spec: str
    tables: Mapping[str, Any]
    columns: Mapping[str, str]
    remarks: tuple[str, ...] = ()

    @property
    def cuts_test(self) -> bool:
        return len(self.tables) == 1

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", "test") if self.cuts_test else tuple(self.tables)

    @property
    def classes(self) -> tuple[str, ...]:
        return self._labels[0]

    def fingerprint(self) -> str:
        content = {part: [sum_, sha256_rows(self._labels[1][part])] for part, sum_ in self._held["sums"].items()}
        later = self._white.unlike_0_1_0
        return sha256_json(
            {
                "rows": content, "classes": self.classes, "reading": READING, "cut": [CUT, TEST_FRACTION],
                **({"white": later} if later else {}), **({"groups": "on one side"} if self._cut_by_groups else {}),
            }
        )  # fmt: skip

    def survey(self) -> Survey:
        held = self._seen
        if held.unreadable:
            said = [f"row {row} ({reason})" for row, reason in list(held.unreadable.items())[:5]]
            raise UserError(
                f"cannot read {len(held.unreadable):,} of the images of {self.spec}: {', '.join(said)}; take them out"
            )
        findings = [*self._findings(held)]
        remarks = [*self.remarks, *white_remarks(held.white), *(finding.line for finding in findings)]
        return Survey(tuple(f"{self.spec}: {line}" for line in remarks), 1, held.white, tuple(findings))

    def _findings(self, held: Held) -> Iterator[Finding]:
        parts = {split: self._labels_of(split) for split in self.splits}
        yield from find_class_sizes(parts, self.classes)
        if self._equal:
            digests = {split: (self.digests(split), labels) for split, labels in parts.items()}
            yield from find_doubles(digests, self.classes, self.name_of, "image")
            yield from find_copies(digests, self.classes, self.name_of, cut=self.cuts_test)
        if self._group_names is not None and not self.cuts_test:
            yield from find_divided(self._group_names, self.name_of)
        if doubtful := [*held.flat, *held.dark, *held.warned]:
            wanted, items = np.array(sorted({int(number) for number in doubtful})), {}
            for split in self.splits:
                for row in np.flatnonzero(np.isin(self._rows(split), wanted)).tolist():
                    label = self.classes[parts[split][row]]
                    items[str(self._rows(split)[row])] = Item(self.name_of(split, row), split, row, label)
            yield from held.findings(items)

    def digests(self, split: str) -> list[str]:
        return [str(self._equal.get(row, row)) for row in self._rows(split).tolist()]

    def name_of(self, split: str, row: int) -> str:
        return self._images(split).name(row)

    def groups(self, split: str) -> np.ndarray | None:
        self.require(split)
        if self._group_names is None:
            return None
        names = [name for part in self._group_names.values() for name in part]
        return group_codes(names)[self._rows(split)]

    def load(self, split: str) -> Split:
        self.require(split)
        return Split(self._images(split), self._labels_of(split))

    def _images(self, split: str) -> RowImages:
        tables = tuple(self.tables.values())
        rows = self._rows(split)
        return RowImages((), self._white, tables=tables, column=self.columns["path"], rows=rows)

    def _labels_of(self, split: str) -> np.ndarray:
        if self.cuts_test:
            return next(iter(self._labels[1].values()))[self._rows(split)]
        return self._labels[1][split]

    def _rows(self, split: str) -> np.ndarray:
        """The rows of a split, counted through all tables."""
        if self.cuts_test:
            return self._cut[split]
        starts = dict(zip(self.tables, np.cumsum([0, *map(len, self.tables.values())]).tolist(), strict=False))
        return starts[split] + np.arange(len(self.tables[split]))

    @cached_property
    def _cut(self) -> Mapping[str, np.ndarray]:
        labels = next(iter(self._labels[1].values()))
        content = [self._equal.get(row, row) for row in range(len(labels))] if self._equal else None
        names = self._group_names and [name for part in self._group_names.values() for name in part]
        groups = group_codes(names) if names else None
        cut = cut_test_rows(labels, self.classes, self.spec, content=content, groups=groups)
        return dict(zip(("train", "test"), cut, strict=True))

    @property
    def _cut_by_groups(self) -> bool:
        return self.cuts_test and "group" in self.columns

    @cached_property
    def _labels(self) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
        """The classes, and for each part the numbers of its rows' labels."""
        words, codes = {}, {}
        for part, table in self.tables.items():
            words[part], codes[part] = _coded(table, self.columns["label"], self.spec)
        classes = ordered_classes(sorted({word for of_part in words.values() for word in of_part}))
        if len(classes) < 2:
            raise UserError(f"{self.spec} has {len(classes)} class; two are needed")
        rank = {word: number for number, word in enumerate(classes)}
        labels = {part: np.array([rank[word] for word in words[part]])[codes[part]] for part in self.tables}
        first = next(iter(labels.values()))
        for part, own in labels.items():
            if (strange := np.setdiff1d(own, first)).size:
                raise UserError(f"{self.spec} has no training image of class '{classes[strange[0]]}', which {part} has")
        return classes, labels

    @cached_property
    def _group_names(self) -> dict[str, list[str]] | None:
        if "group" not in self.columns:
            return None
        names = {}
        for part, table in self.tables.items():
            words, codes = _coded(table, self.columns["group"], self.spec)
            if none := [word for word in words if stands_for_none(word)]:
                raise UserError(f"{self.spec}: the group of a row is '{none[0]}', which stands for none; fill it in")
            names[part] = [words[code] for code in codes.tolist()]
        return names

    @cached_property
    def _held(self) -> dict[str, Any]:
        """What the one pass over all images found: of each part the SHA-256 over their bytes' own, in order; the rows
        that are equal to an earlier one; and what is out of the common."""
        files = sorted({file["filename"] for table in self.tables.values() for file in table.cache_files})
        sums = sha256_files(files, together=files[0]) if files else []
        rows = {part: [len(table), table._fingerprint] for part, table in self.tables.items()}
        known = sha256_json([sums, rows if not files else list(map(len, self.tables.values())), self.columns["path"]])
        return json.loads(remembered_answer(f"what the rows {known} of images hold by rule {_RULE}", self._look))

    def _look(self) -> str:
        sums, seen, number = {}, {}, 0
        digests = np.empty(sum(map(len, self.tables.values())), "S16")
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1), "look") as pool, progress_if_slow() as advance:
            for part, table in self.tables.items():
                whole = hashlib.sha256()
                for batch in table.iter(_ROWS):
                    cells = batch[self.columns["path"]]
                    for digest, notes in pool.map(_look_at_cell, cells):
                        whole.update(digest)
                        # NumPy drops NULs at the end: hex has none.
                        digests[number] = digest[:8].hex().encode()
                        if notes:
                            seen[str(number)] = notes
                        number += 1
                    advance("looked at", number, len(digests))
                sums[part] = whole.hexdigest()
        _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
        earlier = first[inverse]
        equal = np.flatnonzero(earlier != np.arange(len(digests)))
        pairs = [[int(row), int(earlier[row])] for row in equal]
        return json.dumps({"sums": sums, "equal": pairs, "seen": seen})

    @cached_property
    def _equal(self) -> dict[int, int]:
        return dict(self._held["equal"])

    @cached_property
    def _seen(self) -> Held:
        return summed_up(self._held["seen"])

    @property
    def _white(self) -> Any:
        return self._seen.white

    def files(self) -> tuple[Path, ...]:
        return tuple(Path(file["filename"]) for table in self.tables.values() for file in table.cache_files)


def _coded(table: Any, column: str, spec: str) -> tuple[list[str], np.ndarray]:
    """The different values of a column as text, and for each row which it has."""
    values = table.select_columns([column]).with_format("arrow")[:][column].combine_chunks()
    if values.null_count:
        raise UserError(f"{spec}: {values.null_count:,} rows have nothing in the column {column}; fill it in")
    coded = values.dictionary_encode()
    words, codes = coded.dictionary.to_pylist(), coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    words = [int(word) if isinstance(word, float) and word.is_integer() else word for word in words]
    if strange := [word for word in words if not isinstance(word, str | int)]:
        raise UserError(
            f"{spec}: the column {column} holds {str(strange[0])[:60]}, and a class is a whole number or a word; name "
            "another column with --label-column"
        )
    if names := getattr(table.features[column], "names", None):
        if hidden := [word for word in words if not 0 <= word < len(names)]:
            raise UserError(f"{spec}: some rows have the label {hidden[0]}, which stands for none; take them out")
        words = [names[word] for word in words]
    return [str(word) for word in words], codes


def _bytes(cell: Any) -> bytes | None:
    content = cell.get("bytes") if isinstance(cell, Mapping) else cell
    return content if isinstance(content, bytes) else None


def _path(cell: Any) -> str:
    path = cell.get("path") if isinstance(cell, Mapping) else cell
    return path if isinstance(path, str) else ""


def _source(cell: Any) -> Path | BinaryIO:
    """What an image's cell means: its bytes, or the file that it names."""
    content = _bytes(cell)
    return Path(_path(cell)) if content is None and _path(cell) else io.BytesIO(content or b"")


def _look_at_cell(cell: Any) -> tuple[bytes, dict[str, Any]]:
    """The SHA-256 of an image's bytes, and what is out of the common with it."""
    content = _bytes(cell)
    try:
        content = Path(_path(cell)).read_bytes() if content is None else content
    except OSError as error:
        return bytes(32), {"unreadable": str(error.strerror)}
    return hashlib.sha256(content).digest(), look_at(io.BytesIO(content))
