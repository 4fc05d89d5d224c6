"""What makes training stronger: warm-up, learning rates by stage, erased patches; all of it survives a kill."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from classify.heads.network.batches import augment_images, augmented
from classify.heads.network.classifier import NetworkClassifier
from classify.heads.network.optimising import build_optimizer, rate_factor, warmed_up
from classify.heads.network.settings import TrainingSettings
from features.backbones import load_backbone
from features.errors import UserError

ALL_ON = TrainingSettings(
    epochs=4, batch_size=16, precision="float32", learning_rate=1e-3, warmup=0.2, layer_decay=0.5,
    augment=("shift", "erase"),
)  # fmt: skip


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("resnet18", "random")


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    return np.round(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8), labels


def test_at_their_defaults_later_settings_are_in_no_record_and_both_forms_are_read():
    usual = TrainingSettings()
    assert {"warmup", "layer_decay"}.isdisjoint(usual.to_json())
    assert TrainingSettings.from_json(usual.to_json()) == usual
    assert ALL_ON.to_json()["layer_decay"] == 0.5
    assert TrainingSettings.from_json(ALL_ON.to_json()) == ALL_ON


@pytest.mark.parametrize(
    "wrong",
    [
        {"warmup": 1.0}, {"warmup": 0.1, "schedule": "one-cycle"}, {"layer_decay": 0.0}, {"layer_decay": 1.1},
    ],
)  # fmt: skip
def test_what_is_not_legal_is_refused_in_one_line(wrong):
    with pytest.raises(UserError) as caught:
        TrainingSettings(**wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("validated", [True, False])
def test_a_killed_run_with_everything_on_ends_with_the_weights_of_one_that_was_not(
    backbone, digits, tmp_path, validated
):
    images, labels = digits
    held = (images[64:96], labels[64:96]) if validated else None

    def classifier():
        return NetworkClassifier(backbone, unfreeze="layer4", image_size=32, settings=ALL_ON, device="cpu")

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


def test_the_rate_rises_along_a_line_to_where_the_schedule_begins():
    rates = [warmed_up("cosine", step, 20, 0, 1, 0.2) for step in range(20)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4:] == [rate_factor("cosine", step, 16, 0, 1) for step in range(16)]
    assert [warmed_up("cosine", step, 20, 0, 1, 0.0) for step in range(20)] == [
        rate_factor("cosine", step, 20, 0, 1) for step in range(20)
    ]


def test_each_stage_learns_at_a_share_of_the_rate_of_the_one_above_and_the_head_at_its_own():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    settings = TrainingSettings(layer_decay=0.5, head_multiple=10)
    below = {"0.weight": 1, "0.bias": 1, "1.weight": 0, "1.bias": 0}
    fast = frozenset({"2.weight", "2.bias"})
    optimizer = build_optimizer(settings, module.named_parameters(), fast, frozenset(), below)
    optimizer.step(0.1)
    rates = {id(p): group["lr"] for group in optimizer.inner.param_groups for p in group["params"]}
    assert {name: rates[id(p)] for name, p in module.named_parameters() if name.endswith("weight")} == {
        "0.weight": 0.05, "1.weight": 0.1, "2.weight": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_stages_of_any_backbone_are_counted_from_the_last(name):
    fitted = NetworkClassifier(
        load_backbone(name, "random"), image_size=64, settings=ALL_ON, classes=3,
        device="cpu",
    )  # fmt: skip
    fitted.check()
    network = fitted._network(fitted._backbone(), 3)
    below = fitted._trainee(network, ()).below
    stages = network.cut.inner_stages
    first = next(name for name, _ in network.tail.named_parameters())
    assert below[first] == max(below.values()) == len(set(below.values())) - 1
    assert len(set(below.values())) <= len(stages)
    assert network.new.isdisjoint(below)


def test_erasing_comes_after_what_was_drawn_before_there_was_such_a_thing():
    images, kinds = torch.rand(64, 3, 16, 16) + 1, ("shift", "rotate", "flip")
    draws = [np.random.default_rng(5) for _ in range(2)]
    before, after = augment_images(images, kinds, draws[0]), augmented(images, (*kinds, "erase"), draws[1])
    erased = (after == 0).all(1)
    torch.testing.assert_close(after, before.masked_fill(erased[:, None], 0.0), rtol=0, atol=0)
    assert torch.equal(augmented(images, kinds, np.random.default_rng(5)), before)
    shares = erased.float().mean((1, 2))
    assert 16 < int((shares > 0).sum()) < 48
    assert float(shares.max()) <= 0.4
    for patch in erased[shares > 0]:
        assert int(patch.sum()) == int(patch.any(0).sum()) * int(patch.any(1).sum())
