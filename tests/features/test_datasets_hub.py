"""Data sets that Hugging Face's package reads: in every form the same images, read by the row."""

import io
import json
import pickle
import subprocess
import sys
import tarfile
import threading
import time

import numpy as np
import pytest
from PIL import Image

from features.datasets import hub_tables, open_dataset
from features.datasets.catalogue import absolute_spec, with_columns
from features.errors import UserError
from features.sizes import shortest_oblong

datasets = pytest.importorskip("datasets", reason="needs the extra 'hf'")
if not hasattr(datasets, "load_dataset"):
    pytest.skip("needs the extra 'hf'", allow_module_level=True)

WORDS = ("cat", "dog", "emu")


@pytest.fixture(scope="module")
def files():
    """For each part the bytes of image files, colour and grey, of several sizes, and their labels."""
    random = np.random.default_rng(0)
    parts = {}
    for part, count in (("train", 30), ("test", 12)):
        contents = []
        for row in range(count):
            shape = (12 + row % 3, 12) if row % 4 == 0 else (12 + row % 3, 12, 3)
            stream = io.BytesIO()
            Image.fromarray(random.integers(0, 255, shape, dtype=np.uint8)).save(stream, "JPEG")
            contents.append(stream.getvalue())
        parts[part] = contents, [row % 3 for row in range(count)]
    return parts


@pytest.fixture(scope="module")
def forms(files, tmp_path_factory):
    """The same data in all forms: {name: (spec, names of the labels)}, and as a folder."""
    root = tmp_path_factory.mktemp("forms")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(WORDS))})
    tables = {}
    for part, (contents, labels) in files.items():
        rows = {"image": [{"bytes": content, "path": None} for content in contents], "label": labels}
        tables[part] = datasets.Dataset.from_dict(rows, features=features)
        (root / "parquet").mkdir(exist_ok=True)
        tables[part].to_parquet(str(root / "parquet" / f"{part}-00000-of-00001.parquet"))
        (root / "tar" / part).mkdir(parents=True)
        for shard, start in enumerate(range(0, len(labels), 10)):
            with tarfile.open(root / "tar" / part / f"{shard:03}.tar", "w") as archive:
                for row in range(start, min(start + 10, len(labels))):
                    for suffix, content in (("jpg", contents[row]), ("cls", str(labels[row]).encode())):
                        member = tarfile.TarInfo(f"{row:05}.{suffix}")
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
        for row, (content, label) in enumerate(zip(contents, labels, strict=True)):
            place = root / "folder" / part / WORDS[label] / f"{row:03}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    datasets.DatasetDict(tables).save_to_disk(str(root / "disk"))
    return root


def _by_class(dataset, split):
    data = dataset.load(split)
    pairs = [(int(label), data.images.read(row).tobytes()) for row, label in enumerate(data.labels)]
    return sorted(pairs)


@pytest.mark.parametrize("form", ["disk", "parquet", "tar"])
def test_every_form_has_the_pixels_of_the_folder(home, forms, form):
    dataset, folder = open_dataset(f"hf:{forms / form}"), open_dataset(f"folder:{forms / 'folder'}")
    assert dataset.classes == (("0", "1", "2") if form == "tar" else WORDS)
    assert dataset.splits == folder.splits == ("train", "test")
    for split in dataset.splits:
        assert _by_class(dataset, split) == _by_class(folder, split)
    assert shortest_oblong(dataset) == shortest_oblong(folder) == 12
    assert dataset.survey().white == folder.survey().white
    assert dataset.fingerprint() == open_dataset(f"hf:{forms / form}").fingerprint()


def test_the_same_rows_are_the_same_data_set_in_whatever_files(home, forms):
    disk, parquet = open_dataset(f"hf:{forms / 'disk'}"), open_dataset(f"hf:{forms / 'parquet'}")
    assert disk.fingerprint() == parquet.fingerprint() != open_dataset(f"hf:{forms / 'tar'}").fingerprint()


def test_images_travel_without_a_list_of_them(home, forms):
    images = open_dataset(f"hf:{forms / 'disk'}").load("train").images
    sent = pickle.loads(pickle.dumps(images))
    some = sent.take(np.array([3, 1])).joined(sent.take(np.array([7])))
    for row, own in enumerate((3, 1, 7)):
        np.testing.assert_array_equal(some.read(row), images.read(own))
    assert some.identity != images.identity == sent.identity
    assert len(pickle.dumps(images)) < 20_000 and images.paths == ()


