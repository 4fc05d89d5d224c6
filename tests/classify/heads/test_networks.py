"""Networks above a cut as classifiers: cache and loop agree, what is frozen stays, runs repeat and resume."""

import dataclasses
from collections import OrderedDict

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits

from classify.heads.network import NETWORKS
from classify.heads.network.classifier import NetworkClassifier
from classify.heads.network.network import Network, layer_below, unfreeze_points
from classify.heads.network.settings import TrainingSettings
from extract.extraction import extract
from features.backbones import kept_backbone, load_backbone
from features.cut import Cut
from features.datasets import open_dataset
from features.errors import UserError
from features.preprocessing import AS_THE_WEIGHTS_WANT
from features.reading import load_features
from features.request import Request, plan
from features.weights import state_sha256

SETTINGS = TrainingSettings(epochs=2, batch_size=16, precision="float32", learning_rate=1e-3)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("resnet18", "random")


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    return np.round(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8), labels


def classifier(backbone, unfreeze="layer4", settings=SETTINGS, **options):
    return NetworkClassifier(backbone, unfreeze=unfreeze, image_size=32, settings=settings, device="cpu", **options)


def weights_of(fitted):
    return fitted.network_.model.state_dict()


def assert_same_weights(first, second):
    assert all(torch.equal(a, b) for a, b in zip(weights_of(first).values(), weights_of(second).values(), strict=True))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_training_from_the_cache_equals_training_with_the_frozen_part_in_the_loop(home, optimizer):
    request = Request(
        dataset="digits", layers=("layer3",), pools=("none",), weights="random", image_size=32, limit=64,
        precision="float32", device="cpu",
    )  # fmt: skip
    answer = plan(request)
    training = tuple(wanted for wanted in answer.wanted if wanted.split == "train")
    extract(dataclasses.replace(answer, wanted=training), say=lambda text: None)
    options = {field.name: getattr(request, field.name) for field in dataclasses.fields(request)}
    options = {name: options[name] for name in ("weights", "image_size", "limit", "precision", "device")}
    maps, labels = load_features("digits", "layer3", "train", "none", **options)
    assert maps.shape == (64, 256, 2, 2)
    split = open_dataset("digits").load("train")
    from features.rows import limit_rows

    images = split.images[limit_rows(split.labels, 64, request.seed)]
    settings = dataclasses.replace(SETTINGS, optimizer=optimizer)
    backbone = load_backbone("resnet18", "random")
    looped = classifier(backbone, settings=settings).fit(images, labels)
    cached = classifier(backbone, settings=settings).fit(maps, labels)
    assert looped.n_iter_ == 8
    for name, value in weights_of(looped).items():
        torch.testing.assert_close(weights_of(cached)[name], value, rtol=0, atol=1e-5, msg=name)
    np.testing.assert_allclose(cached.predict_proba(maps), looped.predict_proba(images), atol=1e-5)
    half = classifier(backbone, settings=settings).fit(maps.astype(np.float16), labels)
    assert (half.predict(maps) == looped.predict(images)).mean() > 0.95


def test_what_is_frozen_and_the_backbone_are_byte_for_byte_unchanged(backbone, digits):
    images, labels = digits
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    fitted = classifier(backbone, regularizers=("stochnorm", "co-tuning")).fit(images[:64], labels[:64])
    assert all(torch.equal(before[name], value) for name, value in backbone.model.state_dict().items())
    after = weights_of(fitted)
    trained = set(fitted.network_.tail.state_dict())
    assert {name.split(".")[0] for name in trained} == {"layer4", "fc"}
    for name, value in before.items():
        if name not in trained:
            assert value.numpy().tobytes() == after[name].numpy().tobytes(), name
    assert not torch.equal(after["layer4.0.bn1.running_mean"], before["layer4.0.bn1.running_mean"])
    assert not any(hooks for module in fitted.network_.model.modules() for hooks in module._forward_hooks.values())


def test_a_frozen_half_takes_no_memory_of_its_own_and_nothing_writes_into_the_backbones(digits):
    backbone = load_backbone("vit_b_32", "random")  # linear layers are laid out alike for training
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    network = Network(backbone, 10, point="fc", seed=1)
    apart = {
        name
        for name, value in network.model.state_dict().items()
        if value.data_ptr() != backbone.model.state_dict()[name].data_ptr()
    }
    assert apart == {"heads.head.weight", "heads.head.bias"}
    with pytest.raises(UserError, match="would be frozen"):
        Network(backbone, 10, point="fc", fresh_above="input", seed=1)
    Network(backbone, 10, point="all", fresh_above="input", seed=1)
    other = load_backbone("vit_b_32", "random", 7).model
    with torch.no_grad():
        other.heads = torch.nn.Sequential(OrderedDict(head=torch.nn.Linear(768, 10)))
    network.take(other)
    assert all(torch.equal(value, network.model.state_dict()[name]) for name, value in other.state_dict().items())
    assert all(torch.equal(before[name], value) for name, value in backbone.model.state_dict().items())


