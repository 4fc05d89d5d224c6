"""What `python -m features` does: list, verify, remove and compact what the cache holds, accept what changed."""

import argparse
import contextlib
import math
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from features.commands.program import as_typed
from features.commands.speaking import is_quiet, is_verbose, printable, put, say
from features.datasets import open_dataset
from features.datasets.catalogue import absolute_spec
from features.errors import UserError
from features.first_use import accept, known_digests
from features.home import features_folder
from features.store.catalogue import Entry, entries, remove
from features.store.disk import as_bytes
from features.store.naming import CacheError
from features.store.reader import FeatureFile, ShardedFile
from features.store.shards import compact

_WIDEST = 10_000  # columns of what is read by other programs
# What is listed of an entry, and which of it is left out first where a terminal has no room.
_COLUMNS = {
    "data set": 0,
    "split": 1,
    "backbone": 3,
    "weights": 4,
    "layer": 0,
    "pool": 2,
    "px": 4,
    "precision": 6,
    "rows x width": 5,
    "size": 1,
    "state": 2,
    "name": 0,
}


def run_verb(options: argparse.Namespace) -> int:
    """Do what the options say; 1 if verification found damage."""
    verbs = {"verify": _verify, "remove": _remove, "compact": _compact, "accept": _accept, "prune": _prune}
    return verbs[options.verb](options) if options.verb in verbs else _list()


def _list() -> int:
    from rich.console import Console

    from features.commands.screen import ScreenColumn, is_screen, laid_out, screen_width

    everything = entries()
    shown = [entry for entry in everything if entry.state != "left over"]
    if not everything:
        say(f"the cache in {features_folder()} is empty; `python -m extract` fills it")
        return 0
    if is_quiet():
        # For other programs: one name a line.
        put("\n".join(path.name for entry in shown for path in entry.paths[:1]))
        return 0
    width = screen_width(sys.stdout) or _WIDEST
    console = Console(width=width)
    data_sets = {(entry.record.about.dataset_name, entry.record.key.dataset) for entry in shown if entry.record}
    called = Counter(name for name, _ in data_sets)
    cells = list(zip(*(_cells(entry, called) for entry in shown), strict=True)) or [()] * len(_COLUMNS)
    columns = [
        ScreenColumn(heading, column, rank, is_left=heading != "size")
        for (heading, rank), column in zip(_COLUMNS.items(), cells, strict=True)
    ]
    rule = "─" if is_screen(sys.stdout) else "-"
    # What goes to `cat` is as wide as $COLUMNS where that is set.
    whole = "" if "COLUMNS" in os.environ else as_typed("`python -m features | cat`")
    for line in laid_out(columns, width, whole=whole, rule=rule):
        console.print(line, crop=False)
    total = as_bytes(sum(entry.size for entry in everything))
    complete = sum(entry.state == "complete" for entry in everything)
    put(f"{complete} complete, {len(shown) - complete} not, {total} in {features_folder()}")
    if left := [entry for entry in everything if entry.state == "left over"]:
        size = as_bytes(sum(entry.size for entry in left))
        put(f"{size} left over by processes that were killed; `python -m features remove --partial` deletes them")
    for entry in shown:
        if is_verbose() and entry.record is not None:
            put(f"{entry.paths[0]}: key {entry.record.key.digest}")
        if entry.fault:
            put(entry.fault)
    return 0


def _cells(entry: Entry, called: Counter[str]) -> list[str]:
    """A row of the table; called: how many data sets bear each name, since those of one name have to be told apart."""
    size, digits = as_bytes(entry.size), entry.digits[:8]
    if entry.record is None:
        return [printable(entry.stem), *[""] * 8, size, "damaged", digits]
    key, about = entry.record.key, entry.record.about
    state = "complete" if entry.state == "complete" else f"{int(100 * entry.share)} %"
    if isinstance(entry.record, ShardedFile):
        state = f"complete, {len(entry.record.layout.shards)} shards"
    layer = about.layer_name if about.layer_name == key.layer else f"{about.layer_name} ({key.layer})"
    dataset = f"{about.dataset_name} ({key.dataset[:8]})" if called[about.dataset_name] > 1 else about.dataset_name
    names = (dataset, key.split, key.backbone, about.weights_name, layer, key.pool)
    precision = key.precision if key.dtype == "float32" else f"{key.precision}, stored as {key.dtype}"
    width = " x ".join(f"{length:,}" for length in entry.record.shape)
    return [*map(printable, names), str(key.image_size), precision, width, size, state, digits]


def _verify(options: argparse.Namespace) -> int:
    chosen = [entry for entry in _named(options.names) if entry.state in ("complete", "damaged")]
    damaged = 0
    for entry in chosen:
        try:
            if not isinstance(entry.record, FeatureFile):
                raise CacheError(entry.fault)
            entry.record.verify()
            say(f"sound    {entry.paths[0].name} ({as_bytes(entry.size)})")
        except (CacheError, OSError) as error:
            damaged += 1
            put(f"DAMAGED  {error}")
    say(f"{len(chosen) - damaged} of {len(chosen)} files are sound")
    return 1 if damaged else 0


