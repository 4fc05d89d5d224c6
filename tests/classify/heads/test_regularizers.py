"""Regularisers against float64 values worked out by hand, and gradients by differences."""

import contextlib
import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import nn

from classify.heads.network.graph import interrupted, observed, resumed
from classify.heads.network.network import Network
from classify.heads.regularizers import parse_regularizers
from classify.heads.regularizers.bss import smallest_squares
from classify.heads.regularizers.co_tuning import category_relation, soft_cross_entropy
from classify.heads.regularizers.delta import channel_weights, last_filters, squared_distances
from classify.heads.regularizers.ewc import diagonal_fisher
from classify.heads.regularizers.protocol import Context, Step
from classify.heads.regularizers.stochnorm import StochasticNorm
from features.backbones import load_backbone
from features.errors import UserError

CODES = np.arange(12) % 3


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("resnet18", "random")


def prepared(backbone, text, point="all"):
    """A double-precision network, its context, and the regulariser in its starting state."""
    network = Network(backbone, 3, point=point, image_size=32)
    for part in (network.model, network.tail, network.source_head):
        part.double()
    inputs = torch.from_numpy(np.random.default_rng(0).normal(size=(12, *network.shape)))

    def batches(rows):
        for part in np.array_split(rows, 2):
            yield inputs[part], torch.from_numpy(CODES[part])

    def probe():
        draw = np.random.default_rng(1)
        return draw.normal(size=(3, 512)), draw.normal(size=3)

    context = Context(network, CODES, batches, probe)
    (spec,) = parse_regularizers([text])
    return network, inputs, spec.prepare(context)


def penalty_of(network, inputs, regularizer):
    forward = observed(network.tail, regularizer.observes).eval()
    logits, seen = forward(inputs)
    return regularizer(Step(inputs, logits, torch.from_numpy(CODES), seen))


def moved(network, size=0.01):
    """Move every trained weight away from its start, and say by how much."""
    draw = torch.Generator().manual_seed(3)
    moves = {}
    with torch.no_grad():
        for name, parameter in network.tail.named_parameters():
            moves[name] = size * torch.randn(parameter.shape, generator=draw, dtype=parameter.dtype)
            parameter += moves[name]
    return moves