def test_frozen_batch_norm_keeps_its_statistics_and_scales(backbone, digits):
    images, labels = digits
    settings = dataclasses.replace(SETTINGS, batch_norm="freeze", epochs=1)
    fitted = classifier(backbone, settings=settings).fit(images[:64], labels[:64])
    before, after = backbone.model.state_dict(), weights_of(fitted)
    for name in fitted.network_.normalisation | {"layer4.0.bn1.running_mean", "layer4.1.bn2.running_var"}:
        assert torch.equal(before[name], after[name])
    assert not torch.equal(before["layer4.0.conv1.weight"], after["layer4.0.conv1.weight"])
    assert fitted.trained_parameters_ < sum(p.numel() for p in fitted.network_.tail.parameters())


def test_the_same_seed_gives_the_same_weights_and_another_one_does_not(backbone, digits):
    images, labels = digits
    settings = dataclasses.replace(SETTINGS, augment=("shift", "rotate"), epochs=1)
    first = classifier(backbone, settings=settings).fit(images[:48], labels[:48])
    torch.rand(3)
    again = clone(first).fit(images[:48], labels[:48])
    assert_same_weights(first, again)
    other = classifier(backbone, settings=dataclasses.replace(settings, seed=1)).fit(images[:48], labels[:48])
    assert not torch.equal(weights_of(first)["layer4.0.conv1.weight"], weights_of(other)["layer4.0.conv1.weight"])


@pytest.mark.parametrize("regularizers", [(), ("co-tuning=1", "stochnorm")])
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(backbone, digits, tmp_path, regularizers):
    images, labels = digits
    held = images[64:96], labels[64:96]
    settings = dataclasses.replace(SETTINGS, epochs=4)
    whole = classifier(backbone, settings=settings, regularizers=regularizers).fit(images[:64], labels[:64], held)

    def kill(epoch):
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    killed = classifier(backbone, settings=settings, regularizers=regularizers)
    with pytest.raises(KeyboardInterrupt):
        killed.fit(images[:64], labels[:64], held, checkpoint=tmp_path / "run", on_epoch=kill)
    epochs = []
    killed.fit(
        images[:64], labels[:64], held, checkpoint=tmp_path / "run", on_epoch=lambda epoch: epochs.append(epoch.epoch)
    )
    assert epochs in ([3, 4], [2, 3, 4])
    assert_same_weights(whole, killed)
    assert killed.best_epoch_ == whole.best_epoch_
    assert [epoch.loss for epoch in killed.history_] == [epoch.loss for epoch in whole.history_]
    assert {path.suffix for path in (tmp_path / "run").iterdir()} == {".json", ".safetensors"}
    # Once more: the run is over, nothing is trained again.
    killed.fit(
        images[:64], labels[:64], held, checkpoint=tmp_path / "run", on_epoch=lambda epoch: pytest.fail("trained")
    )
    assert_same_weights(whole, killed)
    faster = dataclasses.replace(settings, learning_rate=0.5)
    other = classifier(backbone, settings=faster, regularizers=regularizers)
    with pytest.raises(UserError, match=r"learning_rate 0.001 instead of 0.5"):
        other.fit(images[:64], labels[:64], held, checkpoint=tmp_path / "run")


def test_the_best_epoch_is_kept_and_training_stops_when_patience_ends(backbone, digits):
    images, labels = digits
    held = images[64:128], labels[64:128]
    settings = dataclasses.replace(SETTINGS, epochs=8, patience=1, learning_rate=0.02, schedule="constant")
    fitted = classifier(backbone, settings=settings).fit(images[:64], labels[:64], held)
    accuracies = [epoch.validation_accuracy for epoch in fitted.history_]
    assert accuracies[fitted.best_epoch_ - 1] == max(accuracies)
    assert (fitted.predict(held[0]) == held[1]).mean() == pytest.approx(max(accuracies))
    assert fitted.stopped_early_ == (len(accuracies) < 8)
    assert fitted.stopped_early_
    assert fitted.converged_


