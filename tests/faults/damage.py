"""Bytes that turn over and files that are cut short: what changes a value is found and named."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import UserError
from tests.faults.bench import EXTRACT, NETWORK, TRAIN_SMALL, Bench, Process, features_of, flip, one_line
from tests.faults.tally import Tally, fault

_MARKS = (".h5", ".npz", ".pth", ".safetensors", "idx", ".joblib", ".json")
# Half of the places in the first part of a file, where its structure is described.
_HEAD = 4096


def npz_of_digits(path: Path) -> np.ndarray:
    """Write a data set of digits, all ten of them on both sides; the training images (40, 8, 8)."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    images = np.round(loaded.images[:60] * 15).astype(np.uint8)
    np.savez(path, x_train=images[20:], y_train=loaded.target[20:60], x_test=images[:20], y_test=loaded.target[:20])
    return images[20:]


def idx_of_digits(folder: Path) -> list[Path]:
    """Write the digits in MNIST's files below a root; their paths."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    images, labels = np.round(loaded.images[:60] * 15).astype(np.uint8), loaded.target[:60].astype(np.uint8)
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    paths = []
    for split, rows in (("train", slice(20, 60)), ("t10k", slice(0, 20))):
        for kind, array in (("images-idx3", images[rows]), ("labels-idx1", labels[rows])):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            path = raw / f"{split}-{kind}-ubyte"
            path.write_bytes(header + array.tobytes())
            paths.append(path)
    return paths


def saved_weights(path: Path) -> None:
    """Write a state dict, as torch or safetensors does."""
    import torch
    from safetensors.torch import save_file

    from features.architectures import build_model

    torch.manual_seed(1)
    state = build_model(NETWORK[-1], classes=4).state_dict()
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)


@fault("one bit of the cache turned over", short=3, long=200)
def flips_in_the_cache(bench: Bench, tally: Tally, count: int) -> None:
    place = bench.place("cache")
    bench.run(place, "extract", *EXTRACT)
    files = sorted((place / "home" / "features").glob("*.h5"))
    head = (*EXTRACT, "--model", "ridge", "--no-search", "--again")
    sound = bench.run(place, "classify", *head).said.splitlines()
    for number in range(count):
        path = files[number % len(files)]
        whole = path.read_bytes()
        at = _anywhere(bench, len(whole), number)
        flip(path, at, bench.random.randrange(8))
        found = bench.run(place, "features", "verify")
        losses = ["" if found.status == 1 and path.name in found.said else f"not found: byte {at} of {path.name}"]
        if number % 20 == 0:
            process = bench.run(place, "classify", *head)
            same = process.status == 0 and _accuracies(process.said.splitlines()) == _accuracies(sound)
            refused = process.status == 2 and path.name in process.complained and not one_line(process, "error: ")
            losses.append("" if same or refused else f"computed from byte {at} of {path.name}: {process.complained}")
        path.write_bytes(whole)
        tally.count(losses)


@fault("one bit of a file of weights (.pth) turned over", short=2, long=200)
def flips_in_pth(bench: Bench, tally: Tally, count: int) -> None:
    _flips_in_weights(bench, tally, count, "net.pth")


@fault("one bit of a file of weights (.safetensors) turned over", short=2, long=200)
def flips_in_safetensors(bench: Bench, tally: Tally, count: int) -> None:
    _flips_in_weights(bench, tally, count, "net.safetensors")


def _flips_in_weights(bench: Bench, tally: Tally, count: int, name: str) -> None:
    place = bench.place("weights")
    path = place / name
    bench.call(place, lambda: saved_weights(path))
    command = ("--dataset", "digits", "--weights", str(path), *NETWORK[4:], "--limit", "20", "--limit-test", "10")
    _changed(bench, tally, count, place, [path], command)


@fault("one bit of a data set (IDX, npz) turned over", short=2, long=200)
def flips_in_data(bench: Bench, tally: Tally, count: int) -> None:
    place = bench.place("data")
    npz = place / "data.npz"
    npz_of_digits(npz)
    _changed(bench, tally, count // 2, place, [npz], ("--dataset", f"npz:{npz}", *NETWORK[2:]))
    paths = idx_of_digits(place / "root")
    command = ("--dataset", f"mnist:{place / 'root'}", *NETWORK[2:])
    _changed(bench, tally, count - count // 2, place, paths, command)


def _changed(bench: Bench, tally: Tally, count: int, place: Path, paths: list[Path], command: tuple[str, ...]) -> None:
    """Turn bits over in files that a run read before: it stops and names one, or has nothing to compute."""
    first = bench.run(place, "extract", *command)
    if first.status:
        raise RuntimeError(first.complained)
    made, harmless = features_of(place), 0
    for number in range(count):
        path = paths[number % len(paths)]
        whole = path.read_bytes()
        at = _anywhere(bench, len(whole), number)
        flip(path, at, bench.random.randrange(8))
        process = bench.run(place, "extract", *command)
        tally.count(_refused_or_same(process, made, place, f"byte {at} of {path.name}"))
        harmless += process.status == 0
        path.write_bytes(whole)
    tally.remarks.append(f"{harmless} of {count} changed no value: the run gave the same key and used the cache")


@fault("one bit of a saved head or network turned over", short=3, long=200)
def flips_in_heads(bench: Bench, tally: Tally, count: int) -> None:
    place = bench.place("heads")
    paths, answers = _saved_heads(bench, place)
    harmless = 0
    for number in range(count):
        path = paths[number % len(paths)]
        whole = path.read_bytes()
        at = _anywhere(bench, len(whole), number)
        flip(path, at, bench.random.randrange(8))
        lost, refused = _answers_or_refusal(bench, place, path, answers)
        tally.count(f"byte {at} of {path.name}: {lost}" if lost else "")
        harmless += not refused
        path.write_bytes(whole)
    tally.remarks.append(f"{harmless} changed no value")


@fault("a saved head, network, record or predictions cut short", short=3, long=250)
def heads_cut_short(bench: Bench, tally: Tally, count: int) -> None:
    place = bench.place("short-heads")
    paths, answers = _saved_heads(bench, place)
    for number in range(count):
        path = paths[number % len(paths)]
        whole = path.read_bytes()
        length = _shorter(bench, len(whole))
        path.write_bytes(whole[:length])
        lost, _ = _answers_or_refusal(bench, place, path, answers)
        tally.count(f"{path.name} cut to {length}: {lost}" if lost else "")
        path.write_bytes(whole)


def _saved_heads(bench: Bench, place: Path) -> tuple[list[Path], dict[str, Any]]:
    """Train two heads and a network; the files that they leave, and what they answer."""
    bench.run(place, "classify", *EXTRACT, "--model", "ridge", "knn")
    bench.run(place, "classify", *TRAIN_SMALL)
    paths = [path for path in sorted((place / "results").rglob("*")) if path.is_file()]
    return paths, bench.call(place, lambda: _load_all(place))


def _answers_or_refusal(bench: Bench, place: Path, path: Path, answers: dict[str, Any]) -> tuple[str, list[str]]:
    """What is lost unless, read anew, everything answers as before or is refused by the name of what was hit."""
    told = bench.call(place, lambda: _load_all(place))
    stem = path.parent.name if path.parent.name != "results" else path.stem
    refused = [text for text in told.values() if isinstance(text, str)]
    fine = all(value == answers.get(name) for name, value in told.items() if not isinstance(value, str))
    named = any(stem in text for text in refused)
    return ("" if fine and (named or told == answers) else f"{refused or 'not seen'}"), refused


def _load_all(place: Path) -> dict[str, Any]:
    """Every record's numbers and what its head answers, or the complaint."""
    from classify.measure.results import load_results
    from classify.use.saved import load_network

    try:
        found = load_results(place / "results")
    except UserError as error:
        return {"record": str(error)}
    told: dict[str, Any] = {}
    for saved in found:
        name = saved.path.stem
        told[name] = saved.result.to_json()
        for what, ask in _questions(saved, load_network).items():
            try:
                told[f"{name} {what}"] = ask()
            except UserError as error:
                told[f"{name} {what}"] = str(error)
    return told


