"""Learning rates that fall from stage to stage: what they are, for which backbones, and that a kill changes nothing."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from classify.heads.network.classifier import NetworkClassifier
from classify.heads.network.optimising import build_optimizer
from classify.heads.network.settings import TrainingSettings
from features.backbones import load_backbone
from features.errors import UserError

FALLING = TrainingSettings(
    epochs=3, batch_size=16, precision="float32", learning_rate=1e-3, layer_decay=0.5, augment=("shift",)
)


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("resnet18", "random")


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    return np.round(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8), labels


def test_at_its_default_the_setting_is_in_no_record_and_both_forms_are_read():
    usual = TrainingSettings()
    assert "layer_decay" not in usual.to_json()
    assert TrainingSettings.from_json(usual.to_json()) == usual
    assert FALLING.to_json()["layer_decay"] == 0.5
    assert TrainingSettings.from_json(FALLING.to_json()) == FALLING


@pytest.mark.parametrize("wrong", [0.0, 1.1])
def test_what_is_not_legal_is_refused(wrong):
    with pytest.raises(UserError, match="layer_decay=.* is not legal"):
        TrainingSettings(layer_decay=wrong)


@pytest.mark.parametrize("validated", [True, False])
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(backbone, digits, tmp_path, validated):
    images, labels = digits
    held = (images[64:96], labels[64:96]) if validated else None

    def classifier():
        return NetworkClassifier(backbone, unfreeze="layer3", image_size=32, settings=FALLING, device="cpu")

    def kill(epoch):
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    whole, killed = classifier().fit(images[:64], labels[:64], held), classifier()
    with pytest.raises(KeyboardInterrupt):
        killed.fit(images[:64], labels[:64], held, checkpoint=tmp_path / "run", on_epoch=kill)
    for _ in range(2):  # the second time the run is over
        killed.fit(images[:64], labels[:64], held, checkpoint=tmp_path / "run")
        assert [epoch.loss for epoch in killed.history_] == [epoch.loss for epoch in whole.history_]
        pairs = zip(*(fitted.network_.model.state_dict().values() for fitted in (whole, killed)), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def test_each_stage_learns_at_a_share_of_the_rate_of_the_one_above_and_the_head_at_its_own():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    settings = TrainingSettings(layer_decay=0.5, head_multiple=10)
    above = {"0.weight": 1, "0.bias": 1, "1.weight": 0, "1.bias": 0}
    fast = frozenset({"2.weight", "2.bias"})
    optimizer = build_optimizer(settings, module.named_parameters(), fast, frozenset(), above)
    optimizer.step(0.1)
    rates = {id(p): group["lr"] for group in optimizer.inner.param_groups for p in group["params"]}
    assert {name: rates[id(p)] for name, p in module.named_parameters() if name.endswith("weight")} == {
        "0.weight": 0.05, "1.weight": 0.1, "2.weight": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_stages_of_any_backbone_are_counted_from_the_last(name):
    fitted = NetworkClassifier(load_backbone(name, "random"), image_size=64, settings=FALLING, classes=3, device="cpu")
    fitted.check()
    network = fitted._network(fitted._backbone(), 3)
    above = fitted._trainee(network, ()).stages_above
    stages = network.cut.inner_stages
    first = next(name for name, _ in network.tail.named_parameters())
    assert above[first] == max(above.values()) == len(set(above.values())) - 1
    assert len(set(above.values())) <= len(stages)
    assert network.new.isdisjoint(above)
