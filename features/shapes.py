"""What the nodes of a graph give for images of one size, found once: a run on tensors without numbers loads torch's
compiler and sympy with it, two processor seconds, whenever a process asks for the first time.

The answer is noted by the graph's digest where all that the graph calls is torch's or torchvision's own: their modules
say of themselves what a shape rests on. What others bring is run each time.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from torch import fx, nn

from features.notes import remembered_answer
from features.versions import version_of
from features.walking import graph_digest

_RULE = 1  # raised with what is noted: what an earlier version noted is asked again
_FUNCTIONS_OF = ("torch", "torchvision", "_operator", "builtins", "math")
# What this process asked last, and how many: a network is asked about again for each set of layers.
_FOUND: dict[str, str] = {}
_FOUND_LAST = 100


def found_once(
    what: str, model: nn.Module, graph: fx.Graph, images: Sequence[int], find: Callable[[], list[Any]]
) -> list[Any]:
    """What `find` gives: JSON values, one for each node of a model's graph in order, for images (N, C, H, W).

    what: what is asked of the nodes. Errors of `find` pass, and are not noted.
    """
    if not all(_is_torchs(model, node) for node in graph.nodes):
        return find()
    sizes = sorted((name, tuple(tensor.shape)) for name, tensor in model.state_dict().items())
    versions = ", ".join(f"{package} {version_of(package)}" for package in ("torch", "torchvision"))
    question = (
        f"{what} by rule {_RULE} in the graph {graph_digest(model, graph)} with parameters "
        f"{hashlib.sha256(repr(sizes).encode()).hexdigest()} for {tuple(images)} with {versions}"
    )
    if question not in _FOUND:
        if len(_FOUND) == _FOUND_LAST:
            _FOUND.clear()
        _FOUND[question] = remembered_answer(question, lambda: json.dumps(find(), separators=(",", ":")))
    noted: list[Any] = json.loads(_FOUND[question])
    return noted


def _is_torchs(model: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return all(map(_is_plain, model.get_submodule(str(node.target)).modules()))
    if node.op == "call_function":
        function = node.target.func if isinstance(node.target, functools.partial) else node.target
        return str(getattr(function, "__module__", "")).partition(".")[0] in _FUNCTIONS_OF
    return True


def _is_plain(module: nn.Module) -> bool:
    """Whether a module is of torch's and does what its class does: nobody gave it hooks, or a forward of its own."""
    changed = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return type(module).__module__.startswith("torch.nn.") and not changed
