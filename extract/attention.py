"""Attention on a processor: of tokens to themselves, and of windows that are shifted over a map."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from extract.products import PackedLinear


class PackedAttention(nn.Module):
    """Attention of tokens to themselves: torch's module, for (N, T, D) and without masks."""

    def __init__(self, attention: nn.MultiheadAttention, shape: torch.Size) -> None:
        super().__init__()
        self.heads = attention.num_heads
        inward = _linear(attention.in_proj_weight, attention.in_proj_bias)
        self.inward, self.outward = PackedLinear(inward, shape), PackedLinear(attention.out_proj, shape)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, None]:
        """What the module gives: (N, T, D), and no weights."""
        return self.outward(_joined(attend(*_parts(self.inward(tokens), self.heads)))), None


class PackedWindows(nn.Module):
    """torchvision's attention of shifted windows, a function that is given its weights: maps (N, H, W, D).

    Swin's, and with `logit_scale` that of Swin V2. One index takes the tokens window by window, another puts them back.
    What is added before the softmax, the biases (1, heads, T, T) of the positions of a window's T tokens and what keeps
    apart those that only the shift has brought together, is one tensor that is made once for an image's windows, and
    torch computes such an attention in one operation.
    """

    def __init__(
        self,
        shape: torch.Size,
        qkv_weight: torch.Tensor,
        proj_weight: torch.Tensor,
        relative_position_bias: torch.Tensor,
        window_size: Sequence[int],
        num_heads: int,
        shift_size: Sequence[int],
        qkv_bias: torch.Tensor | None = None,
        proj_bias: torch.Tensor | None = None,
        logit_scale: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        count, height, width, _ = shape
        self.heads, self.tokens = num_heads, window_size[0] * window_size[1]
        down, right = (-size % window for size, window in zip((height, width), window_size, strict=True))
        self.padding = (0, 0, 0, right, 0, down)
        sizes = (height + down, width + right)
        shifts = [
            0 if window >= size else shift for size, window, shift in zip(sizes, window_size, shift_size, strict=True)
        ]
        places = torch.arange(sizes[0] * sizes[1]).view(sizes)
        self.order = _by_window(places.roll([-shift for shift in shifts], (0, 1)), window_size).flatten()
        self.back = self.order.argsort().view(sizes)[:height, :width].flatten()

        bias, self.scale = qkv_bias, None
        if logit_scale is not None:
            self.scale = logit_scale.detach().clamp(max=math.log(100.0)).exp()
            if qkv_bias is not None:
                bias = qkv_bias.detach().clone()
                bias.view(3, -1)[1] = 0
        rows = torch.Size((count * len(self.order), qkv_weight.shape[1]))
        self.inward = PackedLinear(_linear(qkv_weight, bias), rows)
        self.outward = PackedLinear(_linear(proj_weight, proj_bias), rows)
        self.added = relative_position_bias.detach()
        if any(shifts):
            regions = _by_window(_regions(sizes, window_size, shifts), window_size)
            # torchvision's -100 there leaves weights of 1e-44, with which a processor computes slowly, and none here.
            apart = (regions[:, None] != regions[:, :, None])[:, None]
            self.added = torch.where(apart, -torch.inf, self.added)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """What the function gives, (N, H, W, D)."""
        count, height, width, channels = maps.shape
        padded = functional.pad(maps, self.padding) if any(self.padding) else maps
        tokens = padded.flatten(1, 2).index_select(1, self.order).view(-1, self.tokens, channels)
        query, key, value = _parts(self.inward(tokens), self.heads)
        if self.scale is not None:
            query, key = functional.normalize(query, dim=-1) * self.scale, functional.normalize(key, dim=-1)
        scale = None if self.scale is None else 1.0
        if len(self.added) == 1:
            attended = attend(query, key, value, attn_mask=self.added.expand(len(tokens), -1, -1, -1), scale=scale)
        else:
            # Image by image, so that what is added, 200 MB of it for Swin-B at 1,024 pixels, is kept once.
            of_images = (part.split(len(self.added)) for part in (query, key, value))
            attended = torch.cat(
                [attend(*parts, attn_mask=self.added, scale=scale) for parts in zip(*of_images, strict=True)]
            )
        rows = self.outward(_joined(attended)).view(count, -1, channels)
        return rows.index_select(1, self.back).view(count, height, width, channels)


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *more: Any, **named: Any) -> torch.Tensor:
    """torch's scaled_dot_product_attention. In bfloat16 (N, H, T, E) three operations of a whole batch take half of the
    time of torch's own one on a processor without tiles (AMX), for which it has no products; else that is faster."""
    usual = {"dropout_p": 0.0, "is_causal": False, "enable_gqa": False}
    asked = {name: value for name, value in named.items() if name not in ("scale", "attn_mask")}
    plain = not more and all(name in usual and value == usual[name] for name, value in asked.items())
    plain = plain and query.dtype == torch.bfloat16 and query.ndim == 4 and query.shape[1] == key.shape[1]
    mask, scale = named.get("attn_mask"), named.get("scale")
    plain = plain and (mask is None or mask.dtype == torch.bfloat16)
    if not plain or torch.cpu._is_amx_tile_supported():
        return functional.scaled_dot_product_attention(query, key, value, *more, **named)
    count, heads, length, width = query.shape
    query, key, value = (part.reshape(count * heads, -1, part.shape[-1]) for part in (query, key, value))
    weights = torch.bmm(query * (width**-0.5 if scale is None else scale), key.transpose(1, 2))
    weights = weights if mask is None else weights.view(count, heads, length, -1).add_(mask).view_as(weights)
    return torch.bmm(weights.softmax(-1), value).view(count, heads, length, -1)


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear


def _parts(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Queries, keys and values (3, N, heads, T, E) of (N, T, 3 x heads x E)."""
    count, length, width = rows.shape
    return rows.view(count, length, 3, heads, width // (3 * heads)).permute(2, 0, 3, 1, 4)


def _joined(attended: torch.Tensor) -> torch.Tensor:
    """(N, heads, T, E) as (N, T, heads x E)."""
    return attended.transpose(1, 2).flatten(2)


def _by_window(places: torch.Tensor, window: Sequence[int]) -> torch.Tensor:
    """A map (H, W) as (windows, T)."""
    rows, columns = (size // part for size, part in zip(places.shape, window, strict=True))
    return places.view(rows, window[0], columns, window[1]).transpose(1, 2).reshape(rows * columns, -1)


def _regions(sizes: Sequence[int], window: Sequence[int], shifts: Sequence[int]) -> torch.Tensor:
    """A number for each token (H, W) of a shifted map: those with different ones were not neighbours before it."""

    def along(size: int, part: int, shift: int) -> torch.Tensor:
        place = torch.arange(size)
        return (place >= size - part).int() + (place >= size - shift).int() if shift else torch.zeros(size).int()

    rows, columns = (along(*of) for of in zip(sizes, window, shifts, strict=True))
    return 3 * rows[:, None] + columns
