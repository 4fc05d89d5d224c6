"""Lists of images as programs and people write them: columns, separators, encodings, paths and labels of all kinds."""

import shutil

import numpy as np
import pytest
from PIL import Image

from features.datasets import open_dataset
from features.datasets.labels import alike_classes, settled_labels
from features.errors import UserError


@pytest.fixture
def photos(tmp_path, home):
    """Five images of each of two classes in `p/cat` and `p/dog`, every one different, and a folder for the list."""
    for shade, name in enumerate(("cat", "dog")):
        (tmp_path / "p" / name).mkdir(parents=True)
        for number in range(5):
            pixels = np.arange(16, dtype=np.uint8).reshape(4, 4) * 8 + 40 * shade + number
            Image.fromarray(pixels).save(tmp_path / "p" / name / f"{number}.png")
    return tmp_path


IMAGES = [(f"p/{name}/{number}.png", name) for name in ("cat", "dog") for number in range(5)]


def rows(separator=",", images=IMAGES):
    return "\n".join(separator.join(row) for row in images)


def opened(photos, text, query="", encoding="utf-8"):
    (photos / "l.csv").write_bytes(text.encode(encoding))
    return open_dataset(f"csv:{photos / 'l.csv'}{query}")


def read(dataset):
    """Paths and labels of all rows, as the list of the class's name by the file's."""
    pairs = {}
    for split in dataset.splits:
        data = dataset.load(split)
        pairs |= {path: dataset.classes[label] for path, label in zip(data.images.paths, data.labels, strict=True)}
    return pairs


def expected(photos):
    return {photos / path: name for path, name in IMAGES}


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", ["path,label\n", "file_name,label\n", "Image_ID,Category\n", ""])
def test_separators_with_and_without_header(photos, separator, header):
    text = header.replace(",", separator) + rows(separator)
    assert read(opened(photos, text)) == expected(photos)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings(photos, encoding):
    text = "\ufeffpath\tlabel\n" if encoding == "utf-16-le" else "path\tlabel\n"
    assert read(opened(photos, text + rows("\t"), encoding=encoding)) == expected(photos)


def test_paths_of_other_systems(photos):
    text = rows(images=[(path.replace("/", "\\"), name) for path, name in IMAGES])
    assert read(opened(photos, f"path,label\n{text}")) == expected(photos)
    absolute = rows(images=[(str(photos / path), name) for path, name in IMAGES])
    assert read(opened(photos, f"path,label\n{absolute}")) == expected(photos)
    with pytest.raises(UserError, match=r"line 2: there is no file .*C:\\me\\x.png"):
        opened(photos, f"path,label\nC:\\me\\x.png,cat\n{rows()}")


def test_identifiers_without_an_ending_in_the_folder_beside(photos):
    (photos / "train").mkdir()
    for path, name in IMAGES:
        shutil.move(photos / path, photos / "train" / f"{name}{path[-5:]}")
    text = "id,breed\n" + "\n".join(f"{name}{path[-5]},{name} dane" for path, name in IMAGES)
    with pytest.raises(UserError, match="no column 'label'; its header is id, breed: say .* --label-column breed"):
        opened(photos, text)
    dataset = opened(photos, text, "?label=breed")
    assert dataset.classes == ("cat dane", "dog dane") and dataset.spec.endswith("l.csv?label=breed")
    assert set(read(dataset)) == {photos / "train" / f"{name}{path[-5:]}" for path, name in IMAGES}
    assert open_dataset(dataset.spec).fingerprint() == dataset.fingerprint()
    some = open_dataset(f"{dataset.spec}[dog dane,cat dane]")
    assert some.classes == ("dog dane", "cat dane")
    shutil.copytree(photos / "train", photos / "test")
    with pytest.raises(UserError, match=r"cat0 stands in several folders \(test, train\); write the folder in front"):
        opened(photos, text, "?label=breed&path=id")


def test_a_header_that_says_nothing_is_answered_with_the_options(photos):
    with pytest.raises(
        UserError, match="names neither path nor label; say which .* --path-column foo --label-column bar"
    ):
        opened(photos, "foo,bar\n" + rows())
    assert read(opened(photos, "foo,bar\n" + rows(), "?path=foo&label=bar")) == expected(photos)
    with pytest.raises(UserError, match="no column 'baz'; its header is foo, bar: correct --label-column"):
        opened(photos, "foo,bar\n" + rows(), "?path=foo&label=baz")
    with pytest.raises(UserError, match="names no column; write "):
        opened(photos, rows(), "?sep=x")


