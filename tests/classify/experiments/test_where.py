"""Learning what and where to transfer: one stage alone, SpotTune's routes and L2T-ww's matching, against the papers'
formulas by hand, and what must move and what must not."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from classify.experiments.row import Row, network_row
from classify.heads.network.classifier import NetworkClassifier
from classify.heads.network.gradients import relative_gradient_norms, relative_norms
from classify.heads.network.network import Network
from classify.heads.network.settings import TrainingSettings
from classify.heads.network.spottune import Policy, Routed, SpotTuneClassifier, decisions, routed, sampled
from classify.heads.regularizers import parse_regularizers
from classify.heads.regularizers.l2t_ww import INNER_STEPS, MetaNetworks, as_map, descended, distances
from classify.heads.regularizers.protocol import Context
from features.backbones import load_backbone
from features.cut import Cut
from features.errors import UserError

SETTINGS = TrainingSettings(steps=2, batch_size=12, precision="float32", learning_rate=1e-2)
CODES = np.arange(12) % 3


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("resnet18", "random")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (12, 32, 32), dtype=np.uint8)


# ---- one stage alone -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("unfreeze", "until", "stage"), [("all", "maxpool", ""), ("layer2", "layer2", "layer2.")])
def test_only_the_stage_and_the_new_classifier_move(backbone, images, unfreeze, until, stage):
    settings = {"settings": SETTINGS, "image_size": 32, "device": "cpu", "classes": 3}
    network = NetworkClassifier(backbone, unfreeze=unfreeze, until=until, **settings).fit(images, CODES)
    before, after = backbone.model.state_dict(), network.network_.model.state_dict()
    moved = {name for name in before if not name.startswith("fc.") and not torch.equal(before[name], after[name])}
    assert moved
    within = ("layer2.",) if stage else ("conv1.", "bn1.")
    assert all(name.startswith(within) for name in moved)
    trained = [name for name in before if name.startswith(within) and name.endswith((".weight", ".bias"))]
    assert moved >= set(trained)
    # It is kept with what it is: what was saved says where training ended, and predicts alike.
    assert network.trained_parameters_ == 512 * 3 + 3 + sum(before[name].numel() for name in trained)


def test_a_stage_that_is_not_above_the_cut_cannot_be_the_last_to_train(backbone):
    for point, until in (("layer3", "layer2"), ("fc", "layer4"), ("all", "avgpool"), ("all", "layer5")):
        with pytest.raises(UserError, match="cannot end with"):
            Network(backbone, 3, point=point, until=until, image_size=32)
    with pytest.raises(UserError, match="reinitialised"):
        Network(backbone, 3, until="layer2", fresh_above="layer3", image_size=32)


def test_relative_norms_by_hand():
    parameters = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([[1.0]]), "c": torch.tensor([0.0])}
    gradients = {"a": torch.tensor([0.6, 0.8]), "b": torch.tensor([[2.0]]), "c": torch.tensor([5.0])}
    groups = {"low": ["a"], "both": ["a", "b"], "none": [], "zero": ["c"]}
    found = relative_norms(groups, parameters, gradients)
    # |(0.6, 0.8)| / |(3, 4)| = 1 / 5; |(0.6, 0.8, 2)| / |(3, 4, 1)| = sqrt(5 / 26).
    assert found == pytest.approx({"low": 0.2, "both": (5 / 26) ** 0.5})


def test_the_choice_by_relative_gradient_norm_is_that_of_the_mean_loss(backbone, images):
    classifier = NetworkClassifier(backbone, settings=SETTINGS, image_size=32, device="cpu", classes=3)
    _, context = classifier.starting(images, CODES)
    norms = relative_gradient_norms(context)
    assert list(norms) == ["maxpool", "layer1", "layer2", "layer3", "layer4"]
    network = context.network
    inputs = torch.cat([part for part, _ in context.batches(np.arange(12))])
    model = network.model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    cross_entropy(model(inputs), torch.from_numpy(CODES)).backward()
    for stage, prefixes in (("maxpool", ("conv1.", "bn1.")), ("layer3", ("layer3.",))):
        inside = [value for name, value in model.named_parameters() if name.startswith(prefixes)]
        lengths = [
            sum(float((each**2).sum()) for each in part)
            for part in ([p.grad for p in inside], [p.detach() for p in inside])
        ]
        assert norms[stage] == pytest.approx((lengths[0] / lengths[1]) ** 0.5, rel=1e-4)


# ---- SpotTune --------------------------------------------------------------------------------------------------------


def test_each_image_takes_one_of_two_ways():
    tuned, frozen = torch.full((3, 2, 4, 4), 5.0), torch.full((3, 2, 4, 4), -1.0)
    found = routed(torch.tensor([1.0, 0.0, 1.0]), tuned, frozen)
    assert found[:, 0, 0, 0].tolist() == [5.0, -1.0, 5.0]
    assert decisions(torch.tensor([[[0.1, 0.2], [0.2, 0.1]]])).tolist() == [[1.0, 0.0]]


def test_samples_are_those_of_the_softmax_and_their_gradient_that_of_the_relaxed_sample():
    torch.manual_seed(0)
    scores = torch.tensor([[[0.0, 1.0]]]).repeat(20_000, 1, 1).requires_grad_()
    drawn = sampled(scores)
    assert set(drawn.detach().round(decimals=5).flatten().tolist()) == {0.0, 1.0}
    # The Gumbel-max trick draws from softmax(0, 1) = 1 / (1 + 1/e), whatever the temperature.
    assert float(drawn.detach().mean()) == pytest.approx(0.7311, abs=0.01)
    torch.manual_seed(0)
    even = torch.rand_like(scores.detach()).clamp_(1e-20, 1 - 1e-7)
    share = ((scores.detach() - torch.log(-torch.log(even))) / 5).softmax(-1)[..., 1]
    drawn.sum().backward()
    # The derivative of softmax(z / 5) is p (1 - p) / 5.
    torch.testing.assert_close(scores.grad[..., 1], share * (1 - share) / 5)
    torch.testing.assert_close(scores.grad[..., 0], -share * (1 - share) / 5)


def test_both_ways_are_the_network_before_training(backbone, images):
    network = Network(backbone, 3, image_size=32)
    whole = Routed(network, seed=0).eval()
    assert len(whole.tuned) == len(whole.frozen) == len(network.cut.blocks) == 8
    inputs = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        expected = network.model.eval()(inputs)
        for score in (-1.0, 1.0):
            nn.init.zeros_(whole.policy.scores.weight)
            whole.policy.scores.bias.copy_(torch.tensor([0.0, score] * 8))
            torch.testing.assert_close(whole(inputs), expected)


def test_the_policy_gets_gradients_and_frozen_copies_stay(backbone, images, tmp_path):
    head = SpotTuneClassifier(backbone, settings=SETTINGS, image_size=32, device="cpu", classes=3)
    head.fit(images, CODES)
    whole = head.routed_
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        before = Policy(8).state_dict()
    after = whole.policy.state_dict()
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert {"scores.weight", "stem.0.weight", "body.2.two.0.weight"} <= set(moved)
    start = backbone.model.state_dict()
    for piece in whole.frozen:
        for name, value in piece.state_dict().items():
            assert torch.equal(value, start[name]), name
    tuned = {name: value for piece in whole.tuned for name, value in piece.state_dict().items()}
    assert not torch.equal(tuned["layer3.0.conv1.weight"], start["layer3.0.conv1.weight"])
    assert list(head.learned_["tuned"]) == list(head.network_.cut.blocks)
    assert all(0 <= share <= 1 for share in head.learned_["tuned"].values())
    head.save(tmp_path / "kept")
    again = SpotTuneClassifier.load(tmp_path / "kept", device="cpu")
    np.testing.assert_array_equal(again.decision_function(images), head.decision_function(images))


def test_gradients_of_a_batch_reach_every_score_of_the_policy(backbone):
    torch.manual_seed(0)
    whole = Routed(Network(backbone, 3, image_size=32), seed=0).train()
    cross_entropy(whole(torch.randn(6, 3, 32, 32)), torch.arange(6) % 3).backward()
    assert bool((whole.policy.scores.weight.grad.abs().sum(1) > 0).all())
    assert all(parameter.grad is None for parameter in whole.frozen.parameters())
    assert not any(module.training for module in whole.frozen.modules())


def test_spottune_refuses_what_it_would_not_read(backbone, images):
    for wrong in ({"regularizers": ["bss"]}, {"unfreeze": "layer4"}, {"until": "layer2"}):
        with pytest.raises(UserError, match="leave"):
            SpotTuneClassifier(backbone, settings=SETTINGS, image_size=32, device="cpu", **wrong).fit(images, CODES)


@pytest.mark.parametrize("name", ["alexnet", "vit_b_16", "densenet121", "mobilenet_v2"])
def test_the_pieces_between_blocks_are_the_network(name):
    from features.architectures import build_model

    with torch.device("meta"):
        model = build_model(name).eval()
    cut = Cut(model, 224)
    ends = [cut.below_blocks, *cut.blocks]
    assert set(ends) - {cut.resolve("input")} <= cut.legal
    pieces = [cut.between(*pair) for pair in itertools.pairwise(ends)]
    first = [] if ends[0] == cut.resolve("input") else [cut.between(cut.resolve("input"), ends[0])]
    parts = [*first, *pieces, cut.tail(ends[-1])]
    x = torch.empty(2, 3, 224, 224, device="meta")
    for part in parts:
        x = part(x)
    assert x.shape == (2, 1000)
    held = [name for part in parts for name, _ in part.named_parameters()]
    assert sorted(held) == sorted(name for name, _ in model.named_parameters())


# ---- L2T-ww ----------------------------------------------------------------------------------------------------------


def matched(backbone, text, double=False):
    """A network whose layer4 is drawn anew, the regulariser as prepared for it, and a batch of maps with classes."""
    network = Network(backbone, 3, point="layer4", fresh_above="layer3", image_size=32)
    inputs = torch.from_numpy(np.random.default_rng(1).normal(size=(12, *network.shape))).float()
    codes = torch.from_numpy(CODES)
    context = Context(network, CODES, lambda rows: iter(()), lambda: None)
    (spec,) = parse_regularizers([text])
    regularizer = spec.prepare(context)
    if double:
        for part in (network.model, network.tail, regularizer, regularizer.source[0], regularizer.target[0]):
            part.double()
        inputs = inputs.double()
    return network, regularizer, inputs, codes


def test_distances_are_equation_1_by_hand():
    projected = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    source = torch.tensor([[[[1.0, 0.0], [3.0, 0.0]], [[2.0, 2.0], [2.0, 2.0]]]])
    # Channel means of squares: (0 + 4 + 0 + 16) / 4 = 5 and 4.
    found = distances(projected, source, torch.tensor([[0.25, 0.75]]))
    assert found.tolist() == pytest.approx([0.25 * 5 + 0.75 * 4])
    # A source of one place stands at all four.
    found = distances(projected, torch.tensor([[[[1.0]], [[2.0]]]]), torch.tensor([[1.0, 0.0]]))
    assert found.tolist() == pytest.approx([(0 + 1 + 4 + 9) / 4])


def test_meta_networks_start_even_and_their_strengths_are_bounded():
    torch.manual_seed(0)
    meta = MetaNetworks([4])
    weights, strengths = meta([torch.tensor([[1.0, 2.0, 3.0, 4.0], [100.0, 100.0, 100.0, 100.0]])])
    assert weights[0].detach().flatten().tolist() == pytest.approx([0.25] * 8)
    assert 0 <= float(strengths[0].detach().min()) <= float(strengths[0].detach().max()) <= 6
    with torch.no_grad():
        meta.g[0].weight.zero_()
        for bias, expected in ((-1.0, 0.0), (2.5, 2.5), (9.0, 6.0)):
            meta.g[0].bias.fill_(bias)
            assert meta([torch.ones(1, 4)])[1][0].tolist() == [expected]


def test_a_step_of_descent_keeps_what_it_depends_on():
    x = {"a": torch.tensor(3.0, requires_grad=True), "unused": torch.tensor(1.0, requires_grad=True)}
    weight = torch.tensor(2.0, requires_grad=True)
    after = descended(weight * x["a"] ** 2, x, 0.1)
    # a - 0.1 * 2 * w * a = 3 - 1.2, and its derivative by w is -0.2 * a.
    assert after["a"].item() == pytest.approx(1.8)
    assert after["unused"] is x["unused"]
    assert float(torch.autograd.grad(after["a"], weight)[0]) == pytest.approx(-0.6)


def test_maps_of_every_layout_have_their_channels_first():
    assert as_map(torch.zeros(2, 7, 7, 3), "map last").shape == (2, 3, 7, 7)
    assert as_map(torch.zeros(2, 10, 3), "class tokens").shape == (2, 3, 10, 1)
    assert as_map(torch.zeros(2, 3), "flat").shape == (2, 3, 1, 1)
    assert as_map(torch.zeros(2, 3, 5, 5, dtype=torch.bfloat16), "map").dtype == torch.float32


def test_the_meta_gradient_agrees_with_finite_differences_through_the_inner_steps(backbone, monkeypatch):
    monkeypatch.setattr("classify.heads.regularizers.l2t_ww.as_map", lambda output, layout: output)
    network, regularizer, inputs, codes = matched(backbone, "l2t-ww=0.5,0.01", double=True)
    network.tail.train()
    sources = regularizer._source_maps(inputs)
    gradient, strengths = regularizer.meta_gradient(inputs, codes, sources)
    assert strengths.shape == (1, 12)
    assert float(gradient.abs().sum()) > 0

    def value(phi):
        """L_org after the T + 1 steps, by plain steps on copies of the networks."""
        nn.utils.vector_to_parameters(phi, regularizer.meta.parameters())
        target, project = copy.deepcopy(regularizer.target[0]), copy.deepcopy(regularizer.project)
        moving = [*target.parameters(), *project.parameters()]
        weights, strengths = regularizer.meta(regularizer._of_pairs(sources))

        def step(loss):
            for parameter, slope in zip(moving, torch.autograd.grad(loss, moving, allow_unused=True), strict=True):
                if slope is not None:
                    parameter.data -= regularizer.inner_rate * slope

        for _ in range(INNER_STEPS):
            projections = dict(project.named_parameters())
            step(regularizer._matching(target(inputs)[1], sources, projections, weights, strengths))
        step(cross_entropy(target(inputs)[0], codes))
        with torch.no_grad():
            return float(cross_entropy(target(inputs)[0], codes))

    phi = nn.utils.parameters_to_vector(regularizer.meta.parameters()).detach().clone()
    way = torch.randn(phi.shape, generator=torch.Generator().manual_seed(2), dtype=phi.dtype)
    difference = (value(phi + 1e-5 * way) - value(phi - 1e-5 * way)) / 2e-5
    assert float(gradient @ way) == pytest.approx(difference, rel=1e-3)


def test_the_meta_step_moves_phi_and_nothing_else(backbone):
    network, regularizer, inputs, codes = matched(backbone, "l2t-ww")
    network.tail.train()
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    projections = [value.detach().clone() for value in regularizer.project.parameters()]
    phi = [value.detach().clone() for value in regularizer.meta.parameters()]
    gradient, _ = regularizer.meta_gradient(inputs, codes, regularizer._source_maps(inputs))
    regularizer.stepped(inputs, codes)
    for name, value in network.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(map(torch.equal, regularizer.project.parameters(), projections))
    assert not any(map(torch.equal, regularizer.meta.parameters(), phi))
    # Adam's first step is the sign of the gradient times the rate.
    change = nn.utils.parameters_to_vector(regularizer.meta.parameters()) - nn.utils.parameters_to_vector(phi)
    strong = gradient.abs() > 1e-5
    assert bool(strong.any())
    torch.testing.assert_close(change[strong].detach(), -1e-3 * gradient[strong].sign(), rtol=0.01, atol=1e-6)
    assert list(regularizer.learned()["matching"]) == ["layer4 to layer4"]


def test_training_with_l2t_ww_moves_projections_and_meta_networks(backbone, images):
    head = NetworkClassifier(
        backbone,
        settings=SETTINGS,
        unfreeze="layer3",
        fresh_above="layer2",
        regularizers=["l2t-ww=0.5,0.1,0.01"],
        image_size=32,
        device="cpu",
        classes=3,
    )
    start = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    head.fit(images, CODES)
    assert all(torch.equal(value, start[name]) for name, value in backbone.model.state_dict().items())
    assert head.history_[-1].penalty > 0
    assert set(head.learned_["matching"]) == {f"{m} to {n}" for m in ("layer3", "layer4") for n in ("layer3", "layer4")}
    assert all(0 <= value <= 6 for value in head.learned_["matching"].values())


def test_rows_say_where_training_ends(home):
    from features.request import Request

    request = Request(dataset="digits", weights="random", image_size=32, limit=30, device="cpu").normalised()
    plain = network_row(request, "finetune", training=SETTINGS, unfreeze="layer3")
    row = network_row(request, "finetune", training=SETTINGS, unfreeze="layer3", until="layer3")
    assert row.digest != plain.digest
    assert "until" not in plain.config
    assert row.label == "finetune layer3 until layer3"
    assert Row.from_config(row.config).config == row.config
    routed_row = network_row(request, "spottune", training=SETTINGS)
    assert Row.from_config(routed_row.config).config == routed_row.config