def _remove(options: argparse.Namespace) -> int:
    if not (options.names or options.dataset or options.layer or options.partial or options.all):
        raise UserError("say what to remove: names from `python -m features`, --dataset, --layer, --partial or --all")
    if options.all and (options.names or options.dataset or options.layer or options.partial):
        raise UserError("--all removes everything and takes neither names nor --dataset, --layer or --partial")
    chosen = _named(options.names)
    if options.partial:
        chosen = [entry for entry in chosen if entry.unfinished]
    if options.layer:
        chosen = [
            entry
            for entry in chosen
            if entry.record and options.layer in (entry.record.about.layer_name, entry.record.key.layer)
        ]
    if options.dataset:
        chosen = _of_data_set(chosen, options.dataset)
    return _delete(chosen)


def _delete(chosen: Sequence[Entry]) -> int:
    total = 0
    for entry in chosen:
        size = remove(entry)
        total += size
        say(f"removed {entry.stem} ({entry.state}, {as_bytes(size)})")
    say(f"{len(chosen)} removed, {as_bytes(total)} freed" if chosen else "nothing in the cache answers to that")
    return 0


def _prune(options: argparse.Namespace) -> int:
    if options.older_than is None and options.larger_than is None:
        raise UserError("say what to delete: --older-than AGE, --larger-than SIZE or both; --dry-run deletes nothing")
    before = math.inf if options.older_than is None else time.time() - options.older_than
    chosen = [entry for entry in entries() if _written(entry) <= before and entry.size > (options.larger_than or 0)]
    if not options.dry_run:
        return _delete(chosen)
    for entry in chosen:
        day = time.strftime("%Y-%m-%d", time.localtime(_written(entry)))
        put(f"would remove {entry.stem} ({entry.state}, {as_bytes(entry.size)}, of {day})")
    say(f"{len(chosen)} would be removed, {as_bytes(sum(entry.size for entry in chosen))} freed")
    return 0


def _written(entry: Entry) -> float:
    """When a file of it was last written; seconds since 1970. (When it was last read a listing would change.)"""
    times = [0.0]
    for path in entry.paths:
        with contextlib.suppress(OSError):
            times.append(path.lstat().st_mtime)
    return max(times)


def _accept(options: argparse.Namespace) -> int:
    for name in options.names:
        put(f"accepted {name}: SHA-256 {accept(name)}")
    return 0


def _compact(options: argparse.Namespace) -> int:
    records = [entry.record for entry in _named(options.names)]
    sharded = [record for record in records if isinstance(record, ShardedFile)]
    for record in sharded:
        count = len(record.layout.shards)
        whole = compact(record)
        put(f"compacted {whole.path.name}: one file of {count} shards, {as_bytes(whole.size)}")
    if not sharded:
        put("nothing here has shards")
    return 0


def _of_data_set(chosen: Sequence[Entry], dataset: str) -> list[Entry]:
    """Those of one data set: of a name as listed, of the first digits of a digest, or of what stands in a place.

    UserError for a name that several data sets bear.
    """
    read = [(entry, entry.record.about.dataset_name, entry.record.key.dataset) for entry in chosen if entry.record]
    if named := [(entry, digest) for entry, name, digest in read if name == dataset]:
        digests = sorted({digest for _, digest in named})
        if len(digests) > 1:
            places = {digest: place for place, digest in known_digests().items()}
            listed = [f"{digest[:8]} ({places.get(digest, 'its place is not known')})" for digest in digests]
            raise UserError(
                f"--dataset {dataset}: the cache holds {len(digests)} data sets of that name, {', '.join(listed)}; say "
                f"which by its digits, as in --dataset {digests[0][:8]}, or by its place, as in folder:PATH"
            )
        return [entry for entry, _ in named]
    if re.fullmatch("[0-9a-f]{6,64}", dataset):
        return [entry for entry, _, digest in read if digest.startswith(dataset)]
    standing = _digest_of(dataset) if ":" in dataset else None
    return [entry for entry, _, digest in read if digest == standing]


def _digest_of(place: str) -> str:
    """The digest of what stands in a place, or stood there when it was last used: images may go before features do."""
    place = absolute_spec(place)
    try:
        return open_dataset(place).fingerprint()
    except UserError:
        if (digest := known_digests().get(place)) is None:
            raise
        return digest


def _named(names: Sequence[str]) -> list[Entry]:
    """The entries that the names mean, each once, or all without a name; UserError for a name that means none."""
    everything = entries()
    if not names:
        return everything
    chosen = {}
    for name in names:
        matching = [entry for entry in everything if _answers_to(entry, name)]
        if not matching:
            raise UserError(f"the cache holds nothing called {name!r}; `python -m features` lists what it holds")
        if len(stems := sorted({entry.stem for entry in matching})) > 1:
            raise UserError(f"{name!r} means {len(stems)} files: {', '.join(stems)}; give more digits of the one meant")
        chosen.update({entry.paths: entry for entry in matching})
    return list(chosen.values())


def _answers_to(entry: Entry, name: str) -> bool:
    path = Path(name)
    if path.name != name:
        # A whole path, as messages give it: right only if it leads into the cache's own folder.
        if path.absolute().parent.resolve() != features_folder().resolve():
            return False
        name = path.name
    by_digits = len(name) >= 4 and entry.digits.startswith(name)
    return by_digits or name in (entry.stem, f"{entry.stem}.h5") or any(name == path.name for path in entry.paths)
