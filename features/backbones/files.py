"""Files of weights held against an architecture: what PyTorch, torchvision and training scripts write."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from features.architectures import build_model, hold_auxiliary, outline
from features.commands.speaking import tell_once
from features.errors import UserError
from features.families import family_of
from features.matching import match_weights
from features.weights import all_finite, read_tables


def with_state(name: str, path: Path, **options: Any) -> tuple[nn.Module, bool]:
    """A model of this architecture that holds the weights in a file, with as many classes, and whether it lacks a
    classifier; options: what its builder is told, whatever the file."""
    match, others = match_weights(name, read_tables(path), path, **options)
    if others:
        places = [other.place or "the file's outermost tensors" for other in (match, *others)]
        tell_once(f"{path.name} holds {len(places)} sets of weights of {name}: {', '.join(places)}; the first is used")
    if match.own_head:
        tell_once(f"{path.name} has a classifier that {name} has not ({match.own_head[0]}), and is read without it")
    # Drawing the numbers of a large network, only to write over them, takes longer than reading the file.
    made = outline if family_of(name).builds_outlines else build_model
    model = made(name, match.classes, **match.options)
    _fill(model, match.state(model), path)
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        model = build_model(name, match.classes, **match.options)
        _fill(model, match.state(model), path)
    if match.headless:
        for classifier in family_of(name).classifiers(model):
            model.set_submodule(classifier, nn.Identity())
    return model, match.headless


def _fill(model: nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
    """Have a model hold the tensors of a file, over their memory where they are of its types."""
    own = model.state_dict()
    _require_numbers(state, own, path)
    hold_auxiliary(model, state)
    for name in state.keys() & own.keys():
        tensor = state[name].to(own[name].dtype).contiguous()
        # Part of a larger piece of memory would keep all of it.
        state[name] = tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
    with warnings.catch_warnings():
        # MNASNet's loader says that there are newer weights.
        warnings.simplefilter("ignore", UserWarning)
        model.load_state_dict(state, strict=False, assign=True)


def _require_numbers(state: dict[str, torch.Tensor], own: dict[str, torch.Tensor], path: Path) -> None:
    """UserError for weights that are whole numbers, and for NaN and infinity."""
    for name, tensor in state.items():
        if name not in own or not own[name].is_floating_point():
            continue
        if not tensor.is_floating_point():
            raise UserError(
                f"{path}: {name} holds whole numbers ({tensor.dtype}), as quantised weights do; save them as "
                "floating-point numbers"
            )
        if not all_finite(tensor):
            raise UserError(
                f"{path}: {name} holds NaN or infinity, as training that diverged leaves it; take weights from before"
            )
