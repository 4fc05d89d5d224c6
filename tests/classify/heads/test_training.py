"""The training loop's parts: settings, learning rates, batches, augmentation, memory, and what a checkpoint keeps."""

import contextlib
import json
import math
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from classify.heads.network.batches import ImageSource, MapSource, augment_images, even_batches
from classify.heads.network.checkpoint import Checkpoint, RunState
from classify.heads.network.optimising import build_optimizer, rate_factor
from classify.heads.network.settings import TrainingSettings
from classify.heads.network.training import Labelled
from classify.heads.regularizers.protocol import Regularizer
from features.digests import sha256_json
from features.errors import UserError
from tests.classify.heads.training_cases import Rows, Small, data, trainer


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0}, {"steps": -1}, {"batch_size": 1.5}, {"optimizer": "lion"}, {"learning_rate": 0},
        {"learning_rate": math.nan}, {"schedule": "linear"}, {"label_smoothing": 1.5}, {"batch_norm": "eval"},
        {"precision": "float16"}, {"init_head": "svm"}, {"augment": ("mixup",)}, {"augment": "flip"},
        {"steps": 5, "patience": 1},
    ],
)  # fmt: skip
def test_a_setting_that_is_not_legal_is_refused_in_one_line(wrong):
    with pytest.raises(UserError) as caught:
        TrainingSettings(**wrong)
    assert "\n" not in str(caught.value)


def test_settings_survive_json():
    settings = TrainingSettings(augment=("flip",), patience=3)
    assert TrainingSettings.from_json(settings.to_json()) == settings


def test_learning_rates_follow_their_formulas():
    assert [rate_factor("constant", step, 10, 0, 1) for step in (0, 9)] == [1, 1]
    assert rate_factor("cosine", 0, 10, 0, 1) == 1
    assert rate_factor("cosine", 5, 10, 0, 1) == pytest.approx(0.5)
    assert rate_factor("book", 99, 100, 3, 10) == pytest.approx((1 + 10 * 3 / 10) ** -0.75)
    # The same figures as torch's own OneCycleLR at its defaults.
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=51)
    for step in range(51):
        assert rate_factor("one-cycle", step, 51, 0, 1) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        if step < 50:
            reference.step()


