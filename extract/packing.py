"""Matrix products as oneDNN likes them on a processor: for networks of linear layers what `extract.fusing` is for those
of convolutions.

Weights are laid out once, and a linear layer takes the activation or the addition that reads it along. float32 gains
most, since torch's own products run at less than half of a core's rate where MKL does not know the processor; bfloat16
gains from attention that is computed as three products.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torchvision.models.swin_transformer import shifted_window_attention
from torchvision.ops import StochasticDepth

from extract.fusing import (
    Activation,
    activation_of_linear,
    addition_to,
    compute_by,
    fuse_convolutions,
    module_of,
    read_by,
)

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
    order = {node: place for place, node in enumerate(network.graph.nodes)}
    modules = dict(network.named_modules())
    for node in list(network.graph.nodes):
        module, name = module_of(node, modules), f"packed_product_{order[node]}"
        if node.op == "call_function" and node.target is functional.scaled_dot_product_attention:
            node.target = attend
        elif node.op == "call_function" and node.target is shifted_window_attention:
            weights = [_tensor(network, argument) for argument in node.args[1:3]]
            rows = node.meta["shape"][:-1].numel()
            network.add_module(name, PackedWindows([weight for weight in weights if weight is not None], rows))
            node.op, node.target = "call_module", name
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


class PackedLinear(nn.Module):
    """A linear layer with its weights in oneDNN's own layout, what is added to it, or its activation."""

    def __init__(self, linear: nn.Linear, shape: torch.Size, activation: Activation = ("none", ())) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), shape[:-1].numel())
        self.bias = None if linear.bias is None else linear.bias.detach()
        # A form of GELU is told as an algorithm.
        self.activation, _, self.algorithm = activation[0].partition(" ")
        self.numbers = list(activation[1])

    def forward(self, rows: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        """(..., D) in the weights' type."""
        if other is not None:
            return torch.ops.mkldnn._linear_pointwise.binary(rows, other, self.weight, self.bias, "add")
        return torch.ops.mkldnn._linear_pointwise(
            rows, self.weight, self.bias, self.activation, self.numbers, self.algorithm
        )


class PackedAttention(nn.Module):
    """Attention of tokens to themselves: torch's module, for (N, T, D) and without masks."""

    def __init__(self, attention: nn.MultiheadAttention, shape: torch.Size) -> None:
        super().__init__()
        self.heads = attention.num_heads
        width = attention.embed_dim
        inward = nn.Linear(width, 3 * width, bias=attention.in_proj_bias is not None, device="meta")
        inward.weight, inward.bias = attention.in_proj_weight, attention.in_proj_bias
        self.inward, self.outward = PackedLinear(inward, shape), PackedLinear(attention.out_proj, shape)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, None]:
        """What the module gives: (N, T, D), and no weights."""
        count, length, width = tokens.shape
        parts = self.inward(tokens).view(count, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        attended = attend(*parts).transpose(1, 2).reshape(count, length, width)
        return self.outward(attended), None


class PackedWindows(nn.Module):
    """torchvision's attention of shifted windows, a function that is given its weights: their products are oneDNN's."""

    def __init__(self, weights: Sequence[torch.Tensor], rows: int) -> None:
        super().__init__()
        reorder = torch.ops.mkldnn._reorder_linear_weight
        self.packed = {id(weight): reorder(weight.detach(), rows) for weight in weights}
        self.weights = tuple(weights)  # so that no other tensor gets the same identity

    def forward(self, *given: Any, **named: Any) -> torch.Tensor:
        """What the function gives."""
        with _Products(self.packed):
            return shifted_window_attention(*given, **named)


class _Products(TorchFunctionMode):
    """Meanwhile, in this thread, products with some weights are oneDNN's."""

    def __init__(self, packed: Mapping[int, torch.Tensor]) -> None:
        super().__init__()
        self.packed = packed

    def __torch_function__(self, function: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        if function is functional.linear and id(given[1]) in self.packed:
            weight, bias = self.packed[id(given[1])], given[2] if len(given) > 2 else None
            return torch.ops.mkldnn._linear_pointwise(given[0], weight, bias, "none", [], "")
        return function(*given, **(named or {}))


def _tensor(network: fx.GraphModule, argument: Any) -> torch.Tensor | None:
    """The parameter that a node reads."""
    if not isinstance(argument, fx.Node) or argument.op != "get_attr":
        return None
    module, _, name = str(argument.target).rpartition(".")
    return getattr(network.get_submodule(module), name)


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
    """torch's scaled_dot_product_attention. In bfloat16 (N, H, T, E) three operations of a whole batch take half of the
    time of torch's own one; in float32 that is the fastest."""
    usual = {"dropout_p": 0.0, "is_causal": False, "attn_mask": None, "enable_gqa": False}
    asked = {name: value for name, value in named.items() if name != "scale"}
    plain = not more and all(name in usual and value == usual[name] for name, value in asked.items())
    plain = plain and query.dtype == torch.bfloat16 and query.ndim == 4 and query.shape[1] == key.shape[1]
    if not plain:
        return functional.scaled_dot_product_attention(query, key, value, *more, **named)
    count, heads, length, width = query.shape
    scale = named.get("scale")
    query, key, value = (part.reshape(count * heads, -1, part.shape[-1]) for part in (query, key, value))
    weights = torch.bmm(query * (width**-0.5 if scale is None else scale), key.transpose(1, 2)).softmax(-1)
    return torch.bmm(weights, value).view(count, heads, length, -1)


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
