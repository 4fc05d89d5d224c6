"""Matrix products as oneDNN likes them on a processor: for networks of linear layers what `extract.fusing` is for those
of convolutions.

Weights are laid out once, and a linear layer takes the activation or the addition that reads it along. float32 gains
most where MKL does not know the processor, whose products torch then computes at less than half of a core's rate;
attention gains in every precision.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional
from torchvision.models.swin_transformer import shifted_window_attention
from torchvision.ops import StochasticDepth

from extract.attention import PackedAttention, PackedWindows, attend
from extract.fusing import (
    Activation,
    activation_of_linear,
    addition_to,
    compute_by,
    fuse_convolutions,
    module_of,
    read_by,
)
from extract.products import PackedLinear

_IDENTITIES = (nn.Identity, nn.Dropout, StochasticDepth)
_OPERATIONS = ("_linear_pointwise", "_reorder_linear_weight")


def can_pack(network: nn.Module, dtype: torch.dtype) -> bool:
    """Whether this torch and processor have the operations, and the network has what they are for."""
    supported = torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in _OPERATIONS)
    supported = supported and (dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return supported and sum(isinstance(module, nn.Linear | nn.MultiheadAttention) for module in network.modules()) > 1


def without_identities(network: fx.GraphModule) -> fx.GraphModule:
    """Take out of a graph, in place, what gives back what it is given in eval mode; `recompile` is left to do."""
    modules = dict(network.named_modules())
    for node in list(network.graph.nodes):
        if node.args and (type(module_of(node, modules)) in _IDENTITIES or _drops_nothing(node)):
            node.replace_all_uses_with(read_by(node))
            network.graph.erase_node(node)
    return network


def _drops_nothing(node: fx.Node) -> bool:
    name = getattr(node.target, "__name__", "")
    training = {"dropout": 2, "stochastic_depth": 3}.get(name) if node.op == "call_function" else None
    if training is None:
        return False
    given = node.kwargs.get("training", node.args[training] if len(node.args) > training else name == "dropout")
    return given is False and bool(node.args)


def pack_products(network: fx.GraphModule, images: torch.Size) -> fx.GraphModule:
    """Replace linear layers, attention and convolutions of a graph of an eval-mode network, in place, for batches of
    about this shape.

    Weights keep their type; the result computes on a processor only, and is for reading features, not for training.
    """
    fuse_convolutions(network, images)
    _pack_windows(network)
    order = {node: place for place, node in enumerate(network.graph.nodes)}
    modules = dict(network.named_modules())
    for node in list(network.graph.nodes):
        module, name = module_of(node, modules), f"packed_product_{order[node]}"
        if node.op == "call_function" and node.target is functional.scaled_dot_product_attention:
            node.target = attend
        elif type(module) is nn.MultiheadAttention and _attends_to_itself(node, module):
            network.add_module(name, PackedAttention(module, read_by(node).meta["shape"]))
            node.target, node.args, node.kwargs = name, (read_by(node),), {}
        elif type(module) is nn.Linear and node.args:
            last, other, activation = _what_follows(node, order, modules)
            network.add_module(name, PackedLinear(module, read_by(node).meta["shape"], activation))
            compute_by(name, read_by(node), other, last, order)
    network.delete_all_unused_submodules()
    network.recompile()
    return network


def _pack_windows(network: fx.GraphModule) -> None:
    """Replace torchvision's attention of shifted windows where nothing but the map that it reads depends on images."""
    windows = [node for node in network.graph.nodes if node.target is shifted_window_attention]
    constants = _constants(network) if windows else {}
    for place, node in enumerate(windows):
        bound = inspect.signature(shifted_window_attention).bind(*node.args, **node.kwargs)
        bound.apply_defaults()
        given = bound.arguments
        maps, *dropped = (given.pop(name) for name in ("input", "attention_dropout", "dropout"))
        drops = given.pop("training") and any(dropped)
        if drops or any(read not in constants for read in node.all_input_nodes if read is not maps):
            continue
        asked = {name: constants[value] if isinstance(value, fx.Node) else value for name, value in given.items()}
        name = f"packed_windows_{place}"
        network.add_module(name, PackedWindows(maps.meta["shape"], **asked))
        node.op, node.target, node.args, node.kwargs = "call_module", name, (maps,), {}
    if windows:
        network.graph.eliminate_dead_code()


def _constants(network: fx.GraphModule) -> dict[fx.Node, Any]:
    """The values of all nodes that depend on weights alone."""
    computing = fx.Interpreter(network)
    with torch.no_grad():
        for node in network.graph.nodes:
            if node.op not in ("placeholder", "output") and all(read in computing.env for read in node.all_input_nodes):
                computing.env[node] = computing.run_node(node)
    return computing.env


def _what_follows(
    node: fx.Node, order: Mapping[fx.Node, int], modules: Mapping[str, nn.Module]
) -> tuple[fx.Node, fx.Node | None, Activation]:
    """What a linear layer can take along: the last node of it, what is added if anything, and the activation."""
    addition, other = addition_to(node, order)
    if addition is not None:
        return addition, other, ("none", ())
    reader = next(iter(node.users)) if len(node.users) == 1 else None
    activation = activation_of_linear(reader, modules) if reader else None
    return (reader, None, activation) if reader and activation else (node, None, ("none", ()))


def _attends_to_itself(node: fx.Node, module: nn.MultiheadAttention) -> bool:
    alone = len(node.args) == 3 and len(set(node.args)) == 1
    alone = alone and all(name == "need_weights" and value is False for name, value in node.kwargs.items())
    plain = module.batch_first and module._qkv_same_embed_dim and module.bias_k is None and not module.add_zero_attn
    return bool(alone and plain and node.kwargs)
