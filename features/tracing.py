"""The graph of a network: torch.fx, and where code asks for sizes, with the sizes known.

torch.fx gives up where a network decides by `x.shape`, asks for `len(x)` or makes an `int` of a size, and it has a node
for each size that is read, so that later layers seem to read earlier ones. `trace_sized` runs the network beside the
trace on tensors without numbers, so that sizes are plain numbers, which belong to one size of images; only the number
of images stays open.
"""

import contextlib
import copy
import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.node import map_aggregate, map_arg
from torch.overrides import TorchFunctionMode, is_tensor_method_or_property
from torchvision.models.feature_extraction import NodePathTracer

from features.backbones.family import Traits
from features.commands.speaking import quiet
from features.errors import UserError
from features.walking import KIND

# So many images are traced: a prime of which nothing else in a network is a multiple.
_IMAGES = 100_003
# What a tensor has that is no size and no method: it may be another one when the graph runs.
_OPEN = ("dtype", "device", "layout", "is_cuda", "requires_grad", "T", "mT", "H", "mH", "data")


class Traced:
    """A network's graph, and what each of its nodes is called: by the module that it stands in."""

    def __init__(self, model: nn.Module, image_size: int, traits: Traits) -> None:
        kinds = {"autowrap_functions": traits.leaf_functions, "leaf_modules": list(traits.leaf_modules)}
        tracer = _OfImages(**kinds)
        try:
            if traits.sized:
                raise TypeError
            with _left_as_it_was(model):
                self.graph = tracer.trace(model)
        except (fx.proxy.TraceError, TypeError, RuntimeError):
            tracer = _Sized(image_size, **kinds)
            try:
                self.graph = tracer.trace_sized(model)
            except UserError:
                raise
            except Exception as error:
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                raise UserError(
                    f"{type(model).__name__} cannot be taken apart at {image_size} x {image_size} pixels ({reason})"
                ) from error
        self.names = {node: tracer.node_to_qualname.get(node, node.name) for node in self.graph.nodes}


@contextlib.contextmanager
def _left_as_it_was(module: nn.Module) -> Iterator[None]:
    """What parts of a network keep of what they compute (sizes, caches for inference) is forgotten: neither tensors
    without numbers nor nodes of a graph are to stay there, and no cache of numbers is to become part of the graph."""
    training = [(part, part.training) for part in module.modules()]
    module.train()  # by which timm's forget their caches
    for part, was_training in training:
        part.training = was_training
    before = [(part, {name: (value, _held(value)) for name, value in vars(part).items()}) for part, _ in training]
    try:
        yield
    finally:
        for part, attributes in before:
            constants = {name: value for name, value in vars(part).items() if name.startswith("_tensor_constant")}
            part.__dict__.clear()
            part.__dict__.update(constants)  # which the graph has put there
            for name, (value, held) in attributes.items():
                part.__dict__[name] = value
                # Buffers, for one, stand in a table of their own.
                if type(value) is dict:
                    value.clear()
                    value.update(held)
                elif type(value) is list:
                    value[:] = held


def _held(value: Any) -> Any:
    return copy.copy(value) if type(value) in (dict, list) else value


class _OfImages(NodePathTracer):
    """Traces what a network does when it is given images and nothing else."""

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        function, arguments = super().create_args_for_root(root_fn, is_module, concrete_args)
        root, images, *others = arguments
        for other in others:
            self.graph.erase_node(other.node)
        return function, [root, images, *(self._left_out(other.node) for other in others)]

    def _left_out(self, argument: fx.Node) -> Any:
        """What an argument is that nobody gives; a node for it would be something wherever code asks `is None`."""
        name = str(argument.target)
        if name.startswith("*"):
            return {} if name.startswith("**") else ()
        if not argument.args:
            raise UserError(
                f"{type(self.root).__name__} asks for {name!r} beside the images; give its forward a default for it"
            )
        return argument.args[0]


