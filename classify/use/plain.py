"""A saved model as the plain state dict of its architecture, where its head can become the final layer.

So a linear head on the pooled features, its scaler and all, ends as `fc` of an ordinary ResNet18 that torchvision loads
strictly. Which layer is final, and whether the features are what it reads, is found from the graph.
"""

from collections import OrderedDict
from typing import Any

import torch
from torch import fx, nn

from classify.heads.network.trained import TrainedNetwork
from classify.use.modules import linear_form
from classify.use.saved import SavedModel
from features.architectures import drop_auxiliary, outline
from features.backbones.family import is_auxiliary
from features.cut import Cut
from features.errors import UserError
from features.families import family_of

_OTHERS = "take --format onnx or torch"
_RESHAPING = ("flatten", "reshape", "view", "squeeze", "contiguous", "dropout")


def architecture(model: SavedModel) -> tuple[str, dict[str, Any]]:
    """The architecture that a model's plain weights are for: its name, and what its builder has to be told beside the
    number of classes. UserError where it has none."""
    backbone = model.backbone
    if isinstance(model.head, TrainedNetwork):
        backbone = getattr(model.head.network_, "backbone", None)
    if backbone is None:
        raise UserError(f"the {model.saved.result.config.head} is no architecture that others have; {_OTHERS}")
    fresh = outline(backbone.name, **backbone.family.options_of(backbone.model))
    # They are no part of a frozen network, and of a trained one no longer.
    drop_auxiliary(fresh)
    return backbone.name, backbone.family.options_of(fresh)


def plain_state(model: SavedModel) -> "OrderedDict[str, torch.Tensor]":
    """Names and tensors, float32, for the model's architecture with as many classes as the model has, and torch's note
    of the layout's version, without which some loaders (MNASNet's) take nothing.

    UserError for a head that is not linear, for features that the final layer does not read, for an architecture whose
    final layer is not linear where a head should become it, and for one with other parts than the model has.
    """
    name, options = architecture(model)
    fresh = outline(name, classes=len(model.classes), **options)
    final = family_of(name).classifiers(fresh)[0]
    if isinstance(model.head, TrainedNetwork):
        if model.head.test_views > 1:
            raise UserError(
                f"a network that decides over {model.head.test_views} views is more than its weights, which see an "
                f"image once; {_OTHERS}, or train it with --test-views 1"
            )
        state = dict(model.head.whole().state_dict())
    elif not isinstance(fresh.get_submodule(final), nn.Linear):
        raise UserError(f"{name} does not end in a linear layer, so no head can become it; {_OTHERS}")
    else:
        assert model.backbone is not None  # a head that is no network takes features
        state = dict(model.backbone.model.state_dict())
        state |= dict(zip((f"{final}.weight", f"{final}.bias"), _final_layer(model, final), strict=True))
    state = {key: tensor for key, tensor in state.items() if not is_auxiliary(key)}
    wanted = fresh.state_dict()
    wrong = [key for key in wanted if key not in state or state[key].shape != wanted[key].shape]
    wrong += [key for key in state if key not in wanted]
    if wrong:
        raise UserError(f"{name} has parts that this model lacks or has otherwise ({wrong[0]}); {_OTHERS}")
    plain = OrderedDict((key, state[key].detach().cpu().to(wanted[key].dtype).contiguous().clone()) for key in wanted)
    plain._metadata = wanted._metadata  # type: ignore[attr-defined]  # where torch's state_dict has it
    return plain


def _final_layer(model: SavedModel, final: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (K, D) and intercepts (K,) over what the final layer reads."""
    weights, intercept = (torch.from_numpy(array) for array in linear_form(model.head))
    assert model.reader is not None and model.backbone is not None  # a head that is no network takes features
    cut, key = model.reader.cut, model.reader.keys[0]
    old = model.backbone.model.get_submodule(final)
    if len(model.reader.keys) == 1 and torch.Size(cut.shape(key.layer)).numel() == weights.shape[1]:
        if cut.resolve(key.layer) == final and isinstance(old, nn.Linear):
            # A head on the classifier's own output: two linear layers in a row are one.
            bias = 0 if old.bias is None else weights @ old.bias.double()
            return weights @ old.weight.double(), intercept + bias
        if _reads_unchanged(cut, key.layer, final):
            return weights, intercept
    layer = model.saved.result.config.layer
    raise UserError(
        f"the features of {layer} ({model.saved.result.config.pool}) are not what {final} reads, so the head "
        f"cannot take its place; train one on avgpool, or {_OTHERS}"
    )


def _reads_unchanged(cut: Cut, layer: str, final: str) -> bool:
    """Whether the final layer is next after `layer`, but for reshaping and dropout, and nothing follows it."""
    if layer not in cut.legal:
        return False
    tail = cut.tail(layer)
    chain = [node for node in tail.graph.nodes if node.op not in ("placeholder", "output")]
    chain = [node for node in chain if not _only_reshapes(tail, node)]
    # Weights that came without a classifier end where it would stand.
    return not chain or [node.target for node in chain] == [final]


def _only_reshapes(tail: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return isinstance(tail.get_submodule(str(node.target)), nn.Flatten | nn.Identity | nn.Dropout)
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name in (*_RESHAPING, "size", "getitem", "getattr")
