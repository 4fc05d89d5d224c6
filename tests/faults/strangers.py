"""What strangers hand in: nothing of it runs, and nothing that is not theirs is opened, written over or lost."""

import contextlib
import gzip
import io
import json
import os
import pickle
import resource
import signal
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import joblib
import numpy as np
from PIL import Image

from classify.experiments import waiting
from classify.heads import HEADS
from classify.measure.kept_heads import in_skops_format
from classify.measure.metrics import measure
from classify.measure.results import Predictions, Result, load_results, sealed
from classify.measure.saving import save_result
from classify.show.report.folder import read_folder
from classify.show.report.images import open_images
from classify.use.saved import load_model
from features.datasets.idx import read_idx
from features.datasets.images import read_image
from features.digests import sha256_file
from features.errors import UserError
from features.store import FeatureFile
from features.store.locks import lock_digest
from features.store.naming import CacheError
from features.written import text_written
from tests.faults.bench import EXTRACT, LATER, Bench, features_of
from tests.faults.tally import Tally, fault

_MARK = "somebody-was-let-in"


class Malice:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


def _fitted() -> tuple:
    features = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    labels = np.arange(40) % 2
    return HEADS["ridge"].build().fit(features, labels), labels


def _saved(place: Path, number: int = 0, **extra) -> object:
    head, labels = _fitted()
    result = Result({"dataset": "x", "head": "ridge"}, measure(labels, labels), command=f"run {number}", **extra)
    return save_result(place / "results", result, Predictions(np.arange(40), labels, labels), head)


def _resealed(saved, change: Callable[[dict], None]):
    record = json.loads(saved.path.read_text())
    change(record)
    saved.path.write_text(json.dumps(sealed(record)))
    return load_results(saved.path.parent)[0]


def _waiting_pickle(place: Path) -> None:
    packed = pickle.dumps(Malice(place / _MARK))
    path = place / "home" / "row.fitted"
    path.write_bytes(b"layerprobe fitted 3\n" + waiting.hashlib.sha256(packed).digest() + packed)
    waiting.read(path)


def _sealed_pickle(place: Path) -> None:
    saved = _saved(place)
    joblib.dump(Malice(place / _MARK), saved.head_path)

    def change(record: dict) -> None:
        record["files"] = {**record["files"], "head": sha256_file(saved.head_path, fresh=True)}
        del record["files"]["skops"]

    _resealed(saved, change).load_head()


def _crafted_skops(place: Path) -> None:
    saved, whole = _saved(place), in_skops_format(_fitted()[0])
    foreign = ("os.system", "builtins.exec", "subprocess.Popen", "joblib.load", "pickle.loads", "numpy.load")
    loaders = ("FunctionNode", "MethodNode", "ReduceNode", "OperatorFuncNode", "TypeNode")
    crafted = [{"__class__": name.rpartition(".")[2], "__module__": name.rpartition(".")[0]} for name in foreign]
    crafted += [{**crafted[0], "__loader__": loader} for loader in loaders]
    for changes in crafted:
        altered = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(altered, "w") as new:
            for entry in old.namelist():
                schema = json.loads(old.read(entry)) if entry == "schema.json" else None
                new.writestr(entry, json.dumps({**schema, **changes}) if schema else old.read(entry))
        saved.skops_path.write_bytes(altered.getvalue())
        digest = sha256_file(saved.skops_path, fresh=True)
        with contextlib.suppress(UserError):
            head = _resealed(saved, lambda record, digest=digest: record["files"].update(skops=digest)).load_head(True)
            if not type(head).__module__.startswith("classify.heads."):
                (place / _MARK).mkdir(exist_ok=True)


def _private_files(place: Path) -> None:
    (place / "private.csv").write_text("first-cell-of-a-private-table,1\n")
    _saved(place, extra={"places": {"dataset": f"csv:{place / 'private.csv'}"}})
    told = open_images(read_folder(place / "results")[0])
    if not isinstance(told, str) or "first-cell" in told:
        (place / _MARK).mkdir()


