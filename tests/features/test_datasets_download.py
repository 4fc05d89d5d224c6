"""Downloading through torchvision, from a server on this machine; and what happens where there is none."""

import functools
import gzip
import hashlib
import http.server
import pickle
import shutil
import socket
import struct
import tarfile
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from features.datasets import open_dataset
from features.errors import UserError

torchvision_datasets = pytest.importorskip("torchvision.datasets")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path):
    """A folder, and the address under which its files are served."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def empty_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path / "empty"))
    return tmp_path / "empty"


@pytest.fixture
def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}/"


def md5(path):
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def mnist_served(real_mnist, empty_home, served, monkeypatch):
    folder, address = served
    for path in (real_mnist / "raw").glob("*.gz"):
        shutil.copyfile(path, folder / path.name)
    monkeypatch.setattr(torchvision_datasets.MNIST, "mirrors", [address])
    return folder


def test_real_mnist_is_downloaded_once_and_in_silence(mnist_served, empty_home, capsys):
    dataset = open_dataset("mnist")
    fingerprint = dataset.fingerprint()
    assert capsys.readouterr().out == ""
    assert [len(dataset.load(split).labels) for split in dataset.splits] == [60_000, 10_000]
    assert not list(empty_home.rglob(".incoming"))
    for path in mnist_served.iterdir():
        path.unlink()
    assert open_dataset("mnist").fingerprint() == fingerprint


def test_a_file_that_arrives_altered_is_not_kept_and_the_others_are(mnist_served, empty_home):
    broken = mnist_served / "t10k-labels-idx1-ubyte.gz"
    good = broken.read_bytes()
    broken.write_bytes(good[:-50])
    with pytest.raises(UserError, match="t10k-labels-idx1-ubyte.gz of the data set 'mnist' is missing"):
        open_dataset("mnist").fingerprint()
    raw = empty_home / "datasets" / "MNIST" / "raw"
    assert not (raw / broken.name).exists()
    assert (raw / "train-images-idx3-ubyte.gz").exists()
    broken.write_bytes(good)
    (mnist_served / "train-images-idx3-ubyte.gz").unlink()
    assert len(open_dataset("mnist").load("test").labels) == 10_000


def test_a_users_altered_file_is_not_written_over(mnist_served, empty_home):
    raw = empty_home / "datasets" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte.gz").write_bytes(b"mine")
    with pytest.raises(UserError, match="train-images-idx3-ubyte.gz is cut short or altered"):
        open_dataset("mnist").fingerprint()
    assert (raw / "train-images-idx3-ubyte.gz").read_bytes() == b"mine"


def test_without_a_server_the_error_says_what_to_do(empty_home, closed_port, monkeypatch):
    monkeypatch.setattr(torchvision_datasets.MNIST, "mirrors", [closed_port])
    with pytest.raises(UserError) as caught:
        open_dataset("mnist").load("train")
    message = str(caught.value)
    assert "train-images-idx3-ubyte.gz" in message
    assert f"put it into {empty_home / 'datasets' / 'MNIST' / 'raw'}" in message
    assert "python -m extract --dataset digits --backbone efficientnet_lite0 --layer all" in message
    assert "\n" not in message
    assert socket.getdefaulttimeout() is None


def test_a_server_that_never_answers_is_given_up(empty_home, monkeypatch):
    monkeypatch.setattr("features.datasets.download.TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(torchvision_datasets.MNIST, "mirrors", [f"http://127.0.0.1:{listener.getsockname()[1]}/"])
        with pytest.raises(UserError, match="cannot be downloaded"):
            open_dataset("mnist").fingerprint()


def test_a_folder_that_cannot_be_made_is_named(empty_home):
    empty_home.write_text("a file where the home should be")
    with pytest.raises(UserError, match="cannot write the data set 'mnist' to"):
        open_dataset("mnist").fingerprint()


@pytest.fixture
def small_cifar(tmp_path, monkeypatch):
    """cifar-10-python.tar.gz with four images a batch, whose MD5s torchvision is made to expect."""
    known = torchvision_datasets.CIFAR10
    folder = tmp_path / "made" / known.base_folder
    folder.mkdir(parents=True)
    pixels = np.arange(4 * 3 * 32 * 32, dtype=np.int64).reshape(4, -1) % 251
    expected = {}
    for number, name in enumerate([entry[0] for entry in known.train_list + known.test_list]):
        content = {"data": pixels.astype(np.uint8), "labels": [number, 1, 2, 3]}
        (folder / name).write_bytes(pickle.dumps(content))
        expected[name] = md5(folder / name)
    meta = folder / known.meta["filename"]
    meta.write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    archive = tmp_path / "made" / known.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, known.base_folder)
    for listing in ("train_list", "test_list"):
        monkeypatch.setattr(known, listing, [[name, expected[name]] for name, _ in getattr(known, listing)])
    monkeypatch.setattr(known, "meta", {**known.meta, "md5": md5(meta)})
    monkeypatch.setattr(known, "tgz_md5", md5(archive))
    return archive


def test_cifar10_is_downloaded_unpacked_and_read(small_cifar, empty_home, served, monkeypatch):
    folder, address = served
    shutil.copyfile(small_cifar, folder / small_cifar.name)
    monkeypatch.setattr(torchvision_datasets.CIFAR10, "url", f"{address}{small_cifar.name}")
    dataset = open_dataset("cifar10")
    assert len(dataset.fingerprint()) == 64
    rows = dataset.load("train")
    assert rows.images.shape == (20, 32, 32, 3) and rows.images.dtype == np.uint8
    assert rows.images[0, 0, 1].tolist() == [1, (1024 + 1) % 251, (2048 + 1) % 251]
    assert rows.labels.tolist() == [label for batch in range(5) for label in (batch, 1, 2, 3)]
    assert dataset.classes[3] == "cat"


def test_an_archive_that_a_user_brought_is_unpacked_without_a_network(
    small_cifar, empty_home, closed_port, monkeypatch
):
    monkeypatch.setattr(torchvision_datasets.CIFAR10, "url", f"{closed_port}{small_cifar.name}")
    (empty_home / "datasets").mkdir(parents=True)
    shutil.copyfile(small_cifar, empty_home / "datasets" / small_cifar.name)
    assert open_dataset("cifar10").load("test").labels.tolist() == [5, 1, 2, 3]


def test_emnists_archive_is_unpacked_without_a_network(tmp_path, empty_home, closed_port, monkeypatch):
    known = torchvision_datasets.EMNIST
    archive = empty_home / "datasets" / "EMNIST" / "raw" / "gzip.zip"
    archive.parent.mkdir(parents=True)
    with zipfile.ZipFile(archive, "w") as packed:
        for part in ("digits", "letters"):
            for split in ("train", "test"):
                head = f"gzip/emnist-{part}-{split}"
                images = struct.pack(">HBB3I", 0, 8, 3, 2, 28, 28) + bytes(2 * 28 * 28)
                packed.writestr(f"{head}-images-idx3-ubyte.gz", gzip.compress(images))
                packed.writestr(
                    f"{head}-labels-idx1-ubyte.gz", gzip.compress(struct.pack(">HBBI", 0, 8, 1, 2) + b"\1\2")
                )
    monkeypatch.setattr(known, "url", f"{closed_port}gzip.zip")
    with pytest.raises(UserError, match="gzip.zip is cut short or altered"):
        open_dataset("emnist-letters").fingerprint()
    monkeypatch.setattr(known, "md5", md5(archive))
    assert open_dataset("emnist-letters").load("train").labels.tolist() == [0, 1]
    assert open_dataset("emnist-digits").load("test").labels.tolist() == [1, 2]
    assert archive.exists()


def test_several_runs_that_need_the_same_files_download_once(mnist_served, empty_home, monkeypatch):
    calls = []
    download = torchvision_datasets.MNIST.download
    monkeypatch.setattr(torchvision_datasets.MNIST, "download", lambda self: (calls.append(1), download(self)))
    with ThreadPoolExecutor(3) as pool:
        fingerprints = set(pool.map(lambda _: open_dataset("mnist").fingerprint(), range(3)))
    assert len(fingerprints) == 1
    assert len(calls) == 2, "once for each split"


def test_an_altered_pickle_is_never_loaded(small_cifar, tmp_path, empty_home):
    root = small_cifar.parent
    (root / "cifar-10-batches-py" / "test_batch").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    with pytest.raises(UserError, match="test_batch is cut short or altered"):
        open_dataset(f"cifar10:{root}").load("train")


def test_svhn_is_read(tmp_path, empty_home, monkeypatch):
    from scipy.io import savemat

    known = torchvision_datasets.SVHN
    root = tmp_path / "svhn"
    root.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 4)).astype(np.uint8)
    listing = {}
    for split, (address, name, _) in known.split_list.items():
        if split == "extra":
            continue
        savemat(root / name, {"X": pixels, "y": np.array([[10], [1], [2], [9]], np.uint8)})
        listing[split] = [address, name, md5(root / name)]
    monkeypatch.setattr(known, "split_list", listing)
    dataset = open_dataset(f"svhn:{root}")
    rows = dataset.load("test")
    assert rows.labels.tolist() == [0, 1, 2, 9]
    assert np.array_equal(rows.images, pixels.transpose(3, 0, 1, 2))
    assert len(dataset.fingerprint()) == 64


def test_every_file_of_the_others_is_known_to_torchvision():
    from features.datasets.torchvision_arrays import FAMILY

    for member in FAMILY.values():
        assert set(member.files) <= set(member.source.checksums())
    assert len(FAMILY["cifar100"].classes) == 100 == len(set(FAMILY["cifar100"].classes))
