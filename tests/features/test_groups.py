"""Groups: images of one patient, part, video or day never stand on both sides of a split."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from features.commands.options import Parser, add_request_options, request_from
from features.datasets import open_dataset, with_groups
from features.datasets.listed import groups_in
from features.datasets.splitting import cut_test_rows
from features.errors import UserError
from features.first_use import recognise
from features.grouping import hold_out_groups, joined_groups
from features.rows import limit_rows, train_and_validation, validation_split

CLASSES = ("cat", "dog")


@pytest.fixture
def photos(tmp_path, home):
    """Ten images of each of two classes, of five owners each: `cat/owner1-0.png`; owner 1 has cats and dogs."""
    for shade, name in enumerate(CLASSES):
        (tmp_path / "p" / name).mkdir(parents=True)
        for number in range(10):
            owner = number // 2 + 1 + (5 * shade if number > 1 else 0)
            pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) + 90 * shade + number
            Image.fromarray(pixels).save(tmp_path / "p" / name / f"owner{owner}-{number % 2}.png")
    return tmp_path / "p"


def owners(dataset, split):
    return {path.stem.split("-")[0] for path in dataset.load(split).images.paths}


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12)), min_size=2, max_size=80), st.integers(0, 3))
@settings(deadline=None, max_examples=150)
def test_no_group_is_on_both_sides_and_every_class_is(rows, seed):
    labels, groups = map(np.array, zip(*rows, strict=True))
    if any(len(np.unique(groups[labels == label])) < 2 for label in labels):
        with pytest.raises(UserError, match="are of one group, and two groups are needed"):
            validation_split(labels, np.arange(len(labels)), seed, groups=groups)
        return
    try:
        train, validation = validation_split(labels, np.arange(len(labels)), seed, groups=groups)
    except UserError as error:
        assert "cannot be cut so that every class" in str(error)
        return
    assert not set(groups[train]) & set(groups[validation])
    assert set(labels[train]) == set(labels[validation]) == set(labels)
    assert sorted([*train, *validation]) == list(range(len(labels)))


def test_about_the_share_of_each_class_is_held_out():
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), generator.integers(2, 20, 60))
    labels = (groups % 3 + (generator.random(len(groups)) < 0.2)) % 3
    shares = [
        np.bincount(labels[train_and_validation(labels, seed, groups=groups)[1]]) / np.bincount(labels)
        for seed in range(5)
    ]
    assert np.abs(np.array(shares) - 0.1).max() < 0.02
    drawn = {tuple(train_and_validation(labels, seed, groups=groups)[1]) for seed in (0, 0, 1)}
    assert len(drawn) == 2


def test_among_some_rows_groups_stay_whole():
    labels, groups = np.repeat([0, 1], 500), np.arange(1000) // 10
    rows = limit_rows(labels, 300, seed=0)
    train, validation = validation_split(labels, rows, 0, groups=groups)
    assert not set(groups[train]) & set(groups[validation])
    assert set(train) | set(validation) == set(rows) and len(validation) == pytest.approx(30, abs=6)


def test_the_fixed_cut_leaves_a_group_to_validate_on():
    labels, groups = np.repeat([0, 1], 6), np.array([0, 1, 2, 2, 2, 2, 3, 3, 4, 4, 5, 5])
    train, test = cut_test_rows(labels, CLASSES, "it", groups=groups)
    assert not set(groups[train]) & set(groups[test])
    assert all(len(set(groups[train][labels[train] == label])) == 2 for label in (0, 1))
    with pytest.raises(UserError, match=r"class 'dog' in it are of one group, .* one to train on and one to test on"):
        cut_test_rows(labels, CLASSES, "it", groups=np.array([0, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3]))


def test_groups_that_share_an_image_are_one():
    groups = np.array([0, 0, 1, 1, 2, 2])
    joined = joined_groups(groups, ["a", "b", "b", "c", "d", "e"])
    assert len(set(joined[:4])) == 1 and len(set(joined)) == 2 and joined[4] == joined[5]


def test_the_order_of_numbers_of_groups_is_all_that_is_drawn():
    labels, groups = np.arange(40) % 2, np.arange(40) // 4
    held = hold_out_groups(labels, groups, 0.2, random.Random("a"))
    assert np.array_equal(held, hold_out_groups(labels, groups * 7 + 3, 0.2, random.Random("a")))


def test_paths_of_a_folder_tell_groups(photos):
    dataset = open_dataset(with_groups(f"folder:{photos}", r"(owner\d+)-"))
    assert not owners(dataset, "train") & owners(dataset, "test")
    for split in dataset.splits:
        names = [path.stem.split("-")[0] for path in dataset.load(split).images.paths]
        pairs = set(zip(names, dataset.groups(split).tolist(), strict=True))
        assert len(pairs) == len(set(names)) == len(set(dataset.groups(split)))
    again = open_dataset(dataset.spec)
    assert again.fingerprint() == dataset.fingerprint() != open_dataset(f"folder:{photos}").fingerprint()
    assert open_dataset(f"folder:{photos}").groups("train") is None


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        (r"(owner\d", "this is no regular expression"),
        (r"owner\d+", "should stand in parentheses"),
        (r"patient(\d+)", "it finds no group in 20 of 20 paths, the first of them 'cat/owner1-0.png'"),
        (r"owner1(\d?)", "it finds no group in"),
        (r"^(cat|dog)/", "all images of class 'cat' in .* are of one group, and two groups are needed"),
    ],
)
def test_expressions_that_tell_no_groups(photos, expression, complaint):
    with pytest.raises(UserError, match=complaint):
        open_dataset(with_groups(f"folder:{photos}", expression))


def test_some_classes_and_readable_images_keep_their_groups(photos):
    (photos / "cat" / "owner3-9.png").write_bytes(b"no image")
    spec = with_groups(f"readable:folder:{photos}[dog,cat]", r"(owner\d+)")
    dataset = open_dataset(spec)
    for split in dataset.splits:
        assert len(dataset.groups(split)) == len(dataset.load(split).labels)
    assert not set(dataset.groups("train")) & set(dataset.groups("test"))


def test_the_command_line_spells_them(photos):
    parser = Parser(prog="x")
    add_request_options(parser)

    def spec(*arguments):
        return request_from(parser.parse_args(list(arguments))).dataset

    given = spec("--dataset", f"folder:{photos}", "--group-by", r"a[b]?/(o\+.*)&")
    assert given.startswith(f"folder:{photos}?group_by=") and "?" not in given.split("group_by=")[1]
    with pytest.raises(UserError, match=r"a\[b\]\?/\(o.*it finds no group in 20 of 20"):
        open_dataset(given)
    assert spec("--dataset", "csv:l.csv", "--group-column", "who") == "csv:l.csv?group=who"
    with pytest.raises(UserError, match="--group-by reads groups from the paths of .*; 'mnist' has none"):
        spec("--group-by", "(.)")
    with pytest.raises(UserError, match="and --group-column name columns of csv:PATH and hf:PATH; 'mnist' takes none"):
        spec("--group-column", "who")
    with pytest.raises(UserError, match="by --group-by or by --group-column, and"):
        spec("--dataset", "csv:l.csv", "--group-column", "who", "--group-by", "(.)")


def listed(photos, header, cells):
    """A list of the photos with a further column each."""
    paths = sorted(photos.glob("*/*.png"))
    lines = [f"{path.relative_to(photos)},{path.parent.name},{','.join(cells(path))}" for path in paths]
    (photos / "l.csv").write_text("\n".join([f"path,label,{header}", *lines]))
    return f"csv:{photos / 'l.csv'}"


def owner(path):
    return path.stem.split("-")[0]


def test_a_column_of_a_list_tells_groups(photos):
    dataset = open_dataset(listed(photos, "Group", lambda path: [owner(path)]))
    assert not owners(dataset, "train") & owners(dataset, "test")
    survey = dataset.survey()
    assert survey.rule == 3 and "the column Group says which images belong together (9 groups)" in survey.remarks[0]
    recognise(dataset.spec, dataset.fingerprint(), rule=survey.rule)
    named = open_dataset(listed(photos, "who", lambda path: [owner(path)]) + "?group=who")
    assert named.fingerprint() == dataset.fingerprint() and named.survey().rule == 1
    with pytest.raises(UserError, match="no column 'whom'; .* correct --group-column"):
        open_dataset(f"csv:{photos / 'l.csv'}?group=whom")


def test_a_column_with_gaps_is_read_where_it_was_asked_for(photos):
    spec = listed(photos, "group", lambda path: ["" if path.stem == "owner1-0" else owner(path)])
    dataset = open_dataset(spec)
    assert dataset.groups("train") is None and "is empty on some lines" in dataset.survey().remarks[0]
    with pytest.raises(UserError, match="line 2: the group is '', which stands for none"):
        open_dataset(f"{spec}?group=group")


def test_groups_in_several_splits_that_the_data_set_names_are_said(photos):
    spec = listed(photos, "split,group", lambda path: ["test" if path.stem.endswith("1") else "train", owner(path)])
    remarks = "\n".join(open_dataset(spec).survey().remarks)
    assert "9 of 9 groups in test are also in train ('owner1'; 10 test images)" in remarks
    clean = listed(photos, "split,group", lambda path: ["test" if "1" in owner(path) else "train", owner(path)])
    assert "also in" not in "\n".join(open_dataset(clean).survey().remarks)


IMAGES = np.random.default_rng(0).integers(0, 256, (40, 5, 6)).astype(np.uint8)
LABELS, GROUPS = np.arange(40) % 2, np.arange(40) // 4


@pytest.fixture
def npz(tmp_path, home):
    def write(**arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        return open_dataset(f"npz:{tmp_path / 'data.npz'}")

    return write


@pytest.mark.parametrize("groups", [GROUPS, GROUPS.astype(float), np.char.add("patient ", GROUPS.astype(str))])
def test_an_array_tells_groups(npz, groups):
    dataset = npz(images=IMAGES, labels=LABELS, groups=groups)
    own = {split: set(dataset.groups(split)) for split in dataset.splits}
    assert not own["train"] & own["test"] and len(own["train"] | own["test"]) == 10
    assert dataset.survey().rule == 3 and dataset.fingerprint() != npz(images=IMAGES, labels=LABELS).fingerprint()


def test_arrays_of_groups_for_each_part(npz):
    parts = {"x_train": IMAGES[:30], "y_train": LABELS[:30], "x_test": IMAGES[30:], "y_test": LABELS[30:]}
    plain = npz(**parts).fingerprint()
    dataset = npz(**parts, groups_train=GROUPS[:30], test_groups=GROUPS[30:])
    assert len(set(dataset.groups("train"))) == 8 and dataset.groups("test").max() == 9
    assert "1 of 3 groups in test is also in train ('7'; 2 test images)" in dataset.survey().remarks[0]
    assert dataset.survey().rule == 1 and plain
    with pytest.raises(UserError, match="has groups, and no array of them for test"):
        npz(**parts, groups_train=GROUPS[:30])


@pytest.mark.parametrize(
    ("groups", "complaint"),
    [
        (GROUPS[:5], "5 entries in 'groups' for 40 images"),
        (np.where(np.arange(40) == 3, "", "a"), "'' in row 3, which stands for no group"),
        (np.ones((40, 2), int), "one number or word per image"),
    ],
)
def test_arrays_that_are_no_groups(npz, groups, complaint):
    with pytest.raises(UserError, match=complaint):
        npz(images=IMAGES, labels=LABELS, groups=groups).fingerprint()


def test_an_expression_that_takes_for_ever_is_ended(monkeypatch):
    monkeypatch.setattr("features.datasets.listed._MOST_SECONDS", 0.2)
    with pytest.raises(UserError, match=r"--group-by \(a\+\)\+\$: it takes more than"):
        groups_in(["a" * 60 + "!/1.png"], "(a+)+$")
    assert groups_in(["ab/1.png"], "(a.)/") == ("ab",)
