"""Images and labels given from Python, as a data set of a kind that there is: written once into the home, where every
process, and `predict` and `repeat` later, opens it by its name.

    (X, y)                          arrays (N, H, W), (N, H, W, 3) or (N, 3, H, W), NumPy's or torch's, uint8 or
                                    floats from 0 to 1; or a list of paths, of PIL images or of arrays of any sizes
    ((X, y), (X_test, y_test))      with a part for the test; three pairs: training, validation, test
    {"train": (X, y), "test": ...}  the same by name
    a torch Dataset with a length   which gives (image, label); so do several, in the place of the pairs

Labels are (N,), whole numbers or words; a torch Dataset's `classes` name its numbers. Without a part for the test one
image in five of each class is cut off, always the same ones. Arrays become an `npz`, images of several sizes PNG files
in a `csv`, and of paths only the list is written. What is written is called by the SHA-256 of what is in it.
"""

import csv
import hashlib
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.commands.progress import progress_if_slow
from features.commands.speaking import tell_once
from features.datasets.array_names import SEPARATE
from features.datasets.arrays import images_in_8_bits, white_in, with_channels_last
from features.datasets.dataset import Dataset
from features.datasets.images import pillow_in_8_bits
from features.datasets.parts import PARTS, part_called
from features.errors import UserError
from features.home import datasets_folder
from features.whole import whole, write_whole

_WHOLE = ""  # the part that is still to be cut
_ARRAYS = {_WHOLE: ("images", "labels"), **SEPARATE, "validation": ("x_val", "y_val")}
_TAKEN = "(X, y) with images and labels, ((X, y), (X_test, y_test)), or a torch Dataset of them that has a length"


def spec_of(data: Any) -> str:
    """What `open_dataset` takes to open it; UserError for what is no data, and for several labels of an image."""
    if isinstance(data, str | Path):
        return str(data)
    if isinstance(data, Dataset):
        return data.spec
    parts = {name: _Part.of(part, name or "the data") for name, part in _parts(data).items()}
    try:
        with tempfile.TemporaryDirectory(prefix="given-") as aside:
            read = [part.read(Path(aside)) for part in parts.values()]
            if all(isinstance(images, np.ndarray) for images, _ in read):
                return _as_npz(dict(zip(parts, read, strict=True)))
            return _as_csv(dict(zip(parts, read, strict=True)))
    except OSError as error:
        raise UserError(f"cannot keep the images in {_folder()} ({error.strerror}); make room there") from error


