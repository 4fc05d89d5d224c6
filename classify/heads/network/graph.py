"""What networks and regularisers ask of a tail: outputs on its way, which parameters are whose, new final weights."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import fx, nn

from features.overwriting import kept

NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


def parameters_of(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> frozenset[str]:
    """The full names of the parameters that belong directly to modules of these kinds."""
    return frozenset(
        f"{path}.{name}" if path else name
        for path, part in module.named_modules()
        if isinstance(part, kinds)
        for name, _ in part.named_parameters(recurse=False)
    )


def observed(tail: fx.GraphModule, nodes: Iterable[str]) -> fx.GraphModule:
    """A tail that gives (logits, (output of each node, ...)), over the same modules: no hook is ever set."""
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    by_name: dict[str, fx.Node] = {}
    for node in tail.graph.nodes:
        if node.op == "output":
            graph.output((copied[node.args[0]], tuple(kept(by_name[name]) for name in nodes)))
        else:
            copied[node] = graph.node_copy(node, copied.__getitem__)
            by_name[node.name] = copied[node]
    return fx.GraphModule(tail, graph).train(tail.training)


def set_linear(layer: nn.Module, weight: np.ndarray, bias: np.ndarray) -> None:
    """Put weights (K, D) and intercepts (K,) into a linear layer."""
    assert isinstance(layer, nn.Linear)  # nobody fits a probe for another one
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(bias))