def test_two_columns_for_the_label_are_refused_unless_they_say_the_same(photos):
    text = "path,class,label\n" + "\n".join(f"{path},{name},{path[-5]}" for path, name in IMAGES)
    with pytest.raises(UserError, match="the columns class and label, and either could be the label; say which"):
        opened(photos, text)
    assert opened(photos, text, "?label=class").classes == ("cat", "dog")
    same = "path,class,label\n" + "\n".join(f"{path},{name},{int(name == 'dog')}" for path, name in IMAGES)
    assert opened(photos, same).classes == ("cat", "dog")


def test_of_two_columns_for_the_path_the_one_with_files_counts(photos):
    text = "image,path,label\n" + "\n".join(f"{number},{path},{name}" for number, (path, name) in enumerate(IMAGES))
    assert read(opened(photos, text)) == expected(photos)


@pytest.mark.parametrize("line", ["p/cat/0.png,dog", "./p/cat/0.png,dog", "p\\cat\\0.png,dog"])
def test_an_image_under_two_labels_is_refused(photos, line):
    with pytest.raises(UserError, match="lines 2 and 12: .*0.png is labelled 'cat' and 'dog'"):
        opened(photos, f"path,label\n{rows()}\n{line}\n")


def test_several_labels_in_a_cell_are_refused(photos):
    images = [*IMAGES[1:], ("p/cat/0.png", '"cat,dog"')]
    with pytest.raises(UserError, match=r"the label 'cat,dog' is 2 labels \('cat' is a class as well\)"):
        opened(photos, f"path,label\n{rows(images=images)}")


def test_a_number_spelled_twice_is_one_class(photos):
    images = [(path, {"cat": "1", "dog": "2.0"}[name] if number % 2 else {"cat": "1.0", "dog": "2"}[name])
              for number, (path, name) in enumerate(IMAGES)]  # fmt: skip
    dataset = opened(photos, f"path,label\n{rows(images=images)}")
    assert dataset.classes == ("1", "2") and dataset.survey().rule == 2
    assert "the labels '1' and '1.0' are one number and one class, '1'" in dataset.survey().remarks[0]
    floats = [(path, f"{number % 2}.0") for number, (path, _) in enumerate(IMAGES)]
    dataset = opened(photos, f"path,label\n{rows(images=floats)}")
    assert dataset.classes == ("0.0", "1.0") and dataset.survey().rule == 1


@pytest.mark.parametrize("label", ["NaN", "nan", "<NA>", "NULL"])
def test_labels_that_stand_for_none_are_refused(photos, label):
    with pytest.raises(UserError, match=f"1 rows have the label '{label}', which stands for none"):
        opened(photos, f"path,label\n{rows(images=[*IMAGES[1:], ('p/cat/0.png', label)])}")


def test_none_is_a_class_among_words_and_missing_among_numbers():
    names, remarks = settled_labels(["rust", "None", "crack", "None"], "here")
    assert names == ["rust", "None", "crack", "None"] and remarks == ["'None' is read as a class like others (2 rows)"]
    with pytest.raises(UserError, match="stands for none"):
        settled_labels(["1", "2", "None"], "here")


def test_classes_that_are_called_almost_alike_are_said(photos):
    images = [(path, ("Cat", "cat ", "golden retriever")[number % 3]) for number, (path, _) in enumerate(IMAGES)]
    dataset = opened(photos, f"path,label\n{rows(images=images)}")
    assert dataset.classes == ("Cat", "cat", "golden retriever")
    assert "the classes 'Cat' and 'cat' are called almost alike" in dataset.survey().remarks[0]
    assert alike_classes(("a", "b", "golden_retriever", "Golden Retriever")) is not None
    assert alike_classes(("a", "b")) is None


def test_files_of_one_list_in_train_and_test_are_said(photos):
    text = "path,label,split\n" + "\n".join(
        f"{path},{name},{part}" for part in ("Training", "TEST") for path, name in IMAGES
    )
    remark, *_ = opened(photos, text).survey().remarks
    assert "10 of 10 test images are also in train (p/cat/0.png, the same file)" in remark