def test_one_part_is_cut_with_equal_images_on_one_side_and_groups_hold(home, files, tmp_path):
    contents, labels = files["train"]
    rows = {"picture": contents + contents[:6], "species": [WORDS[n] for n in labels + labels[:6]]}
    rows["patient"] = [f"p{row % 15}" for row in range(36)]
    datasets.Dataset.from_dict(rows).to_parquet(str(tmp_path / "all.parquet"))
    spec = with_columns(f"hf:{tmp_path / 'all.parquet'}", label="species", group="patient")
    dataset = open_dataset(spec)
    assert dataset.cuts_test and absolute_spec(spec) == dataset.spec == spec
    train, test = ({bytes(image) for _, image in _by_class(dataset, split)} for split in ("train", "test"))
    assert not train & test
    assert not set(dataset.groups("train")) & set(dataset.groups("test"))
    assert any("cop" in line for line in dataset.survey().remarks)


def test_splits_that_are_no_parts_are_left_out_and_said(home, files, tmp_path):
    contents, labels = files["train"]
    table = datasets.Dataset.from_dict({"image": contents, "label": labels})
    datasets.DatasetDict(train=table, validation=table, unsupervised=table).save_to_disk(str(tmp_path / "parts"))
    dataset = open_dataset(f"hf:{tmp_path / 'parts'}")
    assert dataset.splits == ("train", "test")
    assert any("unsupervised are not read" in line for line in dataset.survey().remarks)


def test_what_cannot_be_read_is_said_in_a_line(home, files, tmp_path):
    contents, labels = files["train"]

    def table(name, **columns):
        datasets.Dataset.from_dict(columns).to_parquet(str(tmp_path / f"{name}.parquet"))
        return f"hf:{tmp_path / name}.parquet"

    several = table("several", image=contents, labels=[[0, 1]] * 30)
    empty = table("empty", image=contents, label=[None, *labels[1:]])
    broken = table("broken", image=[b"none", *contents[1:]], label=labels)
    nothing = table("nothing", image=contents, other=labels)
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "x.csv").write_text("a,b\n")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    for spec, said in (
        (several, "multi-label"),
        (empty, "1 rows have nothing in the column label"),
        (broken, r"cannot read 1 of the images.*row 0"),
        (nothing, "no column of labels.*name one of image, other with --label-column"),
        (f"{nothing}?label=absent", "no column 'absent'"),
        (f"{nothing}?labels=other", "'labels' names nothing here"),
        (f"hf:{tmp_path / 'words'}", "there are none, and folders of images are folder:PATH"),
        (f"hf:{tmp_path / 'bad.parquet'}", "cannot be read"),
        (f"hf:{tmp_path / 'gone' / 'x'}", "does not exist"),
    ):
        with pytest.raises(UserError, match=said) as error:
            open_dataset(spec).survey()
        assert "\n" not in str(error.value)


def test_without_a_network_the_hub_is_given_up_within_seconds(home, monkeypatch):
    monkeypatch.setattr(hub_tables, "_answers", lambda host: False)
    with pytest.raises(UserError, match=r"it is not in .*hf, and huggingface\.co cannot be reached"):
        open_dataset("hf:somebody/something")
    assert absolute_spec("hf:somebody/something?config=small") == "hf:somebody/something?config=small"


def test_a_silent_host_is_not_waited_for(monkeypatch):
    asked = threading.Event()

    def silent(*_, **__):
        asked.set()
        time.sleep(1)
        raise OSError("no answer")

    monkeypatch.setattr(hub_tables, "_WAIT", 0.05)
    monkeypatch.setattr(hub_tables.socket, "create_connection", silent)
    assert not hub_tables._answers("example.org") and asked.wait(10)


def test_without_the_package_the_extra_is_named(home, forms):
    script = "import sys; sys.modules['datasets'] = None\nfrom features.datasets import open_dataset\n"
    spec = json.dumps(f"hf:{forms / 'disk'}")
    script += f"try: open_dataset({spec})\nexcept Exception as error: print(error)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'layerprobe[hf]'" in done.stdout