def along(network, regularizer, inputs):
    """The slope along a random direction by the gradient, and by central differences."""
    parameters = [*network.tail.parameters(), *regularizer.parameters()]
    draw = torch.Generator().manual_seed(5)
    direction = [torch.randn(p.shape, generator=draw, dtype=p.dtype) for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    penalty_of(network, inputs, regularizer).backward()
    slope = sum(float((p.grad * d).sum()) for p, d in zip(parameters, direction, strict=True) if p.grad is not None)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for parameter, way in zip(parameters, direction, strict=True):
                parameter += sign * 1e-9 * way
            values.append(float(penalty_of(network, inputs, regularizer)))
            for parameter, way in zip(parameters, direction, strict=True):
                parameter -= sign * 1e-9 * way
    return slope, (values[0] - values[1]) / 2e-9


@pytest.mark.parametrize(
    "text", ["l2=0.3", "l2-sp=0.3,0.7", "ewc=2", "l2-sp-fisher=2,0.7", "delta=0.01", "bss=0.5", "co-tuning=2.3"]
)
def test_gradient_agrees_with_finite_differences(backbone, text):
    network, inputs, regularizer = prepared(backbone, text)
    moved(network, 1e-3)
    slope, difference = along(network, regularizer, inputs)
    assert slope != 0
    assert slope == pytest.approx(difference, rel=1e-3)


def test_l2_is_half_the_strength_times_all_squares_without_normalisation(backbone):
    network, inputs, regularizer = prepared(backbone, "l2=0.3")
    state = {name: value.detach().numpy() for name, value in network.tail.named_parameters()}
    norms = [name for name in state if ".bn" in name or name.startswith("bn") or "downsample.1" in name]
    assert sorted(network.normalisation) == sorted(norms)
    expected = 0.15 * sum((value**2).sum() for name, value in state.items() if name not in norms)
    assert penalty_of(network, inputs, regularizer).item() == pytest.approx(expected, rel=1e-12)
    held = Network(backbone, 3, point="layer3", until="layer3", image_size=32)
    (spec,) = parse_regularizers(["l2"])
    trained = {id(weight) for weight in spec.prepare(Context(held, CODES, None, None)).weights}
    names = {name.split(".")[0] for name, weight in held.tail.named_parameters() if id(weight) in trained}
    assert names == {"layer3", "fc"}


def test_l2_sp_measures_from_the_start_and_draws_the_new_layer_to_zero(backbone):
    network, inputs, regularizer = prepared(backbone, "l2-sp=0.3,0.7", point="layer4")
    new = {
        name: value.detach().clone().numpy() for name, value in network.tail.named_parameters() if name in network.new
    }
    assert sorted(new) == ["fc.bias", "fc.weight"]
    at_start = penalty_of(network, inputs, regularizer)
    assert at_start.item() == pytest.approx(0.35 * sum((value**2).sum() for value in new.values()), rel=1e-12)
    moves = moved(network)
    transferred = [name for name in moves if name not in network.new and name not in network.normalisation]
    expected = 0.15 * sum((moves[name].numpy() ** 2).sum() for name in transferred)
    expected += 0.35 * sum(((value + moves[name].numpy()) ** 2).sum() for name, value in new.items())
    assert penalty_of(network, inputs, regularizer).item() == pytest.approx(expected, rel=1e-10)


def test_the_gradient_of_l2_sp_is_finite_where_training_starts(backbone):
    network, inputs, regularizer = prepared(backbone, "l2-sp=0.3,0.7", point="layer4")
    penalty_of(network, inputs, regularizer).backward()
    for name, parameter in network.tail.named_parameters():
        if name in network.transferred - network.normalisation:
            assert torch.equal(parameter.grad, torch.zeros_like(parameter))


def test_fisher_of_a_softmax_layer_is_the_expectation_over_its_own_predictions():
    torch.manual_seed(0)
    layer = nn.Linear(2, 3, bias=False).double()
    image = torch.tensor([1.5, -0.5], dtype=torch.float64)
    p = softmax(layer.weight.detach().numpy() @ image.numpy())
    # d log p(y) / d W[k, i] = (1[y = k] - p[k]) x[i]; its square, averaged over y drawn from p, is p (1 - p) x^2.
    expected = (p * (1 - p))[:, None] * image.numpy() ** 2
    found = diagonal_fisher(layer, {"weight"}, [image.repeat(4000, 1)], seed=0)["weight"]
    np.testing.assert_allclose(found.numpy(), expected, rtol=0.06)


def test_ewc_weighs_each_move_by_the_fisher_of_the_source_network(backbone):
    network, inputs, regularizer = prepared(backbone, "ewc=2", point="layer4")
    assert "12 training images" in regularizer.described
    assert penalty_of(network, inputs, regularizer).item() == 0
    fisher = {
        name: root.square()
        for name, root in zip(sorted(network.transferred - network.normalisation), regularizer.roots, strict=True)
    }
    assert sum(float(value.sum()) for value in fisher.values()) > 0
    moves = moved(network)
    # Kirkpatrick's equation 3: lambda / 2 times the sum.
    expected = 2 / 2 * sum(float((fisher[name] * moves[name] ** 2).sum()) for name in fisher)
    assert penalty_of(network, inputs, regularizer).item() == pytest.approx(expected, rel=1e-10)


def test_l2_sp_fisher_is_ewc_and_draws_the_new_layer_to_zero(backbone):
    network, inputs, regularizer = prepared(backbone, "l2-sp-fisher=2,0.6", point="layer4")
    new = [value.detach().clone() for name, value in network.tail.named_parameters() if name.startswith("fc.")]
    assert len(new) == 2
    expected = 0.3 * sum(float(value.square().sum()) for value in new)
    assert penalty_of(network, inputs, regularizer).item() == pytest.approx(expected, rel=1e-12)
    plain, _, ewc = prepared(backbone, "ewc=2", point="layer4")
    moved(network), moved(plain)
    new = [value.detach() for name, value in network.tail.named_parameters() if name.startswith("fc.")]
    expected = penalty_of(plain, inputs, ewc).item() + 0.3 * sum(float(value.square().sum()) for value in new)
    assert penalty_of(network, inputs, regularizer).item() == pytest.approx(expected, rel=1e-10)
    assert regularizer.described.startswith("l2-sp-fisher: Fisher")
    with pytest.raises(UserError, match="l2-sp-fisher acts on pre-trained weights"):
        prepared(backbone, "l2-sp-fisher", point="fc")


def test_delta_is_zero_at_the_start_and_then_the_squared_distance_of_the_maps(backbone):
    network, inputs, regularizer = prepared(backbone, "delta=0.01@layer3+layer4", point="layer3")
    assert len(regularizer.observes) == 2
    with torch.no_grad():
        before = observed(network.tail, regularizer.observes).eval()(inputs)[1]
        assert penalty_of(network, inputs, regularizer).item() == 0
        moved(network)
        after = observed(network.tail, regularizer.observes).eval()(inputs)[1]
    expected = 0.01 * sum(((a.numpy() - b.numpy()) ** 2).sum() / 12 for a, b in zip(after, before, strict=True))
    assert penalty_of(network, inputs, regularizer).item() == pytest.approx(expected, rel=1e-9)


def test_attention_is_the_softmax_of_the_standardised_rise_in_loss_and_averages_one():
    rises = np.array([0.5, -0.1, 2.0])
    weights = channel_weights(torch.from_numpy(rises)).numpy()
    np.testing.assert_allclose(weights, 3 * softmax((rises - rises.mean()) / rises.std() / 5), rtol=1e-12)
    # Rises of a real network are small, and what they are measured in changes nothing.
    np.testing.assert_allclose(channel_weights(torch.from_numpy(rises / 1000)).numpy(), weights, rtol=1e-9)
    assert channel_weights(torch.full((4,), 0.1)).tolist() == [1, 1, 1, 1]
    assert channel_weights(torch.tensor([2.0])).tolist() == [1]


def test_the_attention_of_a_stage_is_the_rise_without_each_filter_of_its_last_convolution(backbone):
    network, inputs, regularizer = prepared(backbone, "delta-attention=0.01@layer4", point="layer4")
    (weights,) = regularizer.weights
    assert weights.shape == (512,)
    assert float(weights.mean()) == pytest.approx(1)
    draw = np.random.default_rng(1)
    W, b = (torch.from_numpy(values) for values in (draw.normal(size=(3, 512)), draw.normal(size=3)))
    filters = network.tail.get_submodule("layer4.1.conv2").weight
    watched = observed(network.tail, regularizer.observes).eval()

    @torch.no_grad()
    def loss():
        features = watched(inputs)[1][0].mean((2, 3))
        return torch.nn.functional.cross_entropy(features @ W.T + b, torch.from_numpy(CODES)).item()

    before, rises = loss(), []
    for number in range(512):
        with torch.no_grad():
            kept = filters[number].clone()
            filters[number] = 0
            rises.append(loss() - before)
            filters[number] = kept
    rises = np.array(rises)
    assert rises.std() > 1e-4
    expected = softmax((rises - rises.mean()) / rises.std() / 5) * 512
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "layer", "filters"),
    [
        ("resnet18", "layer4", "layer4.1.conv2"),
        # Not the shortcut's convolution, which the graph computes later.
        ("resnet18", "layer4.0", "layer4.0.conv2"),
        ("vgg11", "features.20", "features.18"),
        ("convnext_tiny", "features.7", "features.7.2.block.5"),
        ("densenet121", "features.denseblock4", None),
    ],
)
def test_the_filters_of_a_map_are_those_of_the_layer_in_front_of_it(name, layer, filters):
    network = Network(load_backbone(name, "random"), 3, image_size=32)
    nodes = {node.name: node for node in network.tail.graph.nodes}
    node = nodes[network.cut.node_names[network.cut.resolve(layer)]]
    chosen = last_filters(network.tail, node, network.cut.shape(network.cut.resolve(layer))[0])
    assert (chosen and chosen.target) == filters