def test_a_fixed_number_of_steps_overrides_epochs(backbone, digits):
    images, labels = digits
    settings = dataclasses.replace(SETTINGS, steps=7, epochs=100)
    fitted = classifier(backbone, unfreeze="fc", settings=settings).fit(
        images[:32], labels[:32], (images[32:64], labels[32:64])
    )
    assert fitted.n_iter_ == 7
    assert fitted.history_[-1].step == 7
    assert fitted.best_epoch_ == 4


def test_from_scratch_nothing_of_the_backbone_is_left(backbone, digits):
    images, labels = digits
    scratch = NETWORKS["scratch"].build(
        backbone=backbone, image_size=32, settings=dataclasses.replace(SETTINGS, epochs=1)
    )
    scratch.fit(images[:32], labels[:32])
    assert scratch.network_.transferred == frozenset()
    network = Network(backbone, 10, fresh_above="layer2", image_size=32)
    assert {name.split(".")[0] for name in network.transferred} == {"conv1", "bn1", "layer1", "layer2"}
    state, source = network.model.state_dict(), backbone.model.state_dict()
    assert torch.equal(state["layer2.0.conv1.weight"], source["layer2.0.conv1.weight"])
    assert not torch.equal(state["layer3.0.conv1.weight"], source["layer3.0.conv1.weight"])
    with pytest.raises(UserError, match="would be frozen"):
        Network(backbone, 10, point="fc", fresh_above="layer2", image_size=32)


def test_starting_from_a_probe_begins_with_a_lower_loss(standin, digits):
    images, labels = digits
    backbone = load_backbone("resnet18", str(standin))
    losses = {}
    for start in ("random", "probe"):
        settings = dataclasses.replace(SETTINGS, init_head=start, steps=4, learning_rate=1e-5)
        losses[start] = classifier(backbone, settings=settings).fit(images[:64], labels[:64]).history_[0].loss
    assert losses["probe"] < 0.5 * losses["random"]


def test_labels_of_any_kind_and_two_classes(backbone, digits):
    images, labels = digits
    names = np.where(labels < 5, "low", "high")
    settings = dataclasses.replace(SETTINGS, init_head="probe", epochs=1)
    held = images[64:128], names[64:128]
    fitted = classifier(backbone, unfreeze="fc", settings=settings).fit(images[:64], names[:64], held)
    assert fitted.history_[0].validation_accuracy == (fitted.predict(held[0]) == held[1]).mean()
    assert list(fitted.classes_) == ["high", "low"]
    np.testing.assert_allclose(fitted.predict_proba(images[:8]).sum(1), 1)
    assert set(fitted.predict(images[:8])) <= {"high", "low"}


def test_a_saved_network_predicts_the_same_and_is_a_file_of_weights(backbone, digits, tmp_path):
    images, labels = digits
    fitted = classifier(backbone).fit(images[:32], labels[:32])
    fitted.save(tmp_path)
    loaded = NetworkClassifier.load(tmp_path, device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(images[:20]), fitted.predict_proba(images[:20]))
    assert loaded.history_ == fitted.history_
    again = load_backbone("resnet18", str(tmp_path / "network.safetensors"))
    assert again.weights_sha256 == state_sha256(fitted.network_.model)
    content = bytearray((tmp_path / "network.safetensors").read_bytes())
    content[-100] ^= 1
    (tmp_path / "network.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="network.safetensors is damaged"):
        NetworkClassifier.load(tmp_path)


@pytest.mark.parametrize(("name", "point"), [("mobilenet_v2", "fc"), ("squeezenet1_1", "all"), ("convnext_tiny", "fc")])
def test_any_backbone_trains_from_any_point(digits, name, point):
    images, labels = digits
    settings = dataclasses.replace(SETTINGS, epochs=1, batch_size=4)
    network = NetworkClassifier(
        load_backbone(name, "random"), unfreeze=point, image_size=32, settings=settings, device="cpu"
    )
    network.fit(images[:12], labels[:12])
    assert network.predict_proba(images[:5]).shape == (5, len(np.unique(labels[:12])))


def test_unfreeze_points_name_the_layer_below(backbone):
    cut = Cut(backbone.model, 32)
    assert unfreeze_points(cut) == ("fc", "layer4", "layer3", "layer2", "layer1", "all")
    below = {point: layer_below(cut, point) for point in unfreeze_points(cut)}
    cuts = {"fc": "avgpool", "layer4": "layer3", "layer3": "layer2", "layer2": "layer1"}
    assert below == {**cuts, "layer1": "maxpool", "all": "input"}
    with pytest.raises(UserError, match="did you mean layer4"):
        layer_below(cut, "layer5")
    with pytest.raises(UserError, match="choose from fc, layer4"):
        layer_below(cut, "avgpool")


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({"learning_rate": 1e20, "optimizer": "sgd"}, {}, r"epoch \d+ .*learning rate of .*try --lr"),
        ({"batch_size": 1}, {}, "batches of one image"),
        ({}, {"classes": 100}, "100 classes and only 32 training images"),
        ({}, {"classes": 5}, "none of the 5 classes"),
        ({}, {"unfreeze": "layer9"}, "choose from"),
        ({}, {"regularizers": ("l2sp",)}, "did you mean l2-sp"),
        ({"batch_norm": "freeze"}, {"regularizers": ("stochnorm",)}, "--batch-norm train"),
        ({"batch_norm": "freeze"}, {"unfreeze": "all", "fresh_above": "input"}, "no statistics worth freezing"),
    ],
)
def test_mistakes_are_one_line_with_the_way_out(backbone, digits, changes, options, words):
    images, labels = digits
    settings = dataclasses.replace(SETTINGS, **changes)
    network = classifier(backbone, settings=settings, **{"unfreeze": "layer4", **options})
    with pytest.raises(UserError, match=words) as caught:
        network.fit(images[:32], labels[:32])
    assert "\n" not in str(caught.value)