def test_rows_for_validation_are_a_split_beside_a_test_set(photos):
    def split(*names):
        lines = [f"{path},{name},{names[number % len(names)]}" for number, (path, name) in enumerate(IMAGES)]
        return opened(photos, "path,label,split\n" + "\n".join(lines))

    three = split("train", "valid", "test")
    assert {part: len(three.load(part).labels) for part in three.splits} == {"train": 4, "validation": 3, "test": 3}
    assert "3 rows are for validation" in three.survey().remarks[0] and three.survey().rule == 2
    two = split("train", "val")
    assert two.splits == ("train", "test") and "are the test set, since there is no other" in two.survey().remarks[0]
    assert two.survey().rule == 1
    assert split("val", "test").splits == ("test",)


def test_a_column_called_set_says_the_split_only_where_it_means_parts(photos):
    parts = [f"{path},{name},{('train', 'test')[number % 2]}" for number, (path, name) in enumerate(IMAGES)]
    assert len(opened(photos, "path,label,set\n" + "\n".join(parts)).load("test").labels) == 5
    others = [f"{path},{name},{('A', 'B')[number % 2]}" for number, (path, name) in enumerate(IMAGES)]
    assert len(opened(photos, "path,label,set\n" + "\n".join(others)).load("test").labels) == 2


@pytest.mark.parametrize(
    ("column", "yes", "splits"),
    [
        ("is_valid", "True", {"train": 8, "test": 2}),
        ("is_test", "1", {"train": 8, "test": 2}),
        ("is_train", "yes", {"train": 2, "test": 8}),
    ],
)
def test_a_column_that_says_of_each_row_whether_it_is_of_a_part(photos, column, yes, splits):
    no = {"True": "False", "1": "0", "yes": "no"}[yes]
    lines = [f"{path},{name},{yes if path[-5] == '4' else no}" for path, name in IMAGES]
    text = f"path,label,{column}\n" + "\n".join(lines)
    dataset = opened(photos, text)
    assert {part: len(dataset.load(part).labels) for part in dataset.splits} == splits
    assert dataset.survey().rule == 2


def test_folds_are_not_read_and_that_is_said(photos):
    lines = [f"{path},{name},{path[-5]}" for path, name in IMAGES]
    dataset = opened(photos, "path,label,fold\n" + "\n".join(lines))
    assert "the column fold names no part for each row, and is not read" in dataset.survey().remarks[0]
    assert len(dataset.load("test").labels) == 2 and dataset.survey().rule == 1


def test_a_list_of_excel_says_its_separator(photos):
    assert read(opened(photos, "sep=;\r\npath;label\r\n" + rows(";"))) == expected(photos)
    with pytest.raises(UserError, match="is empty"):
        opened(photos, "sep=;\n")
    with pytest.raises(UserError, match="line 3: there is no file"):
        opened(photos, "sep=;\npath;label\nnowhere.png;cat\n" + rows(";"))


def test_paths_in_another_column_without_a_header(photos):
    text = "\n".join(f"{number},{path},{name}" for number, (path, name) in enumerate(IMAGES))
    with pytest.raises(UserError, match="no header, and its paths are in column 2; put a line with the columns' names"):
        opened(photos, text)


def test_a_folder_with_a_list_beside_its_images_names_it(photos):
    (photos / "p" / "cat" / "labels.csv").write_text("id,label\n")
    with pytest.raises(UserError, match="if labels.csv lists them with their labels, name csv:"):
        open_dataset(f"folder:{photos / 'p' / 'cat'}")
    with pytest.raises(UserError, match="is a folder; name the list in it"):
        open_dataset(f"csv:{photos}")


def test_all_lines_without_their_image_are_counted_at_once(tmp_path, home):
    (tmp_path / "l.csv").write_text("path,label\na.png,cat\nb.png,dog\nc.png,cat\n")
    with pytest.raises(UserError, match=r"line 2: there is no file .*a\.png.*so it is on 2 more of its lines"):
        open_dataset(f"csv:{tmp_path / 'l.csv'}")