def test_a_tail_carries_on_from_where_it_was_interrupted(backbone):
    network = Network(backbone, 3, point="layer3", image_size=32)
    tail, inputs = network.tail.eval(), torch.randn(4, *network.shape)
    with torch.no_grad():
        whole = tail(inputs.clone())
        for node in [node for node in tail.graph.nodes if node.op == "call_module"][:-1]:
            values = interrupted(tail, node, inputs.clone())
            for _ in range(2):
                assert torch.equal(resumed(tail, values, {}), whole)
            assert not torch.equal(resumed(tail, values, {node: torch.randn_like(values[node])}), whole)


def test_distances_of_tokens_and_of_maps_with_their_channels_last_are_by_channel():
    draw = np.random.default_rng(0)
    now, then = draw.normal(size=(2, 4, 4, 5)), draw.normal(size=(2, 4, 4, 5))
    expected = ((now - then) ** 2).sum((1, 2)).mean(0)
    last = squared_distances(torch.from_numpy(now), torch.from_numpy(then), "map last")
    first = squared_distances(
        torch.from_numpy(now).permute(0, 3, 1, 2), torch.from_numpy(then).permute(0, 3, 1, 2), "map"
    )
    np.testing.assert_allclose(last.numpy(), expected)
    np.testing.assert_allclose(first.numpy(), expected)