def _questions(saved: Any, load_network: Callable) -> dict[str, Callable[[], bytes]]:
    questions = {"predictions": lambda: [saved.predictions().predicted.tolist()]}
    if saved.head_path is not None:
        width = saved.result.extra["features"]
        grid = np.linspace(-1, 1, 3 * width, dtype=np.float32).reshape(3, width)
        questions["head"] = lambda: [saved.load_head().predict(grid).tolist()]
    elif "network_sha256" in saved.result.extra:
        image = np.arange(128, dtype=np.uint8).reshape(2, 8, 8)
        questions["network"] = lambda: [load_network(saved, "cpu").decision_function(image).tolist()]
    return questions


@fault("files cut short: cache, weights, data", short=5, long=250)
def cut_short(bench: Bench, tally: Tally, count: int) -> None:
    place = bench.place("cut")
    jobs = []
    for name in ("net.pth", "net.safetensors"):
        path = place / name
        bench.call(place, lambda path=path: saved_weights(path))
        jobs.append(
            (path, ("--dataset", "digits", "--weights", str(path), *NETWORK[4:], "--limit", "20", "--limit-test", "9"))
        )
    npz_of_digits(place / "data.npz")
    jobs.append((place / "data.npz", ("--dataset", f"npz:{place / 'data.npz'}", *NETWORK[2:])))
    images = idx_of_digits(place / "root")[0]
    jobs.append((images, ("--dataset", f"mnist:{place / 'root'}", *NETWORK[2:])))
    for path, command in jobs:
        if (first := bench.run(place, "extract", *command)).status:
            raise RuntimeError(f"{path}: {first.complained}")
    made = features_of(place)
    cached = sorted((place / "home" / "features").glob("*digits*train*.h5"))[0]
    jobs.append((cached, jobs[0][1]))
    for number in range(count):
        path, command = jobs[number % len(jobs)]
        whole = path.read_bytes()
        length = _shorter(bench, len(whole))
        path.write_bytes(whole[:length])
        if path == cached:
            found = bench.run(place, "features", "verify")
            tally.count("" if found.status == 1 and path.name in found.said else f"{path.name} cut to {length}")
        else:
            process = bench.run(place, "extract", *command)
            tally.count(_refused_or_same(process, made, place, f"{path.name} cut to {length}"))
        path.write_bytes(whole)


