"""What strangers hand in: nothing of it runs, and nothing that is not theirs is opened, written over or lost."""

import contextlib
import functools
import gzip
import hashlib
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
from tests.faults.bench import EXTRACT, LATER, Bench, differences, one_line
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


def attack(told: str, *, long: int) -> Callable:
    """Register what a stranger does, `function(place, number)` for the number of the attempt, as a fault: he is let in
    where it leaves a mark, and anything but an end, or an error that a command makes a line of, is a loss."""

    def register(function: Callable[[Path, int], None]) -> Callable:
        @functools.wraps(function)
        def run(bench: Bench, tally: Tally, count: int) -> None:
            for number in range(count):
                place = bench.place("stranger")

                def act(place: Path = place, number: int = number) -> str:
                    resource.setrlimit(resource.RLIMIT_AS, (12 << 30, resource.RLIM_INFINITY))
                    with contextlib.suppress(UserError, CacheError):
                        function(place, number)
                    return "let in" if (place / _MARK).exists() else ""

                try:
                    told = bench.call(place, act)
                except RuntimeError as error:
                    told = str(error)[-300:]
                tally.count(told)
                tally.let_in += told == "let in"

        return fault(told, short=1, long=long)(run)

    return register


@attack("a planted pickle that waits for its test in the home", long=10)
def waiting_pickle(place: Path, number: int) -> None:
    packed = pickle.dumps(Malice(place / _MARK))
    path = place / "home" / "row.fitted"
    path.write_bytes(b"layerprobe fitted 3\n" + hashlib.sha256(packed).digest() + packed)
    waiting.read(path)


@attack("a planted pickle that its own record seals", long=10)
def sealed_pickle(place: Path, number: int) -> None:
    saved = _saved(place)
    joblib.dump(Malice(place / _MARK), saved.head_path)

    def change(record: dict) -> None:
        record["files"] = {**record["files"], "head": sha256_file(saved.head_path, fresh=True)}
        del record["files"]["skops"]

    _resealed(saved, change).load_head()


_FOREIGN = ("os.system", "builtins.exec", "builtins.eval", "subprocess.Popen", "joblib.load", "pickle.loads",
            "numpy.load", "torch.load", "classify.heads.os", "features.home.Path", "sys.exit")  # fmt: skip
_LOADERS = ("", "FunctionNode", "MethodNode", "ReduceNode", "OperatorFuncNode", "TypeNode", "PartialNode", "CachedNode")


@attack("skops files with types and functions of others, each under each loader", long=len(_FOREIGN) * len(_LOADERS))
def crafted_skops(place: Path, number: int) -> None:
    saved, whole = _saved(place), in_skops_format(_fitted()[0])
    name, loader = _FOREIGN[number % len(_FOREIGN)], _LOADERS[number // len(_FOREIGN) % len(_LOADERS)]
    changes = {"__class__": name.rpartition(".")[2], "__module__": name.rpartition(".")[0]}
    changes |= {"__loader__": loader} if loader else {}
    altered = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(altered, "w") as new:
        for entry in old.namelist():
            schema = json.loads(old.read(entry)) if entry == "schema.json" else None
            new.writestr(entry, json.dumps({**schema, **changes}) if schema else old.read(entry))
    saved.skops_path.write_bytes(altered.getvalue())
    digest = sha256_file(saved.skops_path, fresh=True)
    head = _resealed(saved, lambda record: record["files"].update(skops=digest)).load_head(True)
    if not type(head).__module__.startswith("classify.heads."):
        (place / _MARK).mkdir(exist_ok=True)


@attack("a record that names private files", long=10)
def private_files(place: Path, number: int) -> None:
    (place / "private.csv").write_text("first-cell-of-a-private-table,1\n")
    _saved(place, extra={"places": {"dataset": f"csv:{place / 'private.csv'}"}})
    told = open_images(read_folder(place / "results")[0])
    if not isinstance(told, str) or "first-cell" in told:
        (place / _MARK).mkdir()


_DOCUMENTS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n",
    b"\xc5\xd0\xd3\xc6" + struct.pack("<IIIIII", 30, 80, 0, 0, 0, 0) + b"\xff\xff" + b"%!PS-Adobe-3.0 EPSF-3.0\n" * 4,
    b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF\n",
    b"\xd7\xcd\xc6\x9a\0\0" + bytes(16) + b"\1\0\t\0\0\3" + bytes(40),
    b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(60),
    b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
)


@attack("documents and drawings under an image's name", long=5 * len(_DOCUMENTS))
def documents(place: Path, number: int) -> None:
    (place / "photo.png").write_bytes(_DOCUMENTS[number % len(_DOCUMENTS)])
    read_image(place / "photo.png")
    (place / _MARK).mkdir()


@attack("a link in the place of an output or a lock", long=20)
def links(place: Path, number: int) -> None:
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


@attack("caches of HDF5's that refer to other files: external links, virtual data sets", long=20)
def linked_cache(place: Path, number: int) -> None:
    secret = place / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["features"] = np.arange(10.0)
    path = place / "mnist-train-resnet18-avgpool-avg-0123456789abcdef.h5"
    layout = h5py.VirtualLayout((10,), "f8")
    layout[:] = h5py.VirtualSource(str(secret), "features", (10,))
    with h5py.File(path, "w") as file:
        for name, linked in (("features", number % 2), ("labels", number % 3), ("index", 1)):
            if linked:
                file[name] = h5py.ExternalLink(str(secret), "features")
            else:
                file.create_virtual_dataset(name, layout)
    FeatureFile.open(path).features()
    (place / _MARK).mkdir()