@pytest.mark.parametrize("shape", [(5, 8), (9, 4)])
def test_bss_takes_the_smallest_of_all_singular_values_there_are(shape):
    matrix = np.random.default_rng(0).normal(size=shape)
    values = np.linalg.svd(matrix, compute_uv=False)
    features = torch.from_numpy(matrix).requires_grad_(True)
    assert smallest_squares(features, 1).item() == pytest.approx(values[-1] ** 2)
    assert smallest_squares(features, 2).item() == pytest.approx((values[-2:] ** 2).sum())
    assert torch.autograd.gradcheck(lambda features: smallest_squares(features, 2), features)
    # A run that diverged is stopped by the training loop, which looks for a penalty that is no number.
    assert math.isnan(smallest_squares(features * math.nan, 1).item())


def test_the_category_relation_finds_which_source_classes_a_label_is_made_of():
    draw = np.random.default_rng(0)
    codes = np.repeat([0, 1], 200)
    # Label 0 is source class 0 or 1, equally often; label 1 is source class 3. Class 2 is never seen.
    source = np.where(codes == 0, draw.integers(0, 2, 400), 3)
    logits = 6.0 * np.eye(4)[source] + 0.1 * draw.normal(size=(400, 4))
    relation = category_relation(logits, codes, classes=3)
    np.testing.assert_allclose(relation.sum(1), 1)
    np.testing.assert_allclose(relation[0, :2], 0.5, atol=0.06)
    assert relation[1].argmax() == 3
    assert relation[1, 3] > 0.9
    np.testing.assert_allclose(relation[2], softmax(logits, axis=1).mean(0))


