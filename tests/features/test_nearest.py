"""What is suggested for a name that is none: what is near it, and nothing where nothing is."""

import pytest

from features.datasets.catalogue import open_dataset
from features.errors import UserError, nearest, unknown


@pytest.mark.parametrize(
    ("name", "names", "near"),
    [
        ("svn", ("svm", "knn", "ridge"), ("svm",)),
        ("nope", ("npz", "svhn", "mnist"), ()),
        ("ridgee", ("finetune", "ridge", "centroid"), ("ridge",)),
        ("acc", ("accuracy", "macro-f1", "log-loss"), ("accuracy",)),
        ("ResNet18", ("resnet18", "vgg16"), ("resnet18",)),
        ("zz", ("zzz-long-name",), ()),
        ("", ("mnist",), ()),
    ],
)
def test_names_are_near_by_a_slip_or_by_their_beginning(name, names, near):
    assert nearest(name, names) == near


def test_nothing_near_is_no_question():
    assert str(unknown("no head 'qqq'", "qqq", ("svm", "knn"))) == "no head 'qqq'; choose from svm, knn"


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("photos", "write folder:photos"),
        ("./photos", "write folder:./photos"),
        ("photo", "did you mean folder:photos?"),
        ("Photos", "did you mean folder:photos?"),
        ("marks.csv", "write csv:marks.csv"),
        ("mark.csv", "did you mean csv:marks.csv?"),
        ("arrays.npz", "write npz:arrays.npz"),
        ("photos/cat", "did you mean folder:photos/cats?"),
        ("nope.csv", "; the names are mnist"),
        ("nope", "; the names are mnist"),
        ("nope/folder", "; the names are mnist"),
        ("folders", "did you mean folder:PATH?"),
        ("cifar", "did you mean cifar10 or cifar100?"),
    ],
)
def test_a_data_set_that_is_none_gets_what_stands_there_or_is_near(tmp_path, monkeypatch, spec, hint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    (tmp_path / "marks.csv").touch()
    (tmp_path / "arrays.npz").touch()
    with pytest.raises(UserError) as complaint:
        open_dataset(spec)
    assert hint in str(complaint.value)
    assert ("did you mean" in str(complaint.value)) == hint.startswith("did")


def test_a_backbone_that_is_near_none_gets_what_there_is():
    from features.families import require_name

    with pytest.raises(UserError, match="no backbone 'qqq'; give any torchvision classifier; .*timm:NAME"):
        require_name("qqq")
    with pytest.raises(UserError, match="did you mean vit_"):
        require_name("vit")
