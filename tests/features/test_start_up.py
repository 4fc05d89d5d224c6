"""What a process loads before it computes: torch's compiler, and what comes with it, only where it is used."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import fx, nn

from features import overwriting
from features.architectures import build_model, outline
from features.cut import Cut

ROOT = Path(__file__).parents[2]
COMPILER = ("torch._dynamo", "torch._inductor", "sympy")


def _run(script: str, *before: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *before, "-c", script], cwd=ROOT, capture_output=True, text=True)


def test_torchvision_leaves_the_compiler_out_and_asks_it_later_what_it_asked_before():
    script = """
import sys, features, torch, torchvision
print(*(name in sys.modules for name in ("torchvision", "torch._dynamo", "torch._dynamo.utils")))
asks = sys.modules["torchvision.ops.roi_align"]
images, boxes = torch.rand(1, 3, 16, 16), [torch.tensor([[0.0, 0, 8, 8]])]
print(*torchvision.ops.roi_align(images, boxes, 4).shape, "torch._dynamo" in sys.modules)
if hasattr(asks, "is_compile_supported"):
    answer = asks.is_compile_supported("cpu")
    from torch._dynamo.utils import is_compile_supported
    assert answer == is_compile_supported("cpu")
    assert "torch/_dynamo/utils" in sys.modules["torch._dynamo.utils"].__file__
print(torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(2)).tolist())
"""
    assert _run(script).stdout.splitlines() == ["True False False", "1 3 4 4 False", "[1.0, 1.0]"], _run(script).stderr


def test_a_compiler_that_is_there_stays_there():
    script = """
import sys, torch, torch._dynamo
there = torch._dynamo.utils
import features, torchvision
print(sys.modules["torch._dynamo.utils"] is there)
"""
    assert _run(script).stdout.split() == ["True"]


def test_whatever_else_of_the_compiler_is_wanted_while_torchvision_loads_is_the_compilers_own():
    script = """
import features, sys, torch
from features import compiler
later = compiler._Later("torch._dynamo.utils")
sys.modules["torch._dynamo.utils"] = later
from torch._dynamo.utils import counters
import torch._dynamo
print(counters is torch._dynamo.utils.counters, torch._dynamo.utils is later, hasattr(later, "__path__"))
"""
    assert _run(script).stdout.split() == ["True", "False", "False"]


def test_optimisers_step_without_a_compiler_and_as_they_did_once_there_is_one():
    script = """
import sys
{first}
import torch

def trained(optimiser, steps=3, **options):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
    optimiser = optimiser(model.parameters(), lr=0.1, **options)
    for _ in range(steps):
        optimiser.zero_grad()
        model(torch.ones(2, 4)).square().sum().backward()
        optimiser.step(lambda: print(torch.is_grad_enabled(), end=" "))
    return [round(value, 6) for parameter in model.parameters() for value in parameter.flatten().tolist()]

def all_of_them():
    print(trained(torch.optim.SGD, momentum=0.9), trained(torch.optim.AdamW), trained(torch.optim.Adagrad))
    weight = torch.ones(2, requires_grad=True)
    copy = weight.clone()
    copy.grad = weight * 3
    torch.optim.SGD([copy], lr=0.1, differentiable=True).step()
    print(copy.requires_grad, torch.autograd.grad(copy.sum(), weight)[0].tolist(), torch.is_grad_enabled())

all_of_them()
print("torch._dynamo" in sys.modules, file=sys.stderr)
import torch._dynamo
all_of_them()
print(torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(2)).tolist(), torch.optim.SGD.step.__name__)
"""
    ours, torchs = _run(script.format(first="import features")), _run(script.format(first=""))
    assert ours.stdout == torchs.stdout != ""
    assert (ours.stderr.split(), torchs.stderr.split()) == (["False"], ["True"])
    first = ours.stdout.splitlines()
    assert first[:2] == first[2:4]


def test_what_is_left_out_of_compiling_stays_left_out():
    script = """
import features, sys, torch
left_out = torch._disable_dynamo(lambda x: [torch.compiler.is_compiling(), x + 1][1])
later = torch._disable_dynamo(recursive=False)(lambda x: x + 2)
print(left_out(1), later(1), "torch._dynamo" in sys.modules)
from torch._dynamo.testing import CompileCounter
counter = CompileCounter()
double = torch.compile(lambda x: left_out(x * 2) * 2, backend=counter)
print(double(torch.ones(2)).tolist(), counter.op_count, counter.frame_count, later(1))
"""
    assert _run(script).stdout.split("\n")[:2] == ["2 3 False", "[6.0, 6.0] 2 2 3"], _run(script).stderr


def test_shapes_of_a_batch_norm_are_found_without_a_compiler(home):
    script = """
