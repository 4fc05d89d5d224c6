"""A data set that brings its own validation part: all is chosen on that, and every training row is learnt from."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from classify.experiments.kinds.classical import Classical
from classify.experiments.learning_rows import learning_rows, training_numbers
from classify.experiments.making import make
from classify.experiments.row import Row, network_row
from classify.experiments.settings import How, Settings
from classify.experiments.sources import CachedLayer, Images, Maps, Pixels, Rows
from classify.heads import HEADS
from classify.heads.network.settings import TrainingSettings
from extract.planning import plan
from features.blocks import Blocks, Stacked
from features.datasets import open_dataset
from features.errors import UserError
from features.request import Request

PARTS = {"train": 20, "val": 9, "test": 7}  # images of each class


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Real digits, 3 and 5, in folders for training, validation and test."""
    folder = tmp_path_factory.mktemp("own")
    images, labels = load_digits(return_X_y=True)
    for label in (3, 5):
        members = iter(np.flatnonzero(labels == label))
        for part, count in PARTS.items():
            (folder / "digits" / part / str(label)).mkdir(parents=True)
            for number in range(count):
                pixels = (images[next(members)].reshape(8, 8) * 15).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "digits" / part / str(label) / f"{number:02}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPROBE_HOME", str(folder / "home"))
        yield f"folder:{folder / 'digits'}"


def request(digits, **options):
    layers = options.pop("layers", ("layer1",))
    shared = {"weights": "random", "image_size": 32, "precision": "float32", "device": "cpu"}
    return Request(dataset=digits, layers=layers, **shared, **options).normalised()


def cached(digits, kind=CachedLayer, pool="avg", **options):
    source = kind(plan(request(digits, pools=(pool,), **options)), "layer1", pool)
    source.ensure()
    return source


def test_it_is_a_split_like_others_and_is_said(digits):
    dataset = open_dataset(digits)
    assert dataset.splits == ("train", "validation", "test")
    assert [len(dataset.load(split).labels) for split in dataset.splits] == [40, 18, 14]
    (remark,) = dataset.survey().remarks
    assert "val/ is the validation set, and what is chosen is chosen on it" in remark and dataset.survey().rule == 2


@pytest.mark.parametrize("kind", [CachedLayer, Maps, Images, Pixels])
def test_its_rows_stand_below_the_training_rows(digits, kind):
    if kind is Pixels:
        source = Pixels(request(digits), 8, False)
    elif kind is Images:
        source = Images(plan(request(digits)))
    else:
        source = cached(digits, kind, "avg" if kind is CachedLayer else "none")
    rows, train, validation = learning_rows(source, Settings())
    assert train.tolist() == list(range(40)) and validation.tolist() == list(range(40, 58))
    for split, numbers in (("train", train), ("validation", validation)):
        alone = source.read(split)
        assert np.array_equal(rows.labels[numbers], alone.labels)
        assert np.array_equal(rows.index[numbers], alone.index)
        if kind is Images:
            assert rows.features.paths[numbers[0] : numbers[-1] + 1] == alone.features.paths
        else:
            assert np.array_equal(np.asarray(rows.features[numbers]), np.asarray(alone.features))
    assert np.array_equal(training_numbers(source, source.read("train").labels, Settings()), train)


def test_features_may_stay_in_the_store(digits):
    source = cached(digits)
    rows, train, validation = learning_rows(source, Settings(blocks="on"))
    array, _, _ = learning_rows(source, Settings(blocks="off"))
    assert isinstance(rows.features, Stacked) and isinstance(rows.features, Blocks)
    assert np.array_equal(rows.features[:], array.features) and len(rows.features) == 58
    mixed = np.array([57, 0, 41, 39])
    assert np.array_equal(rows.features.take(mixed)[1:3], array.features[mixed][1:3])
    assert np.array_equal(rows.features.take(validation)[validation < 50], array.features[40:50])
    assert rows.features.nbytes == array.features.nbytes


def test_limits_take_as_many_of_it_as_of_the_training_rows(digits):
    source = cached(digits, limit=10, limit_test=6)
    rows, train, validation = learning_rows(source, Settings())
    assert len(train) == len(validation) == 10 and len(source.read("test").labels) == 6
    assert np.bincount(rows.labels[validation]).tolist() == [5, 5]


def test_classes_that_no_training_row_has_are_not_chosen_on(digits):
    only_fives = lambda rows: Rows(rows.features[20:], rows.labels[20:], rows.index[20:])  # noqa: E731
    rows, train, validation = learning_rows(cached(digits), Settings(), only_fives)
    assert len(train) == 20 and len(validation) == 9 and rows.labels[validation].tolist() == [1] * 9


def test_without_choice_it_is_not_read(digits):
    rows, train, validation = learning_rows(cached(digits), Settings(validation=False))
    assert len(rows.labels) == len(train) == 40 and not len(validation)


@pytest.mark.parametrize("refit", [True, False])
def test_a_head_is_chosen_on_it(digits, tmp_path, refit):
    source = cached(digits)
    row = Row(source=source, head=Classical(head=HEADS["ridge"]), settings=Settings(refit=refit))
    saved = make(row, How(folder=tmp_path))
    result, kept = saved.result, saved.predictions()
    assert (result.rows["train"], result.rows["validation"], result.rows["test"]) == (40, 18, 14)
    assert kept.validation_rows.tolist() == list(range(18))
    held = source.read("validation")
    assert result.validation_accuracy == np.mean(kept.validation_predicted == held.labels)
    assert {"train layer1", "validation layer1", "test layer1"} == set(result.keys)
    train = source.read("train")
    both = [np.concatenate([train.features, held.features]), np.concatenate([train.labels, held.labels])]
    head = HEADS["ridge"].build(seed=0, **result.chosen).fit(*(both if refit else (train.features, train.labels)))
    assert np.array_equal(head.predict(source.read("test").features), kept.predicted)


def test_a_network_is_chosen_on_it(digits, tmp_path):
    training = TrainingSettings(epochs=1, precision="float32")
    saved = make(network_row(request(digits), "finetune", unfreeze="layer4", training=training), How(folder=tmp_path))
    assert (saved.result.rows["train"], saved.result.rows["validation"]) == (40, 18)
    kept, labels = saved.predictions(), open_dataset(digits).load("validation").labels
    assert saved.result.validation_accuracy == np.mean(kept.validation_predicted == labels[kept.validation_rows])


def test_a_data_set_without_it_holds_rows_out_as_ever(digits):
    source = cached(f"folder:{open_dataset(digits).root / 'train'}")
    rows, train, validation = learning_rows(source, Settings())
    assert len(train) + len(validation) == 32 and len(validation) == 4
    with pytest.raises(UserError, match="class '3' has one image among the 2 training rows"):
        learning_rows(cached(f"folder:{open_dataset(digits).root / 'train'}", limit=2), Settings())