class _Sized(_OfImages):
    """Knows of each node what it gives, for so many images of one size."""

    def __init__(self, image_size: int, **kinds: Any) -> None:
        super().__init__(**kinds)
        self.values: dict[fx.Node, Any] = {}
        self._images = (_IMAGES, 3, image_size, image_size)
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.is_computing = False

    def trace_sized(self, model: nn.Module) -> fx.Graph:
        """The graph, with the number of images read from the input."""
        # What an outline makes by itself has no numbers either.
        is_outline = any(parameter.is_meta for parameter in model.parameters())
        made = torch.device("meta") if is_outline else contextlib.nullcontext()
        silent = quiet("torch._subclasses.fake_tensor")
        with torch.no_grad(), made, silent, _left_as_it_was(model), _MadeForImages(self):
            graph = self.trace(model)
        images = next(node for node in graph.nodes if node.op == "placeholder")
        with graph.inserting_after(images):
            batch = graph.call_method("size", (images, 0))
        multiples = {_IMAGES: batch}

        def opened(value: Any) -> Any:
            if not _counts_images(value):
                return value
            if value not in multiples:
                with graph.inserting_after(batch):
                    multiples[value] = graph.call_function(operator.mul, (batch, value // _IMAGES))
            return multiples[value]

        for node in list(graph.nodes):
            if node not in multiples.values():
                node.args, node.kwargs = map_aggregate(node.args, opened), map_aggregate(node.kwargs, opened)
        if not batch.users:
            graph.erase_node(batch)
        for number, node in enumerate(multiples.values()):
            self.node_to_qualname[node] = f"images_{number}"
        return graph

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _SizedProxy(node, self)

    def create_arg(self, a: Any) -> Any:
        # Sizes are replaced by nodes afterwards, which torch.Size does not take.
        return super().create_arg(tuple(a) if isinstance(a, torch.Size) else a)

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *more: Any, **named: Any) -> Any:
        proxy = super().create_proxy(kind, target, args, kwargs, *more, **named)
        if isinstance(proxy, fx.Proxy) and kind != "output":
            self.is_computing = True
            try:
                with self._mode, torch.no_grad():
                    self.values[proxy.node] = self._value(proxy.node)
            finally:
                self.is_computing = False
        return proxy

    def _given(self, node: fx.Node) -> Any:
        if node not in self.values:  # a tensor that torch.fx made a node of by itself
            self.values[node] = self._value(node)
        return self.values[node]

    def _value(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            weight = next(self.root.parameters(), torch.empty(0))
            return torch.empty(self._images, device=weight.device)
        if node.op == "get_attr":
            return operator.attrgetter(str(node.target))(self.root)
        args, kwargs = map_arg((node.args, node.kwargs), self._given)
        if node.op == "call_function":
            return node.target(*args, **kwargs)  # type: ignore[operator]  # a function, where the op is this one
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return self.root.get_submodule(str(node.target))(*args, **kwargs)

    # What runs on tensors without numbers is not to be traced.
    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        return forward(*args, **kwargs) if self.is_computing else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.is_computing else super().getattr(attr, attr_val, parameter_proxy_cache)


class _MadeForImages(TorchFunctionMode):
    """What is made for so many images, such as a token for each, is made when the graph runs."""

    def __init__(self, tracer: _Sized) -> None:
        super().__init__()
        self._tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        values: list[Any] = []
        map_aggregate((args, kwargs), values.append)
        is_known = not any(isinstance(value, fx.Proxy) for value in values)
        if is_known and not self._tracer.is_computing and any(_counts_images(value) for value in values):
            if is_tensor_method_or_property(func):
                return self._tracer.create_proxy("call_method", func.__name__, args, kwargs)
            return self._tracer.create_proxy("call_function", func, args, kwargs)
        return func(*args, **kwargs)


class _SizedProxy(fx.Proxy):
    """Stands for what a node gives: its sizes are numbers, and its numbers are open."""

    @property
    def _known(self) -> Any:
        return self.tracer.values[self.node]  # type: ignore[attr-defined]  # the tracer that made it

    @property
    def shape(self) -> Any:
        return self._known.shape

    @property
    def ndim(self) -> int:
        return self._known.ndim

    def size(self, dim: int | None = None) -> Any:
        return self._known.shape if dim is None else self._known.shape[dim]

    def dim(self) -> int:
        return self._known.ndim

    def numel(self) -> int:
        return self._known.numel()

    def __getattr__(self, name: str) -> Any:
        if name == "dtype" and not self._known.is_floating_point():
            return self._known.dtype  # it is the same at any precision
        if name in _OPEN:
            proxy = self.tracer.create_proxy("call_function", getattr, (self, name), {})
            if name in ("dtype", "device"):
                proxy.node.meta[KIND] = True
            return proxy
        return super().__getattr__(name)

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Any]:
        parts: Any = self
        if len(self._known) >= _IMAGES:
            raise UserError(
                f"{type(self.tracer.root).__name__} goes through the images one by one ('{self.node.name}'); have it "  # type: ignore[attr-defined]
                "compute all of them at once"
            )
        return (parts[place] for place in range(len(self._known)))

    def __bool__(self) -> bool:
        return bool(self._number("decides by"))

    def __int__(self) -> int:
        return int(self._number("makes an int of"))

    def __index__(self) -> int:
        return operator.index(self._number("makes an int of"))

    def __float__(self) -> float:
        return float(self._number("makes a float of"))

    def _number(self, does: str) -> Any:
        if isinstance(self._known, torch.Tensor):
            frame = self.tracer.root  # type: ignore[attr-defined]  # as above
            raise UserError(
                f"{type(frame).__name__} {does} the numbers in a tensor ('{self.node.name}'), which no graph can hold: "
                "compute both and choose with torch.where, or take it out"
            )
        return self._known


def _counts_images(value: Any) -> bool:
    return type(value) is int and value != 0 and value % _IMAGES == 0