def _png_bomb(side: int) -> bytes:
    return _bytes_of(Image.new("1", (side, side), 1), "PNG")


def _icon_bomb(side: int) -> bytes:
    """An icon that says it is small, and holds a picture that is not."""
    inner = _png_bomb(side)
    head = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inner), 22)
    return head + inner


def _webp_bomb(side: int, frames: int) -> bytes:
    """Small frames on a canvas of any size."""
    small = [Image.new("RGB", (16, 16), (number % 256, 0, 0)) for number in range(frames)]
    data = bytearray(_bytes_of(small[0], "WEBP", save_all=True, append_images=small[1:], lossless=True))
    at = data.index(b"VP8X") + 12
    data[at : at + 6] = (side - 1).to_bytes(3, "little") * 2
    return bytes(data)


def _bytes_of(image: Image.Image, form: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


_BOMBS = {
    "PNG": lambda: _png_bomb(20_000),
    "TIFF": lambda: _bytes_of(Image.new("1", (20_000, 20_000), 1), "TIFF", compression="group4"),
    "GIF": lambda: _bytes_of(Image.new("L", (12_000, 12_000)), "GIF"),
    "WebP, 2 frames": lambda: _webp_bomb(12_000, 2),
    "WebP, 60 frames": lambda: _webp_bomb(60_000, 60),
    "icon": lambda: _icon_bomb(13_000),
    "gz": lambda: gzip.compress(struct.pack(">HBB1I", 0, 8, 1, (1 << 32) - 1) + bytes(1 << 20)) * 300,
}


@attack(f"bombs: {', '.join(_BOMBS)}", long=5 * len(_BOMBS))
def bombs(place: Path, number: int) -> None:
    form = list(_BOMBS)[number % len(_BOMBS)]
    path = place / ("images.gz" if form == "gz" else "bomb.png")
    path.write_bytes(_BOMBS[form]())
    resource.setrlimit(resource.RLIMIT_AS, (_in_use() + (3 << 30), resource.RLIM_INFINITY))
    (read_idx if form == "gz" else read_image)(path)
    (place / _MARK).mkdir(exist_ok=True)


def _in_use() -> int:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[0]) * resource.getpagesize() if statm.exists() else 9 << 30


@fault("links planted in a sticky, world-writable home, under the names of its files", short=1, long=40)
def planted_links(bench: Bench, tally: Tally, count: int) -> None:
    known = bench.place("unplanted")
    commands = (("extract", EXTRACT), ("classify", (*EXTRACT, "--model", "ridge", "--no-search")))
    for verb, arguments in commands:
        bench.run(known, verb, *arguments)
    names = [path.relative_to(known) for path in known.rglob("*") if path.is_file()]
    caches = [name for name in names if name.suffix == ".h5"]
    names += [name.with_name(f"{name.name}.{ending}") for name in caches for ending in ("partial", "progress.json")]
    names += [name.with_name(f".{name.stem.rpartition('-')[2]}.lock") for name in caches]
    refused = 0
    for number in range(count):
        place = bench.place("planted")
        precious, absent = place / "precious", place / "absent"
        precious.write_text("precious")
        (place / "home").chmod(0o1777)
        for name in {names[number % len(names)], bench.random.choice(names)}:
            link = place / name
            for folder in reversed([link.parent, *link.parent.parents]):
                if not folder.exists():
                    folder.mkdir()
                    folder.chmod(0o1777)
            link.symlink_to(bench.random.choice((precious, absent)))
            if number % 2 and os.geteuid() == 0:
                os.chown(link, 65534, 65534, follow_symlinks=False)
        losses = []
        for verb, arguments in commands:
            process = bench.run(place, verb, *arguments)
            losses.append(one_line(process, "error: ") if process.status else "")
            refused += process.status == 2
        losses.append("" if precious.read_text() == "precious" else "a file elsewhere was written over")
        losses.append("a file elsewhere was made" if absent.exists() else "")
        tally.count(losses)
    tally.remarks.append(f"{refused} of {2 * count} commands were refused; the others ended as ever")


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
    requests = [EXTRACT, (*EXTRACT[:-2], LATER), (*EXTRACT, "--pool", "max")]
    quiet = bench.place("quiet")
    for request in requests:
        bench.run(quiet, "extract", *request)
    expected = _numbers_of(quiet)
    for _ in range(count):
        place = bench.place("crowded")
        running = [bench.start(place, "extract", *request) for request in requests * 2]
        busy = [
            bench.run(place, "features", *words)
            for words in (("verify",), ("compact",), ("remove", "--partial"), ("verify",))
        ]
        losses = [f"extract: {process.complained[-200:]}" for process in running if process.wait()]
        losses += [f"features: {process.complained[-200:]}" for process in busy if "Traceback" in process.complained]
        last = bench.run(place, "features", "verify")
        losses += [f"verify: {last.said[-200:]}"] if last.status else []
        losses.append(differences(expected, _numbers_of(place)))
        tally.count(losses)


def _numbers_of(place: Path) -> dict[str, str]:
    """The SHA-256 of the features, labels and row numbers of every file of the cache in a place: which requests a pass
    served stands beside them, and that depends on who comes first."""
    digests = {}
    for path in (place / "home" / "features").glob("*.h5"):
        with h5py.File(path) as file:
            content = b"".join(file[name][()].tobytes() for name in ("features", "labels", "index"))
        digests[path.name] = hashlib.sha256(content).hexdigest()
    return digests


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