@pytest.mark.parametrize("gone", [1, 3])
@pytest.mark.parametrize("parts", [(), ("train", "test"), ("train", "val", "test")])
def test_lines_without_their_image_are_left_out_where_unreadable_ones_are(photos, gone, parts):
    def text(images):
        lines = [
            ",".join((path, name, *([parts[int(path[-5]) % len(parts)]] if parts else []))) for path, name in images
        ]
        return "\n".join([f"path,label{',split' if parts else ''}", *lines])

    alone = opened(photos, text(IMAGES))
    absent = [(f"p/{name}/gone{number}.png", name) for number in range(gone) for name in ("cat", "dog")]
    with pytest.raises(UserError, match=r"gone0\.png.* more of its lines; or go on without with --skip-unreadable"):
        opened(photos, text(absent + IMAGES))
    for spec in (f"readable:csv:{photos / 'l.csv'}", f"readable:csv:{photos / 'l.csv'}[cat,dog]"):
        dataset = open_dataset(spec)
        assert dataset.spec == spec and dataset.splits == alone.splits
        assert {part: dataset.load(part).images.paths for part in dataset.splits} == {
            part: alone.load(part).images.paths for part in alone.splits
        }
    listed = open_dataset(f"readable:csv:{photos / 'l.csv'}")
    assert listed.fingerprint() == alone.fingerprint()
    left_out = f"{2 * gone} unreadable images are left out (p/cat/gone0.png: there is no such file"
    assert any(left_out in remark for remark in listed.survey().remarks)
    # What is there and broken is left out with them.
    (photos / IMAGES[0][0]).write_bytes(b"broken")
    both = open_dataset(f"readable:csv:{photos / 'l.csv'}")
    assert both.spec == listed.spec and len(both.files()) == len(IMAGES) - 1
    assert sum("left out" in remark for remark in both.survey().remarks) == 2


def test_a_list_none_of_whose_images_is_there_is_not_gone_on_without(photos):
    (photos / "l.csv").write_text("path,label\nC:\\x\\1.png,cat\nC:\\x\\2.png,dog\n")
    for spec in ("csv:", "readable:csv:"):
        with pytest.raises(UserError, match="1 more of its lines, which are all that it has$"):
            open_dataset(f"{spec}{photos / 'l.csv'}")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32"])
def test_a_text_of_wider_letters_without_its_mark_is_said_to_be_one(photos, encoding):
    with pytest.raises(UserError, match="it holds NUL bytes, as UTF-16 without its mark does; save it as UTF-8"):
        opened(photos, "path,label\n" + rows(), encoding=encoding)


def test_names_with_spaces_are_quoted_for_the_shell(photos):
    with pytest.raises(UserError, match="--path-column 'Image Index' --label-column 'Finding Labels'$"):
        opened(photos, "Image Index,Finding Labels\n" + rows())


def test_a_class_or_a_part_whose_images_are_all_absent_is_named(photos):
    (photos / "l.csv").write_text(
        "path,label\n" + "\n".join(f"{path},{name}" for path, name in IMAGES) + "\nx,elk\ny,elk\n"
    )
    with pytest.raises(UserError, match="no readable image of class 'elk'"):
        open_dataset(f"readable:csv:{photos / 'l.csv'}")
    lines = [f"{path},{name},train" for path, name in IMAGES] + ["gone.png,cat,test", ",dog,test"]
    (photos / "l.csv").write_text("path,label,split\n" + "\n".join(lines))
    with pytest.raises(UserError, match="no readable image of class 'cat' to test"):
        open_dataset(f"readable:csv:{photos / 'l.csv'}")


def test_a_link_that_leads_nowhere_is_left_out_of_a_folder_too(photos):
    (photos / "p" / "dog" / "lost.png").symlink_to(photos / "nowhere.png")
    with pytest.raises(UserError, match=r"lost\.png .*--skip-unreadable"):
        open_dataset(f"folder:{photos / 'p'}").fingerprint()
    dataset = open_dataset(f"readable:folder:{photos / 'p'}")
    assert len(dataset.files()) == len(IMAGES) and "1 unreadable image is left out" in dataset.survey().remarks[-1]


@pytest.mark.parametrize("text", [";", "|", ";;\n||", "sep=;\n;;", ",", '""', "\ufeff;"])
def test_a_list_of_nothing_but_separators_is_told_in_a_line(tmp_path, text):
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"list\.csv"):
        open_dataset(f"csv:{tmp_path / 'list.csv'}")