def test_input_that_does_not_fit_is_refused(backbone, digits):
    images, labels = digits
    maps = np.zeros((32, 256, 2, 2), np.float32)
    with pytest.raises(UserError, match="takes uint8 images"):
        classifier(backbone, unfreeze="all").fit(maps, labels[:32])
    with pytest.raises(UserError, match="--pool none"):
        classifier(backbone).fit(maps[:, :, :1, :1], labels[:32])
    augmented = dataclasses.replace(SETTINGS, augment=("shift",))
    with pytest.raises(UserError, match="augment needs images"):
        classifier(backbone, settings=augmented).fit(maps, labels[:32])
    with pytest.raises(UserError, match="one label for each"):
        classifier(backbone).fit(images[:32], labels[:31])
    with pytest.raises(UserError, match="validation rows have the label 3"):
        classifier(backbone).fit(
            images[:32][labels[:32] != 3], labels[:32][labels[:32] != 3], (images[:32], labels[:32])
        )


@pytest.mark.parametrize("name", ["co-tuning", "ewc"])
def test_weights_without_a_classifier_train_but_have_no_source_head(backbone, digits, tmp_path, name):
    images, labels = digits
    state = {key: value for key, value in backbone.model.state_dict().items() if not key.startswith("fc.")}
    torch.save(state, tmp_path / "headless.pth")
    headless = load_backbone("resnet18", str(tmp_path / "headless.pth"))
    fitted = classifier(headless, settings=dataclasses.replace(SETTINGS, epochs=1)).fit(images[:32], labels[:32])
    assert fitted.predict(images[:4]).shape == (4,)
    with pytest.raises(UserError, match="came without one"):
        classifier(headless, regularizers=(name,)).fit(images[:32], labels[:32])


@pytest.mark.parametrize(
    "options",
    [
        {"unfreeze": "all"},
        {"unfreeze": "layer4", "regularizers": ("l2-sp",)},
        {"unfreeze": "all", "regularizers": ("delta",)},
        {"unfreeze": "layer3", "fresh_above": "layer3"},
        {"unfreeze": "all", "fresh_above": "input"},
        {"unfreeze": "all", "until": "layer1"},
    ],
    ids=str,
)
def test_a_network_that_others_read_as_well_is_left_as_it_is(home, digits, options):
    images, labels = digits
    settings = dataclasses.replace(SETTINGS, epochs=1)
    trained = NetworkClassifier("resnet18", weights="random", image_size=32, settings=settings, device="cpu", **options)
    shared = kept_backbone("resnet18", "random", 0, AS_THE_WEIGHTS_WANT)
    trained.fit(images[:32], labels[:32])
    assert trained.network_.backbone is shared is kept_backbone("resnet18", "random", 0, AS_THE_WEIGHTS_WANT)
    assert state_sha256(shared.model) == shared.weights_sha256
    assert not shared.model.training
    assert not any(parameter.requires_grad for parameter in shared.model.parameters())
