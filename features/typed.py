"""A request as the options that mean it, for commands that people are told to type."""

import shlex
from collections.abc import Sequence

from features.request import Request


def typed(request: Request, *, layers: Sequence[str], pools: Sequence[str]) -> str:
    """The options of a request, of its layers and poolings these alone; what is as by default is left out, apart from
    what one looks for first."""
    words = ["--dataset", str(request.dataset), "--backbone", request.backbone, "--layer", *layers]
    for name, values, default in (
        ("--weights", [request.weights], ["default"]),
        ("--pool", list(pools), ["avg"]),
        ("--image-size", [request.image_size], [None]),
        ("--crop-mode", [request.crop_mode], ["center"]),
        ("--resize", [request.resize], [None]),
        ("--interpolation", [request.interpolation], [None]),
        ("--mean", request.mean, None),
        ("--std", request.std, None),
        ("--decode", [request.decode], ["full"]),
        ("--precision", [request.precision], ["auto"]),
        ("--dtype", [request.dtype], ["float32"]),
        ("--limit", [request.limit], [None]),
        ("--limit-test", [request.limit_test], [None]),
        ("--seed", [request.seed], [0]),
        ("--views", [request.views], [1]),
        ("--view-augment", request.view_augment or None, None),
        ("--test-views", [request.test_views], [1]),
    ):
        words += [name, *map(_spelled, values)] if values is not None and values != default else []
    return shlex.join(words)


def _spelled(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
