"""What networks and regularisers ask of a tail: outputs on its way, which parameters are whose, new final weights."""

from collections.abc import Iterable, Mapping
from typing import Any

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


def interrupted(tail: fx.GraphModule, last: fx.Node, inputs: torch.Tensor) -> dict[fx.Node, Any]:
    """What all nodes up to `last` give for these inputs; nothing after it has run, or changed anything in place."""
    runner = fx.Interpreter(tail, garbage_collect_values=False)
    runner.args_iter = iter((inputs,))
    for node in tail.graph.nodes:
        runner.env[node] = runner.run_node(node)
        if node is last:
            break
    return runner.env


def resumed(tail: fx.GraphModule, values: Mapping[fx.Node, Any], instead: Mapping[fx.Node, Any]) -> Any:
    """What a tail gives, carried on from where it was interrupted, with other values for some nodes.

    What later nodes read is copied, since they may write into it.
    """
    read = {node for node in values if any(user not in values for user in node.users)}
    known = {**values, **instead}
    copies = {node: known[node].clone() for node in read if isinstance(known[node], torch.Tensor)}
    return fx.Interpreter(tail).run(initial_env={**known, **copies})


def set_linear(layer: nn.Module, weight: np.ndarray, bias: np.ndarray) -> None:
    """Put weights (K, D) and intercepts (K,) into a linear layer."""
    assert isinstance(layer, nn.Linear)  # nobody fits a probe for another one
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(bias))