def _anywhere(bench: Bench, length: int, number: int) -> int:
    return bench.random.randrange(min(length, _HEAD) if number % 2 else length)


def _shorter(bench: Bench, length: int) -> int:
    """A shorter length, in half of all cases one within the first bytes."""
    return bench.random.randrange(min(200, length) if bench.random.random() < 0.5 else length)


def _refused_or_same(process: Process, made: dict[str, str], place: Path, what: str) -> list[str]:
    """What is lost unless the run was refused with one line that names the file, or computed nothing anew."""
    losses = []
    if process.status == 2:
        named = any(mark in process.complained for mark in _MARKS) or "is not what it was" in process.complained
        losses.append(one_line(process, "error: ") or ("" if named else f"not named: {process.complained}"))
    elif process.status != 0 or " images in " in process.said:
        losses.append(f"status {process.status}, {process.said[-200:]} {process.complained[-400:]}")
    found = features_of(place)
    losses.append("" if found == made else f"the cache changed: {sorted(set(found) ^ set(made))}")
    losses = [loss for loss in losses if loss]
    for path in (place / "home" / "features").glob("*.h5"):
        if path.name not in made:
            path.unlink()
    return [f"{what}: {loss}" for loss in losses]


def _accuracies(lines: list[str]) -> list[str]:
    return [line for line in lines if "accuracy" in line]
