"""Convolutions over small maps: the same numbers as torch's, and the network as it was afterwards."""

import pytest
import torch
from torch import nn

from classify.heads.network.small_maps import SmallMapConvolution, small_map_convolutions, weight_gradient


@pytest.mark.parametrize(
    ("size", "stride", "kernel"), [(2, 1, 3), (4, 2, 3), (4, 2, 1), (8, 2, 3), (5, 2, 3), (9, 1, 3)]
)
@pytest.mark.parametrize("bias", [False, True])
def test_gradients_are_those_of_a_plain_convolution(size, stride, kernel, bias):
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 4, kernel, stride, kernel // 2, bias=bias).double().to(memory_format=torch.channels_last)
    swapped = SmallMapConvolution(plain)
    images = torch.randn(5, 3, size, size, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    found = []
    for module in (plain, swapped):
        inputs = images.clone().requires_grad_(True)
        output = module(inputs)
        slope = torch.cos(torch.arange(output.numel(), dtype=torch.float64)).view_as(output)
        found.append((output, *torch.autograd.grad((output * slope).sum(), [inputs, *plain.parameters()])))
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value, expected)
    if not bias:
        kind = type(swapped(images.requires_grad_(True)).grad_fn).__name__
        assert (kind == "_ConvolutionBackward") == (size != 9)


def test_the_weight_gradient_works_with_unequal_padding_and_stride():
    inputs = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    weight = torch.randn(4, 3, 3, 2, dtype=torch.float64, requires_grad=True)
    output = nn.functional.conv2d(inputs, weight, None, (2, 1), (1, 0))
    slope = torch.randn_like(output)
    (expected,) = torch.autograd.grad((output * slope).sum(), weight)
    torch.testing.assert_close(weight_gradient(inputs, slope, weight.shape, (2, 1), (1, 0)), expected)


def test_mixed_precision_gives_the_weights_a_float32_gradient():
    plain = nn.Conv2d(8, 8, 3, padding=1).to(memory_format=torch.channels_last)
    inputs = torch.randn(4, 8, 2, 2)
    gradients = []
    for module in (plain, SmallMapConvolution(plain)):
        with torch.autocast("cpu", torch.bfloat16):
            output = module(inputs)
        assert output.dtype == torch.bfloat16
        gradients.append(torch.autograd.grad(output.float().square().sum(), plain.weight)[0])
    assert gradients[1].dtype == torch.float32
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0.05, atol=0.1)


def test_the_network_is_as_it_was_afterwards_even_when_training_fails():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3, padding="same"))
    before = list(network)
    with pytest.raises(ZeroDivisionError), small_map_convolutions(network):
        assert [type(module) is SmallMapConvolution for module in network] == [True, False, False]
        assert network.state_dict().keys() == nn.Sequential(*before).state_dict().keys()
        raise ZeroDivisionError
    assert list(network) == before