@dataclass(frozen=True)
class _Part:
    """Images and labels of one part. images: an array, or rows read one at a time, which bring the labels where these
    are None. name: what to call it."""

    images: Any
    labels: Any
    classes: Sequence[str] | None
    name: str

    @classmethod
    def of(cls, part: Any, name: str) -> "_Part":
        if isinstance(part, tuple):
            images, labels = part
            if len(images) != len(labels):
                raise UserError(f"{name} has {len(images):,} images and {len(labels):,} labels; give one for each")
            return cls(images, labels, None, name)
        classes = getattr(part, "classes", None)
        return cls(part, None, classes if isinstance(classes, list | tuple) else None, name)

    def read(self, aside: Path) -> tuple[Any, np.ndarray]:
        """Images, one array or a list of paths and uint8 arrays, and labels (N,) of text or whole numbers."""
        if not len(self.images):
            raise UserError(f"{self.name} has no images; give some")
        if self.labels is not None and hasattr(self.images, "shape"):
            return _plain(self.images), _labels(self.labels, None, self.name)
        if self.labels is None:
            self._require_repeatable()
            images, labels = self._streamed(aside)
        else:
            images, labels = self._in_rows(aside, zip(self.images, self.labels, strict=True))
        return images, _labels(labels, self.classes, self.name)

    def _require_repeatable(self) -> None:
        first, again = (image_of(self._row(0)[0], f"image 0 of {self.name}") for _ in range(2))
        if not isinstance(first, Path) and not np.array_equal(first, np.asarray(again)):
            raise UserError(
                f"image 0 of {self.name} is another one each time that it is read, so it is augmented; give the data "
                "without random transforms"
            )

    def _row(self, row: int) -> tuple[Any, Any]:
        item = self.images[row]
        if isinstance(item, tuple | list) and len(item) == 2:
            return item[0], item[1]
        raise UserError(
            f"row {row} of {self.name} is a {type(item).__name__} and no pair of image and label; wrap the data set so "
            "that it gives (image, label)"
        )

    def _streamed(self, aside: Path) -> tuple[Any, list[Any]]:
        return self._in_rows(aside, (self._row(row) for row in range(len(self.images))))

    def _in_rows(self, aside: Path, rows: Iterator[tuple[Any, Any]]) -> tuple[Any, list[Any]]:
        """The images of rows, one array where all are of one shape, else paths and arrays; held on disk meanwhile."""
        shapes, labels, paths = [], [], []
        place = aside / hashlib.sha256(self.name.encode()).hexdigest()[:16]
        with place.open("wb") as stream, progress_if_slow() as advance:
            for row, (given, label) in enumerate(rows):
                image = image_of(given, f"image {row} of {self.name}")
                paths.append(image if isinstance(image, Path) else None)
                shapes.append(() if isinstance(image, Path) else image.shape)
                labels.append(label)
                if not isinstance(image, Path):
                    stream.write(image.tobytes())
                advance(self.name, row, len(self.images))
        sizes = [0 if path else int(np.prod(shape)) for path, shape in zip(paths, shapes, strict=True)]
        if not sum(sizes):
            return paths, labels
        pixels = np.memmap(place, np.uint8, "r")
        if len(set(shapes)) == 1:
            return pixels.reshape(len(shapes), *shapes[0]), labels
        starts = np.cumsum([0, *sizes]).tolist()
        cut = zip(paths, shapes, starts, sizes, strict=False)
        return [path or pixels[start : start + size].reshape(shape) for path, shape, start, size in cut], labels


def _parts(data: Any) -> dict[str, Any]:
    """Each part by its name, or the whole by none."""
    if isinstance(data, Mapping):
        named = {part_called(str(name)): part for name, part in data.items()}
        if None in named or len(named) < len(data) or not all(map(_is_part, named.values())):
            raise UserError(f"{str(list(data))[:80]} does not name parts of data: call them train, validation and test")
        return {called[0]: part for called, part in named.items() if called}
    if isinstance(data, tuple) and len(data) in (2, 3) and all(map(_is_part, data)):
        return dict(zip(PARTS if len(data) == 3 else ("train", "test"), data, strict=True))
    if _is_part(data):
        return {_WHOLE: data}
    if hasattr(data, "__iter__") and hasattr(data, "dataset"):
        raise UserError(f"a {type(data).__name__} gives batches; give its dataset instead")
    raise UserError(f"a {type(data).__name__} is no data set; give its name, {_TAKEN}")


def _is_part(data: Any) -> bool:
    """Whether it is images with their labels."""
    if isinstance(data, tuple):
        return len(data) == 2 and all(hasattr(half, "__len__") and not isinstance(half, str | tuple) for half in data)
    is_sequence = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    return is_sequence and not hasattr(data, "shape") and not isinstance(data, str | bytes | list | Mapping)


def _plain(array: Any) -> np.ndarray:
    """NumPy's array of torch's, or of something like an array."""
    return np.asarray(array.detach().cpu() if hasattr(array, "detach") else array)


def image_of(image: Any, which: str) -> np.ndarray | Path:
    """A path, or uint8 (H, W) or (H, W, 3)."""
    if isinstance(image, str | Path):
        return Path(image).expanduser().absolute()
    if hasattr(image, "getbands"):
        return pillow_in_8_bits(image, which)
    array = _plain(image)
    if array.dtype.kind in "OUSV":
        raise UserError(f"{which} is a {type(image).__name__}; give a path, a PIL image or an array")
    array = with_channels_last(array[None], which)
    if array.dtype.kind == "f" and not (array.min() >= 0 and array.max() <= 1):
        raise UserError(
            f"{which} holds numbers from {array.min():g} to {array.max():g}; give it before it is normalised, as uint8 "
            "or as floats from 0 to 1"
        )
    if array.dtype.kind in "iu" and not (array.min() >= 0 and array.max() <= 255):
        raise UserError(f"{which} holds numbers from {array.min()} to {array.max()}; bring them to 0 to 255")
    if array.dtype.kind == "b":
        array = array.astype(np.float32)
    return np.round(array * 255).astype(np.uint8)[0] if array.dtype.kind == "f" else array.astype(np.uint8)[0]