import sys
from features.architectures import outline
from features.cut import Cut
cut = Cut(outline("resnet18").eval(), 64)
print(cut.shape(cut.resolve("layer2")), "torch._dynamo" in sys.modules)
"""
    assert _run(script).stdout.split("\n")[0] == "(128, 8, 8) False", _run(script).stderr


def test_an_outline_and_a_cut_that_is_known_load_no_compiler(home):
    script = f"""
import sys
from features.architectures import outline
from features.cut import Cut
cut = Cut(outline("resnet18").eval(), 64)
print(cut.shape(cut.resolve("layer2")), *(name in sys.modules for name in {COMPILER}))
"""
    first, again = _run(script), _run(script)
    assert first.stdout.startswith("(128, 8, 8)"), first.stderr
    assert again.stdout.split("(128, 8, 8)")[1].split() == ["False"] * len(COMPILER)


def _known(cut: Cut) -> tuple:
    return cut.layers, [(cut.shape(layer), cut.layout(layer)) for layer in cut.layers], cut.legal, cut.overwritten


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "mobilenet_v3_small", "swin_t", "vit_b_16"])
def test_what_is_known_of_a_graph_is_what_a_run_finds(name, home, monkeypatch):
    model = outline(name).eval()
    found = _known(Cut(model, 224))
    monkeypatch.setattr(overwriting, "_Watch", None)
    known = Cut(model, 224)
    assert _known(known) == found
    with pytest.raises(TypeError, match="NoneType"):
        _known(Cut(model, 256 if name != "vit_b_16" else 240))


class _Chain(nn.Module):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.Sequential(*parts)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(self.parts(x).mean((2, 3)))


def test_what_differs_in_a_graph_is_found_for_itself(home):
    kept = Cut(_Chain(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), 16)
    written = Cut(_Chain(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)).eval(), 16)
    assert kept.shape("parts.0") == written.shape("parts.0") == (4, 14, 14)
    assert kept.overwritten == frozenset() and written.overwritten == {"parts.0"}
    assert Cut(_Chain(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU()).eval(), 16).shape("parts.0") == (4, 7, 7)
    assert Cut(_Chain(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)).eval(), 16).shape("parts.0") == (8, 14, 14)


class _Doubling(nn.Conv2d):
    """Says of itself what a convolution says."""

    def forward(self, x):
        return torch.cat([super().forward(x)] * 2, 2)


def _hooked() -> nn.Module:
    module = nn.Conv2d(3, 4, 3)
    module.register_forward_hook(lambda module, given, output: torch.cat([output] * 2, 2))
    return module


def _patched() -> nn.Module:
    module = nn.Conv2d(3, 4, 3)
    plain = module.forward
    module.forward = lambda x: torch.cat([plain(x)] * 2, 2)
    return module


@pytest.mark.parametrize("make", [lambda: _Doubling(3, 4, 3), _hooked, _patched])
def test_nothing_is_noted_of_what_is_not_torchs_own(make, home, monkeypatch):
    graph = fx.Graph()
    image = graph.placeholder("x")
    graph.output(graph.call_module("part", (image,)))

    def shapes(part: nn.Module) -> list[tuple[int, ...]]:
        holder = nn.Module()
        holder.part = part
        return list(overwriting.watched(holder.eval(), graph, (2, 3, 16, 16)).values())

    assert shapes(nn.Conv2d(3, 4, 3)) == [(2, 3, 16, 16), (2, 4, 14, 14)]
    assert shapes(make()) == [(2, 3, 16, 16), (2, 4, 28, 14)]
    assert shapes(nn.Conv2d(3, 4, 3)) == [(2, 3, 16, 16), (2, 4, 14, 14)]


def test_a_package_whose_name_begins_as_torchs_is_not_torchs(home):
    def shape(times: int) -> tuple[int, ...]:
        def joined(x):
            return torch.cat([x] * times, 2)

        joined.__module__ = "torchmore.layers"
        graph = fx.Graph()
        image = graph.placeholder("x")
        node = graph.call_function(joined, (image,))
        graph.output(node)
        return overwriting.watched(nn.Module(), graph, (2, 3, 16, 16))[node]

    assert [shape(2), shape(3)] == [(2, 3, 32, 16), (2, 3, 48, 16)]


def test_a_network_that_is_built_draws_the_numbers_that_it_drew():
    torch.manual_seed(0)
    first = build_model("resnet18", 10)
    outline("resnet18", 10)
    torch.manual_seed(0)
    again = build_model("resnet18", 10)
    assert all(map(torch.equal, first.state_dict().values(), again.state_dict().values()))
    assert all(parameter.is_meta for parameter in outline("resnet18", 10).parameters())