def test_co_tuning_is_the_cross_entropy_of_the_source_head_with_the_relation(backbone):
    network, inputs, regularizer = prepared(backbone, "co-tuning=2.3", point="layer4")
    features = observed(network.tail, regularizer.observes).eval()(inputs)[1][0].detach().numpy()
    weight, bias = (value.detach().numpy() for value in regularizer.head.parameters())
    assert weight.shape == (1000, 512)
    relation = regularizer.relation.numpy()[CODES]
    expected = -2.3 * (relation * log_softmax(features @ weight.T + bias, axis=1)).sum(1).mean()
    assert penalty_of(network, inputs, regularizer).item() == pytest.approx(expected, rel=1e-6)
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.from_numpy(softmax(np.random.default_rng(0).normal(size=(3, 4)), axis=1))
    assert torch.autograd.gradcheck(lambda logits: soft_cross_entropy(logits, targets), logits)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_stochastic_norm_uses_one_of_two_statistics_in_each_channel(share):
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(64).double()
    nn.init.normal_(plain.running_mean)
    nn.init.uniform_(plain.weight)
    mean, variance = plain.running_mean.clone(), plain.running_var.clone()
    norm = StochasticNorm(plain, share).train()
    x = torch.randn(8, 64, 3, 3, dtype=torch.float64)
    output = norm(x).detach()

    def normal(m, v):
        scale, shift = plain.weight.detach(), plain.bias.detach()
        wide = [value.view(1, -1, 1, 1) for value in (m, v, scale, shift)]
        return (x - wide[0]) / (wide[1] + plain.eps).sqrt() * wide[2] + wide[3]

    moving, batch = normal(mean, variance), normal(x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False))
    is_moving = torch.isclose(output, moving).flatten(2).all(2).all(0)
    is_batch = torch.isclose(output, batch).flatten(2).all(2).all(0)
    assert bool((is_moving ^ is_batch).all())
    assert is_moving.double().mean().item() == pytest.approx(share, abs=0.2)
    # The moving statistics follow the batch as they do in a plain batch norm.
    torch.testing.assert_close(plain.running_mean, 0.9 * mean + 0.1 * x.mean((0, 2, 3)))
    assert torch.equal(norm.eval()(x), plain.eval()(x))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_gradient_of_stochastic_norm_is_that_of_the_statistics_it_used(share):
    torch.manual_seed(0)
    x = torch.randn(4, 6, 2, 2, dtype=torch.float64, requires_grad=True)

    def normalised(inputs):
        torch.manual_seed(1)
        plain = nn.BatchNorm2d(6).double()
        nn.init.normal_(plain.running_mean, std=3)
        nn.init.uniform_(plain.running_var, 0.2, 9)
        nn.init.uniform_(plain.weight)
        return StochasticNorm(plain, share).train()(inputs)

    assert torch.autograd.gradcheck(normalised, x)


def test_stochnorm_puts_the_batch_norms_back_even_when_training_fails(backbone):
    network, inputs, regularizer = prepared(backbone, "stochnorm", point="layer4")
    before = dict(network.tail.named_modules())
    with contextlib.suppress(ZeroDivisionError), regularizer.attached():
        assert isinstance(network.tail.get_submodule("layer4.0.bn1"), StochasticNorm)
        assert network.tail.state_dict().keys() == Network(backbone, 3, point="layer4").tail.state_dict().keys()
        raise ZeroDivisionError
    assert dict(network.tail.named_modules()) == before


@pytest.mark.parametrize("name", ["l2-sp", "ewc", "delta", "bss", "co-tuning"])
def test_what_needs_pre_trained_weights_says_so_where_none_train(backbone, name):
    with pytest.raises(UserError, match="unfreeze"):
        prepared(backbone, name, point="fc")


def test_layers_below_the_cut_and_stochnorm_without_batch_norm_are_refused(backbone):
    with pytest.raises(UserError, match="not above the cut"):
        prepared(backbone, "delta=1@layer2", point="layer4")
    with pytest.raises(UserError, match="batch norms"):
        prepared(backbone, "stochnorm", point="fc")
    with pytest.raises(UserError, match="probability"):
        prepared(backbone, "stochnorm=1.5", point="layer4")
