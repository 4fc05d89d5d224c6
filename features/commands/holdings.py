"""What `python -m features` does: list, verify, remove and compact what the cache holds, accept what changed."""

import argparse
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

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


def run_verb(options: argparse.Namespace) -> int:
    """Do what the options say; 1 if verification found damage."""
    verbs = {"verify": _verify, "remove": _remove, "compact": _compact, "accept": _accept}
    return verbs[options.verb](options) if options.verb in verbs else _list()


def _list() -> int:
    from rich.console import Console
    from rich.table import Table

    everything = entries()
    shown = [entry for entry in everything if entry.state != "left over"]
    if not everything:
        say(f"the cache in {features_folder()} is empty; `python -m extract` fills it")
        return 0
    if is_quiet():
        # For other programs: one name a line.
        put("\n".join(path.name for entry in shown for path in entry.paths[:1]))
        return 0
    console = Console()
    if not console.is_terminal:
        console = Console(width=240)
    headings = ("data set", "split", "backbone", "weights", "layer", "pool", "px", "precision", "rows x width")
    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    table.add_column("size", justify="right")
    table.add_column("state")
    table.add_column("name")
    data_sets = {(entry.record.about.dataset_name, entry.record.key.dataset) for entry in shown if entry.record}
    called = Counter(name for name, _ in data_sets)
    for entry in shown:
        table.add_row(*_cells(entry, called))
    console.print(table)
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
    from rich.markup import escape

    size, digits = as_bytes(entry.size), entry.digits[:8]
    if entry.record is None:
        return [escape(printable(entry.stem)), *[""] * 8, size, "damaged", digits]
    key, about = entry.record.key, entry.record.about
    state = "complete" if entry.state == "complete" else f"{int(100 * entry.share)} %"
    if isinstance(entry.record, ShardedFile):
        state = f"complete, {len(entry.record.layout.shards)} shards"
    layer = about.layer_name if about.layer_name == key.layer else f"{about.layer_name} ({key.layer})"
    dataset = f"{about.dataset_name} ({key.dataset[:8]})" if called[about.dataset_name] > 1 else about.dataset_name
    names = (dataset, key.split, key.backbone, about.weights_name, layer, key.pool)
    precision = key.precision if key.dtype == "float32" else f"{key.precision}, stored as {key.dtype}"
    width = " x ".join(f"{length:,}" for length in entry.record.shape)
    return [*(escape(printable(name)) for name in names), str(key.image_size), precision, width, size, state, digits]


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
    total = 0
    for entry in chosen:
        size = remove(entry)
        total += size
        say(f"removed {entry.stem} ({entry.state}, {as_bytes(size)})")
    say(f"{len(chosen)} removed, {as_bytes(total)} freed" if chosen else "nothing in the cache answers to that")
    return 0


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
