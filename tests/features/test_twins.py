"""Copies of networks over the same numbers: all else is their own, and what says how it is copied is asked."""

import copy

import torch
from torch import fx, nn
from torchvision import models

from features.twins import own_parts, parts_without_numbers, twin, without_numbers


class Shared(nn.Module):
    """A part under two names, a parameter in two parts, and what is no tensor."""

    def __init__(self):
        super().__init__()
        self.first = self.second = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
        self.third = nn.Linear(3, 3)
        self.third.weight = self.first[0].weight
        self.absent = None
        self.steps = [1, {"two": 2}]
        self.register_buffer("scale", torch.ones(3))
        self.register_module("nothing", None)

    def forward(self, x):
        return self.third(self.second(self.first(x))) * self.scale


class Counted(nn.Module):
    """Says itself how it is copied."""

    def __init__(self, copies=0):
        super().__init__()
        self.copies = copies

    def __deepcopy__(self, memo):
        return Counted(self.copies + 1)


class Kept(nn.Module):
    """Says itself what is kept of it."""

    def __init__(self):
        super().__init__()
        self.cache = {"large": torch.ones(2)}

    def __getstate__(self):
        return {**vars(self), "cache": {}}


def test_a_twin_shares_numbers_and_nothing_else():
    module = Shared()
    other = twin(module)
    assert other.first is other.second is not module.first
    assert other.third.weight is other.first[0].weight is not module.third.weight
    assert other.third.weight.data_ptr() == module.third.weight.data_ptr()
    assert other.scale.data_ptr() == module.scale.data_ptr()
    assert other.steps == module.steps and other.steps[1] is not module.steps[1]
    assert list(other._modules) == list(module._modules) and other.nothing is None
    other.third.weight.data = torch.zeros(3, 3)
    other.first[0].register_forward_hook(lambda *given: None)
    assert module.third.weight.any() and not module.first[0]._forward_hooks


def test_hooks_and_the_mode_go_with_it():
    seen = []
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).eval()
    module[0].register_forward_hook(lambda *given: seen.append(1))
    other = twin(module)
    assert not other.training and not other[1].training
    other(torch.zeros(1, 2))
    assert seen == [1]


def test_what_says_how_it_is_copied_is_asked():
    other = twin(nn.Sequential(Counted(), Kept(), nn.Sequential(Counted())))
    assert (other[0].copies, other[2][0].copies, other[1].cache) == (1, 1, {})


def test_it_is_what_deepcopy_makes_but_for_the_memory():
    module = models.googlenet(init_weights=False).eval()
    made, expected = twin(module), copy.deepcopy(module)
    for (name, part), (other, theirs) in zip(made.named_modules(), expected.named_modules(), strict=True):
        assert (name, type(part), list(vars(part))) == (other, type(theirs), list(vars(theirs)))
        assert [type(value) for value in vars(part).values()] == [type(value) for value in vars(theirs).values()]


def test_a_graph_made_around_a_network_gets_parts_of_its_own():
    module = Shared()
    graph = fx.Tracer().trace(module)
    network = own_parts(fx.GraphModule(module, graph))
    images = torch.randn(2, 3)
    assert torch.equal(network(images), module(images))
    theirs, tensors = set(module.modules()), {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    assert not theirs & set(network.modules())
    assert not [tensor for tensor in (*network.parameters(), *network.buffers()) if id(tensor) in tensors]
    assert network.third.weight is network.get_submodule("first.0").weight


def test_without_numbers_only_shapes_are_left():
    network = fx.symbolic_trace(Shared())
    for copied in (without_numbers(network), parts_without_numbers(network)):
        assert {tensor.device.type for tensor in (*copied.parameters(), *copied.buffers())} == {"meta"}
        assert [name for name, _ in copied.named_parameters()] == [name for name, _ in network.named_parameters()]
    assert not hasattr(parts_without_numbers(network), "graph")