def _labels(labels: Any, classes: Sequence[str] | None, which: str) -> np.ndarray:
    """Labels (N,), by the names of classes where there are any; UserError for several of one image."""
    try:
        array = np.asarray([_plain(label) for label in labels]) if isinstance(labels, list) else _plain(labels)
    except ValueError:
        array = np.empty((len(labels), 0), object)  # as many for each as there happen to be
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2:
        is_one_hot = array.size and array.dtype.kind in "biuf" and (np.count_nonzero(array, axis=1) == 1).all()
        hint = "they look one-hot: give their argmax(axis=1)" if is_one_hot else "multi-label data are not taken"
        raise UserError(f"{which} has several labels for an image, and one class each is asked for; {hint}")
    if array.ndim != 1 or array.dtype.kind not in "biufUS":
        raise UserError(f"the labels of {which} are of type {array.dtype}; give whole numbers or words, (N,)")
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and (array == np.round(array)).all()):
            raise UserError(f"the labels of {which} hold {array[array != np.round(array)][:1]}; give classes")
        array = array.astype(np.int64)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    if classes is not None and array.dtype.kind in "iu" and array.min() >= 0 and array.max() < len(classes):
        array = np.array([str(name) for name in classes])[array]
    return array


def _as_npz(parts: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    white = white_in((name or "the array of images", with_channels_last(x, name)) for name, (x, _) in parts.items())
    arrays: dict[str, np.ndarray] = {}
    for name, (images, labels) in parts.items():
        pair = images_in_8_bits(images, white, name or "the array of images"), labels
        arrays |= dict(zip(_ARRAYS[name], pair, strict=True))
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    path = _folder() / f"arrays-{digest.hexdigest()[:16]}.npz"

    def write() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]  # its other keyword is no array

    _kept(path, write, sum(array.nbytes for array in arrays.values()))
    return f"npz:{path}"


def _as_csv(parts: Mapping[str, tuple[Sequence[Path | np.ndarray], np.ndarray]]) -> str:
    digest = hashlib.sha256()
    for name, (images, labels) in parts.items():
        for image, label in zip(images, labels.tolist(), strict=True):
            digest.update(f"{name} {label} {image if isinstance(image, Path) else image.shape}\n".encode())
            if not isinstance(image, Path):
                digest.update(np.ascontiguousarray(image).data)
    folder = _folder() / f"images-{digest.hexdigest()[:16]}"
    path = folder / f"{folder.name}.csv"

    def write() -> None:
        from PIL import Image

        table = io.StringIO(newline="")
        rows = csv.writer(table)
        rows.writerow(["path", "label"] if _WHOLE in parts else ["path", "label", "split"])
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        for name, (images, labels) in parts.items():
            for row, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
                if isinstance(image, Path):
                    place = str(image)
                else:
                    place = str(Path(name or "images") / f"{row:08}.png")
                    (folder / place).parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(np.asarray(image)).save(folder / place)
                rows.writerow([place, label, *([name] if name else [])])
        write_whole(path, table.getvalue().encode())

    size = sum(image.nbytes for images, _ in parts.values() for image in images if not isinstance(image, Path))
    _kept(path, write, size)
    return f"csv:{path}"


def _kept(path: Path, write: Callable[[], None], size: int) -> None:
    if path.exists():
        return
    if size > 1_000_000:
        tell_once(f"the images given from Python are kept in {path.parent}, at most {size / 1e6:,.0f} MB")
    write()


def _folder() -> Path:
    return datasets_folder() / "given"