def test_the_new_layer_learns_faster_and_biases_do_not_decay():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    settings = TrainingSettings(learning_rate=0.1, head_multiple=10, weight_decay=0.5)
    optimizer = build_optimizer(settings, module.named_parameters(), frozenset({"1.weight", "1.bias"}), frozenset())
    optimizer.step(0.1)
    found = {
        id(p): (group["lr"], group["weight_decay"]) for group in optimizer.inner.param_groups for p in group["params"]
    }
    named = {name: found[id(p)] for name, p in module.named_parameters()}
    assert named == {
        "0.weight": (0.1, 0.5), "0.bias": (0.1, 0), "1.weight": (1.0, 0.5), "1.bias": (1.0, 0),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_weights_kept_channels_last_are_optimised_like_any_other(name):
    torch.manual_seed(0)
    mine = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    theirs = nn.Conv2d(3, 4, 3)
    theirs.load_state_dict(mine.state_dict())
    settings = TrainingSettings(optimizer=name, weight_decay=0.1)
    optimizers = [build_optimizer(settings, m.named_parameters(), frozenset(), frozenset()) for m in (mine, theirs)]
    start = mine.weight.detach().clone()
    for _ in range(3):
        images = torch.randn(2, 3, 5, 5)
        for module, optimizer in zip((mine, theirs), optimizers, strict=True):
            module(images).square().sum().backward()
            optimizer.step(0.01)
            assert module.weight.grad is None
    assert not torch.equal(mine.weight, start)
    torch.testing.assert_close(mine.weight, theirs.weight.contiguous(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fused", [True, False])
def test_a_restored_optimiser_counts_its_steps_where_it_did_before(fused):
    parameter = nn.Parameter(torch.zeros(2, 2, device="meta"))
    optimizer = build_optimizer(TrainingSettings(), [("weight", parameter)], frozenset(), frozenset())
    optimizer.inner.defaults["fused"] = fused
    optimizer.restore({"0.step": torch.tensor(3.0), "0.exp_avg": torch.zeros(2, 2)})
    state = optimizer.inner.state[parameter]
    assert state["exp_avg"].device.type == "meta"
    assert state["step"].device.type == ("meta" if fused else "cpu")


def test_one_step_of_sgd_is_the_gradient_worked_out_by_hand():
    settings = TrainingSettings(
        optimizer="sgd",
        steps=1,
        batch_size=40,
        learning_rate=0.1,
        schedule="constant",
        weight_decay=0,
        label_smoothing=0.1,
    )
    run = trainer(settings)
    weight = run.trainee.module.linear.weight.detach().double().numpy().copy()
    bias = run.trainee.module.linear.bias.detach().double().numpy().copy()
    X, codes = run.data.source.rows.astype(float), run.data.codes
    scores = X @ weight.T + bias
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    wanted = 0.9 * np.eye(3)[codes] + 0.1 / 3
    run.run()
    after = run.trainee.module.linear.weight.detach().numpy()
    np.testing.assert_allclose(after, weight - 0.1 * (p - wanted).T @ X / 40, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("rows", "size"), [(100, 64), (3, 2), (5, 4), (1, 8), (129, 128), (7, 1), (256, 128)])
def test_batches_cover_an_epoch_evenly(rows, size):
    batches = even_batches(np.arange(rows), size)
    np.testing.assert_array_equal(np.concatenate(batches), np.arange(rows))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= size + 1
    if rows > 1 and size > 1:
        assert min(sizes) > 1


def test_augmentation_is_drawn_for_each_image_and_repeats_with_its_generator():
    images = torch.rand(4, 3, 16, 16)

    def drawn(kinds, seed=0):
        return augment_images(images, kinds, np.random.default_rng(seed))

    torch.testing.assert_close(drawn(()), images)
    assert torch.equal(drawn(("shift", "rotate", "scale")), drawn(("shift", "rotate", "scale")))
    assert not torch.equal(drawn(("shift",)), drawn(("shift",), seed=1))
    flipped = drawn(("flip",))
    turned = [torch.allclose(a, b.flip(-1), atol=1e-5) for a, b in zip(flipped, images, strict=True)]
    same = [torch.allclose(a, b, atol=1e-5) for a, b in zip(flipped, images, strict=True)]
    assert all(a != b for a, b in zip(turned, same, strict=True))
    assert any(turned)
    assert any(same)


def test_only_training_images_are_augmented():
    images = np.arange(2 * 64, dtype=np.uint8).reshape(2, 8, 8)
    source = ImageSource(images, lambda batch: torch.from_numpy(batch).float()[:, None], None, ("rotate",))
    plain = source.prepare(source.read(np.array([1])))
    torch.testing.assert_close(plain[0, 0], torch.from_numpy(images[1]).float())
    assert not torch.equal(source.prepare(source.read(np.array([1])), np.random.default_rng(0)), plain)


def test_maps_are_cached_channels_first_and_fed_as_the_tail_has_them():
    maps = np.random.default_rng(0).normal(size=(5, 3, 2, 2)).astype(np.float16)
    last = MapSource(maps, (2, 2, 3), "map last")
    batch = last.prepare(last.read(np.array([4, 0])))
    np.testing.assert_array_equal(batch.numpy(), maps[[4, 0]].transpose(0, 2, 3, 1).astype(np.float32))
    pooled = MapSource(maps[:, :, 0, 0].astype(np.float32), (3, 1, 1), "map")
    assert pooled.prepare(pooled.read(np.arange(5))).shape == (5, 3, 1, 1)


def test_a_batch_that_does_not_fit_into_memory_says_which_would():
    with pytest.raises(UserError, match="--batch-size 10 fits"):
        trainer(TrainingSettings(batch_size=40), Small(limit=12)).run()
    with pytest.raises(UserError, match="not even one image fits"):
        trainer(TrainingSettings(batch_size=40), Small(limit=0)).run()


def test_memory_of_the_pass_that_failed_is_free_again_when_smaller_batches_are_tried():
    class Crowded(Small):
        earlier = staticmethod(lambda: None)

        def forward(self, rows):
            if self.earlier() is not None:
                raise torch.OutOfMemoryError("out of memory")
            activations = rows.clone()
            self.earlier = weakref.ref(activations)
            return super().forward(rows)

    with pytest.raises(UserError, match="--batch-size 10 fits"):
        trainer(TrainingSettings(batch_size=40), Crowded(limit=12)).run()


def test_images_that_do_not_fit_before_the_network_sees_them_are_told_of_too():
    class Large(Rows):
        def prepare(self, read, draw=None):
            if len(read) > 12:
                raise torch.OutOfMemoryError("out of memory")
            return super().prepare(read)

    run = trainer(TrainingSettings(batch_size=40))
    run.data = Labelled(Large(run.data.source.rows), run.data.codes)
    with pytest.raises(UserError, match="--batch-size 10 fits"):
        run.run()


def test_batches_of_one_are_not_tried_where_batch_norm_trains():
    class Normalised(Small):
        def __init__(self, limit):
            super().__init__(limit)
            self.norm = nn.BatchNorm1d(4)

        def forward(self, rows):
            return super().forward(self.norm(rows.float()))

    with pytest.raises(UserError, match="not even two images fit"):
        trainer(TrainingSettings(batch_size=40), Normalised(limit=1)).run()


def test_validation_and_prediction_take_smaller_batches_where_large_ones_do_not_fit():
    settings = TrainingSettings(epochs=1, batch_size=8)
    runs = []
    for limit in (12, 100):
        torch.manual_seed(0)  # the weights of both are the same, whatever was drawn before
        runs.append(trainer(settings, Small(limit), validation=data(20)))
    small, large = runs
    assert small.run().history[0].validation_loss == pytest.approx(large.run().history[0].validation_loss)
    small.trainee.module.limit = 0
    with pytest.raises(UserError, match="not even one image fits"):
        small.predict(small.data.source)


def test_a_penalty_is_detached_again_when_training_fails():
    class Failing(Regularizer):
        entered = 0

        @contextlib.contextmanager
        def attached(self):
            Failing.entered += 1
            try:
                yield
            finally:
                Failing.entered -= 1

        def forward(self, step):
            return step.logits.sum() * math.nan

    penalty = Failing()
    with pytest.raises(UserError, match="weaker --regularizer"), penalty.attached():
        trainer(TrainingSettings(epochs=1, batch_size=8), penalties=(penalty,)).run()
    assert Failing.entered == 0


@pytest.mark.parametrize("validation", [None, data(20)])
def test_weights_that_the_last_step_breaks_are_found(validation):
    settings = TrainingSettings(epochs=1, batch_size=40, optimizer="sgd", learning_rate=1e38, head_multiple=1)
    run = trainer(settings, validation=validation)
    run.data = Labelled(Rows(1e4 * run.data.source.rows), run.data.codes)
    with pytest.raises(UserError, match=r"in epoch 1 \(step 1\)"):
        run.run()


def test_validation_figures_are_those_of_scikit_learn():
    from sklearn.metrics import accuracy_score, f1_score, log_loss

    run = trainer(TrainingSettings(epochs=1, batch_size=8), validation=data(20))
    record = run.run().history[0]
    logits = run.predict(run.validation.source).astype(float)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    codes = run.validation.codes
    assert record.validation_accuracy == pytest.approx(accuracy_score(codes, p.argmax(1)))
    assert record.validation_macro_f1 == pytest.approx(f1_score(codes, p.argmax(1), average="macro"))
    assert record.validation_loss == pytest.approx(log_loss(codes, p), rel=1e-5)


def test_a_checkpoint_of_another_run_and_a_damaged_one_are_refused(tmp_path):
    checkpoint = Checkpoint(tmp_path / "run", {"seed": 0})
    assert checkpoint.load() is None
    checkpoint.save(1, RunState({"w": torch.ones(3)}, {"w": torch.zeros(3)}, {"step": 5}), new_best=True)
    checkpoint.save(2, RunState({"w": 2 * torch.ones(3)}, {"w": torch.zeros(3)}, {"step": 9}), new_best=False)
    state = checkpoint.load()
    assert state.values == {"step": 9}
    assert torch.equal(state.tensors["w"], 2 * torch.ones(3))
    assert torch.equal(state.best["w"], torch.zeros(3))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "best-00001.safetensors", "run.json", "state-00002.safetensors",
    ]  # fmt: skip
    with pytest.raises(UserError, match="seed 0 instead of 1"):
        Checkpoint(tmp_path / "run", {"seed": 1}).load()
    (tmp_path / "run" / "state-00002.safetensors").write_bytes(b"cut short")
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load()


@pytest.mark.parametrize(
    "forged",
    [
        {"files": None}, {"files": {"../state": "00"}}, {"tensors": "other.safetensors"}, {"tensors": 3}, {"best": 3},
        {"best": ["state"]}, {"identity": []}, {"values": 5}, {"values": {}}, {"values": {"step": "many"}},
    ],
)  # fmt: skip
def test_a_sealed_index_that_is_none_is_refused_in_a_line(tmp_path, forged):
    settings = TrainingSettings(epochs=1, batch_size=8)
    trainer(settings, checkpoint=Checkpoint(tmp_path / "run", {"seed": 0})).run()
    path = tmp_path / "run" / "run.json"
    content = {**json.loads(path.read_text())["content"], **forged}
    path.write_text(json.dumps({"content": content, "sha256": sha256_json(content)}))
    with pytest.raises(UserError, match=r"the run in .*run is damaged"):
        trainer(settings, checkpoint=Checkpoint(tmp_path / "run", {"seed": 0})).run()


def test_a_run_never_goes_on_from_numbers_that_changed_on_the_disk(tmp_path):
    def state(value):
        return RunState({"weight": torch.full((3,), value)}, {"weight": torch.full((3,), value)}, {"step": 1})

    checkpoint = Checkpoint(tmp_path / "run", {"seed": 0})
    checkpoint.save(1, state(1.0), new_best=True)
    checkpoint.save(2, state(2.0), new_best=False)
    assert checkpoint.load().best["weight"].tolist() == [1.0] * 3
    for path in sorted((tmp_path / "run").iterdir()):
        whole = path.read_bytes()
        for at in (len(whole) - 2, len(whole) // 2, 5):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(UserError, match=r"the run in .*run is damaged \(" + path.name.replace(".", r"\.")):
                checkpoint.load()
        path.write_bytes(whole)
    assert checkpoint.load().tensors["weight"].tolist() == [2.0] * 3


@pytest.mark.parametrize(
    "words",
    [
        "I/O error: No space left on device (os error 28)",
        'IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })',  # safetensors 0.4
    ],
)
def test_a_full_disk_under_a_checkpoint_gets_one_line(tmp_path, monkeypatch, words):
    from safetensors import SafetensorError

    def full(*arguments):
        raise SafetensorError(f"Error while serializing: {words}")

    monkeypatch.setattr("classify.heads.network.checkpoint.save_file", full)
    with pytest.raises(UserError, match="is full: .*carries on where it stopped"):
        Checkpoint(tmp_path, {}).save(1, RunState({"weight": torch.zeros(3)}, None, {}), new_best=False)
    assert list(tmp_path.iterdir()) == []