def _document(place: Path) -> None:
    (place / "photo.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    )
    read_image(place / "photo.png")
    (place / _MARK).mkdir()


def _links(place: Path) -> None:
    precious = place / "precious"
    precious.write_text("precious")
    for name in (".abc.lock", "out.csv"):
        (place / name).symlink_to(precious)
    with contextlib.suppress(OSError, UserError), lock_digest("abc", wait=True, folder=place):
        pass
    with text_written(place / "out.csv") as stream:
        stream.write("mine")
    if precious.read_text() != "precious":
        (place / _MARK).mkdir()


def _linked_cache(place: Path) -> None:
    secret = place / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["features"] = np.arange(10.0)
    path = place / "mnist-train-resnet18-avgpool-avg-0123456789abcdef.h5"
    with h5py.File(path, "w") as file:
        file["features"] = h5py.ExternalLink(str(secret), "features")
        layout = h5py.VirtualLayout((10,), "f8")
        layout[:] = h5py.VirtualSource(str(secret), "features", (10,))
        file.create_virtual_dataset("labels", layout)
    FeatureFile.open(path).features()
    (place / _MARK).mkdir()


def _bombs(place: Path) -> None:
    white = Image.new("1", (20_000, 20_000), 1)
    for form in ("TIFF", "GIF", "PNG"):
        path = place / f"bomb.{form.lower()}"
        options = {"compression": "group4"} if form == "TIFF" else {}
        small = white if form != "GIF" else Image.new("L", (12_000, 12_000))
        small.save(path, form, **options)
        with contextlib.suppress(UserError):
            read_image(path)
            (place / _MARK).mkdir(exist_ok=True)
    packed = gzip.compress(struct.pack(">HBB1I", 0, 8, 1, (1 << 32) - 1) + bytes(1 << 20)) * 300
    (place / "images.gz").write_bytes(packed)
    read_idx(place / "images.gz")
    (place / _MARK).mkdir(exist_ok=True)


_ATTACKS = (
    _waiting_pickle, _sealed_pickle, _crafted_skops, _private_files, _document, _links, _linked_cache, _bombs,
)  # fmt: skip


@fault(
    "what strangers hand in: planted pickles, crafted heads, records, documents, links, caches, bombs", short=8, long=48
)
def strangers(bench: Bench, tally: Tally, count: int) -> None:
    for number in range(count):
        attack, place = _ATTACKS[number % len(_ATTACKS)], bench.place("stranger")

        def act(attack: Callable[[Path], None] = attack, place: Path = place) -> str:
            resource.setrlimit(resource.RLIMIT_AS, (12 << 30, resource.RLIM_INFINITY))
            with contextlib.suppress(UserError, CacheError):
                attack(place)
            return "let in" if (place / _MARK).exists() else ""

        try:
            told = bench.call(place, act)
        except RuntimeError as error:
            told = str(error)[-300:]
        tally.count(told and f"{attack.__name__}: {told}")
        if told == "let in":
            tally.let_in += 1


@fault("kill -9 while a result replaces an earlier one", short=6, long=60)
def replaced(bench: Bench, tally: Tally, count: int) -> None:
    place = bench.place("replaced")
    _saved(place, 0)
    started = time.monotonic()
    _saved(place, 0)
    seconds = time.monotonic() - started
    for number in range(1, count + 1):
        process = bench._fork(place, lambda number=number: _saved(place, number) and 0)
        time.sleep(bench.random.uniform(0, 3 * seconds))
        process.send(signal.SIGKILL)
        process.wait()
        try:
            (saved,) = load_results(place / "results")
            saved.predictions()
            saved.load_head()
            tally.count("")
        except (UserError, ValueError) as error:
            tally.count(f"after kill {number}: {error}")


@fault("six processes extract overlapping layers in one home, while verify, remove and compact run", short=1, long=6)
def crowded(bench: Bench, tally: Tally, count: int) -> None:
    for _ in range(count):
        place = bench.place("crowded")
        requests = [EXTRACT, (*EXTRACT[:-2], LATER), (*EXTRACT, "--pool", "max")] * 2
        running = [bench.start(place, "extract", *request) for request in requests]
        busy = [
            bench.run(place, "features", *words)
            for words in (("verify",), ("compact",), ("remove", "--partial"), ("verify",))
        ]
        losses = [f"extract: {process.complained[-200:]}" for process in running if process.wait()]
        losses += [f"features: {process.complained[-200:]}" for process in busy if "Traceback" in process.complained]
        last = bench.run(place, "features", "verify")
        losses += [f"verify: {last.said[-200:]}"] if last.status else []
        found = features_of(place)
        losses += [f"{name} differs" for name, digest in bench.extracted.content.items() if found.get(name) != digest]
        tally.count(losses)


def _held() -> Iterator[int]:
    yield len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    yield int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@fault("memory and descriptors over many openings of one model", short=10, long=500)
def opened_often(bench: Bench, tally: Tally, count: int) -> None:
    if not Path("/proc/self/statm").exists():
        tally.skipped = "needs /proc"
        return
    place = bench.place("opened")
    bench.run(place, "classify", *EXTRACT, "--model", "ridge")

    def act() -> tuple[list[int], list[int]]:
        for _ in range(5):
            load_model("results", device="cpu")
        before = list(_held())
        for _ in range(count):
            load_model("results", device="cpu")
        return before, list(_held())

    before, after = bench.call(place, act)
    grown = (after[1] - before[1]) / 1e6
    tally.remarks.append(f"{after[0] - before[0]} descriptors and {grown:.1f} MB more after {count} openings")
    for _ in range(count):
        tally.count("it leaks" if after[0] > before[0] or grown > 100 else "")
