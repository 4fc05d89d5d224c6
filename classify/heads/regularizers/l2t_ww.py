"""L2T-ww: which layers of the source network to match, where, and how strongly, is learned (Jang et al. 2019)."""

import copy
import itertools
import re
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, interpolate, relu6
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from classify.heads.network.graph import observed
from classify.heads.regularizers.protocol import Context, Regularizer, Step
from features.errors import UserError

Maps = tuple[torch.Tensor, ...]
Tensors = dict[str, torch.Tensor]

# As many as the authors' networks have groups of blocks.
_STAGES = 4
INNER_STEPS = 2
_BETAS, _EPSILON = (0.9, 0.999), 1e-8
_FORGET = 0.95


class L2TWW(Regularizer):
    """strength * L_wfm: the target's feature maps, projected, towards the source's, weighted by two meta-networks.

    Jang, Lee, Hwang and Shin, 'Learning what and where to transfer', ICML 2019. For a layer m of the source S and a
    layer n of the target T the distance of their maps is, equation 1, L^{m,n} = 1/(HW) sum over channels c of w_c times
    the sum over places of (r(T^n(x)) - S^m(x))^2, with r a pointwise convolution that trains with the target, and
    w = f^{m,n}(S^m(x)) (what to transfer: a softmax over channels). All pairs together, equation 2, are L_wfm = sum of
    lambda^{m,n} L^{m,n} with lambda = g^{m,n}(S^m(x)) (where to: ReLU6, one number for an image and a pair). f and g
    are linear in the source's map averaged over its places; together they are phi.

    The target is trained with equation 3, L_org + strength * L_wfm. After each of its steps phi learns (algorithm 1):
    from the target as it is, T = 2 steps of gradient descent on L_wfm alone with the rate `inner_rate`, one such step
    on L_org, and then phi goes down the gradient of L_org there, through all T + 1 steps, by Adam at `meta_rate`. None
    of these steps moves the target itself.

    layers: of both networks, by default their last four stages; all pairs are matched. Maps of different sizes are
    brought to the target's by bilinear interpolation, as in the authors' programme.
    """

    # Adam's moments of phi and its steps, and the lambda of each pair: buffers, so that they survive a kill.
    first: torch.Tensor
    second: torch.Tensor
    count: torch.Tensor
    strengths: torch.Tensor

    @classmethod
    def check(cls, context: Context, *strengths: float, layers: tuple[str, ...] = ()) -> None:
        for layer in layers or context.stages_above():
            context.node_above(layer)

    def __init__(
        self,
        context: Context,
        strength: float,
        inner_rate: float,
        meta_rate: float,
        layers: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        network = context.network
        self.names = tuple(layers or context.stages_above()[-_STAGES:])
        self.observes = tuple(context.node_above(layer) for layer in self.names)
        nodes = [network.cut.resolve(layer) for layer in self.names]
        self.layouts = tuple(network.cut.layout(node) for node in nodes)
        self.strength, self.inner_rate, self.meta_rate = strength, inner_rate, meta_rate
        self.autocast = context.autocast
        self.described = f"l2t-ww: all pairs of {', '.join(self.names)}, from {network.backbone.weights_name}"
        backbone = network.backbone
        self.backbone = backbone.name
        source = backbone.cut(network.image_size).tail(network.layer)
        device = next(network.model.parameters()).device
        source = copy.deepcopy(source).to(device).eval().requires_grad_(False)
        # Lists hide them from nn.Module: the source neither trains nor is saved, the target is the network itself.
        self.source = [observed(source, self.observes).eval()]
        self.target = [observed(network.tail, self.observes)]
        self.pairs = tuple(itertools.product(range(len(nodes)), repeat=2))
        shapes = [network.cut.shape(node) for node in nodes]
        channels = [_channels(shape, layout) for shape, layout in zip(shapes, self.layouts, strict=True)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(context.seed)
            self.project = nn.ModuleList(nn.Conv2d(channels[n], channels[m], 1) for m, n in self.pairs)
            self.meta = MetaNetworks([channels[m] for m, _ in self.pairs])
        self.to(device)
        # The optimiser of the network leaves phi alone: it has a gradient, and steps, of its own.
        self.meta.requires_grad_(False)
        phi = parameters_to_vector(self.meta.parameters())
        self.register_buffer("first", phi * 0)
        self.register_buffer("second", phi * 0)
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("strengths", torch.zeros(len(self.pairs)))
        self.to(device)

    def forward(self, step: Step) -> torch.Tensor:
        """strength * L_wfm for this batch, phi taken as given (equation 3)."""
        sources = self._source_maps(step.inputs)
        weights, strengths = self.meta(self._of_pairs(sources))
        projections: Tensors = dict(self.project.named_parameters())
        return self.strength * self._matching(self._maps(step.seen), sources, projections, weights, strengths)

    def stepped(self, inputs: torch.Tensor, codes: torch.Tensor) -> None:
        """One step of phi (algorithm 1)."""
        sources = self._source_maps(inputs)
        try:
            # Fused attention has no second derivative.
            with sdpa_kernel(SDPBackend.MATH):
                gradient, strengths = self.meta_gradient(inputs, codes, sources)
        except RuntimeError as error:
            if operation := re.search(r"derivative for (\S+) is not implemented", str(error)):
                raise UserError(
                    f"--regularizer l2t-ww takes second derivatives, and torch has none for {operation[1]}, which "
                    f"{self.backbone} computes with; take another backbone, such as resnet18"
                ) from error
            raise
        self._descend(gradient)
        share = 1 - _FORGET if self.count > 1 else 1.0
        self.strengths.lerp_(strengths.mean(1), share)

    def learned(self) -> dict[str, Any]:
        """lambda of each pair, 'source layer to target layer', the mean over images of the latest batches."""
        names = (f"{self.names[m]} to {self.names[n]}" for m, n in self.pairs)
        return {"matching": dict(zip(names, self.strengths.tolist(), strict=True))}

    def meta_gradient(
        self, inputs: torch.Tensor, codes: torch.Tensor, sources: Maps
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(gradient of L_org after the T + 1 steps by phi as one vector, lambda (pairs, B)); nothing moves."""
        target = self.target[0]
        fixed: Tensors = {name: value for name, value in target.named_parameters() if not value.requires_grad}
        # Statistics move in copies: the network's own are those of its own steps.
        fixed |= {name: value.clone() for name, value in target.named_buffers()}
        with torch.enable_grad():
            phi = {name: value.detach().clone().requires_grad_() for name, value in self.meta.named_parameters()}
            weights, strengths = functional_call(self.meta, phi, (self._of_pairs(sources),))
            theta = _leaves(target) | {f"r.{name}": value for name, value in _leaves(self.project).items()}

            def look(theta: Tensors) -> tuple[torch.Tensor, Maps]:
                own = {name: value for name, value in theta.items() if not name.startswith("r.")}
                logits, seen = functional_call(target, {**fixed, **own}, (inputs,))
                return logits, self._maps(seen)

            for _ in range(INNER_STEPS):
                projections = {name[2:]: value for name, value in theta.items() if name.startswith("r.")}
                theta = descended(
                    self._matching(look(theta)[1], sources, projections, weights, strengths), theta, self.inner_rate
                )
            theta = descended(cross_entropy(look(theta)[0], codes), theta, self.inner_rate)
            gradients = torch.autograd.grad(cross_entropy(look(theta)[0], codes), list(phi.values()))
        return parameters_to_vector(gradients), torch.stack(strengths).detach()

    def _source_maps(self, inputs: torch.Tensor) -> Maps:
        with torch.no_grad(), self.autocast():
            _, seen = self.source[0](inputs)
        return self._maps(seen)

    def _maps(self, outputs: Maps) -> Maps:
        """The outputs of the layers as float32 (B, C, H, W)."""
        return tuple(as_map(output, layout) for output, layout in zip(outputs, self.layouts, strict=True))

    def _of_pairs(self, sources: Maps) -> list[torch.Tensor]:
        """S^m(x) averaged over its places, (B, C) for each pair."""
        return [sources[m].mean((2, 3)) for m, _ in self.pairs]

    def _matching(
        self, target: Maps, sources: Maps, projections: Tensors, weights: list, strengths: list
    ) -> torch.Tensor:
        """L_wfm, the mean over the batch (equation 2)."""
        total = torch.zeros((), device=sources[0].device)
        for number, (m, n) in enumerate(self.pairs):
            kernel, bias = projections[f"{number}.weight"], projections[f"{number}.bias"]
            projected = nn.functional.conv2d(target[n], kernel, bias)
            total = total + (strengths[number] * distances(projected, sources[m], weights[number])).mean()
        return total

    def _descend(self, gradient: torch.Tensor) -> None:
        """One step of Adam for phi."""
        self.count += 1
        for moment, value, beta in zip((self.first, self.second), (gradient, gradient**2), _BETAS, strict=True):
            moment.mul_(beta).add_(value, alpha=1 - beta)
        first, second = (
            moment / (1 - beta ** float(self.count))
            for moment, beta in zip((self.first, self.second), _BETAS, strict=True)
        )
        with torch.no_grad():
            phi = parameters_to_vector(self.meta.parameters())
            vector_to_parameters(phi - self.meta_rate * first / (second.sqrt() + _EPSILON), self.meta.parameters())


class MetaNetworks(nn.Module):
    """f and g for each pair: from the source's averaged map (B, C) to w (B, C), a softmax, and lambda (B,), a ReLU6.

    They start, as the authors' do, with equal weights of all channels, and with lambda around 1.
    """

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        channel_layers, pair_layers = (
            [nn.Linear(width, width) for width in channels],
            [nn.Linear(width, 1) for width in channels],
        )
        for f, g in zip(channel_layers, pair_layers, strict=True):
            nn.init.zeros_(f.weight)
            nn.init.zeros_(f.bias)
            nn.init.ones_(g.bias)
        self.f, self.g = nn.ModuleList(channel_layers), nn.ModuleList(pair_layers)

    def forward(self, sources: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """(w, lambda) of each pair."""
        weights = [f(source).softmax(1) for f, source in zip(self.f, sources, strict=True)]
        return weights, [relu6(g(source)).squeeze(1) for g, source in zip(self.g, sources, strict=True)]


def distances(projected: torch.Tensor, source: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(B,): equation 1 for maps (B, C, H, W) and weights of channels (B, C); the source takes the target's size."""
    if source.shape[2:] != projected.shape[2:]:
        source = interpolate(source, projected.shape[2:], mode="bilinear", align_corners=False)
    return (weights * (projected - source).square().mean((2, 3))).sum(1)


def descended(loss: torch.Tensor, theta: Tensors, rate: float) -> Tensors:
    """theta after one step of gradient descent, as a function of all that the loss depends on."""
    gradients = torch.autograd.grad(loss, list(theta.values()), create_graph=True, allow_unused=True)
    return {
        name: value if gradient is None else value - rate * gradient
        for (name, value), gradient in zip(theta.items(), gradients, strict=True)
    }


def as_map(output: torch.Tensor, layout: str) -> torch.Tensor:
    """A layer's output as float32 (B, C, H, W); tokens stand in a column, rows of numbers are maps of one place."""
    output = output.float()
    if layout == "map last":
        return output.permute(0, 3, 1, 2)
    if layout.endswith("tokens"):
        return output.transpose(1, 2).unsqueeze(3)
    return (
        output if output.ndim == 4 else output.flatten(2).unsqueeze(3) if output.ndim == 3 else output[..., None, None]
    )


def _channels(shape: tuple[int, ...], layout: str) -> int:
    return shape[-1] if layout == "map last" or layout.endswith("tokens") else shape[0]


def _leaves(module: nn.Module) -> Tensors:
    return {
        name: value.detach().clone().requires_grad_()
        for name, value in module.named_parameters()
        if value.requires_grad
    }
