"""How fast: ours, the plain loop and the device's own matrix products, images in memory."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from tests.gpu.checks import NETWORKS, Bench, images_for

_SECONDS = 1.5  # of one measurement
_SIDE = 8192


def speeds(bench: Bench) -> Iterator[dict[str, Any]]:
    """A row for each network, precision and contender."""
    limits: dict[str, float] = {}
    for name in NETWORKS[:1] if bench.small else NETWORKS:
        backbone, cut = bench.network(name)
        flops = cut.flops([cut.resolve("avgpool")])
        batch = 16 if bench.small else 256
        images = images_for(cut, batch).to(bench.device)
        plain = backbone.model.to(bench.device)
        for precision in ("float32", "bfloat16") if bench.small else ("float32", "float16", "bfloat16"):
            if precision not in limits:
                limits[precision] = matrix_rate(bench, precision)
            trunk = bench.trunk(cut, ("avgpool",), precision, batch=batch)
            contenders: dict[str, Callable[[], Any]] = {"layerprobe": partial(trunk, images)}
            if bench.is_gpu and name == "resnet18" and precision != "float16":
                compiled = bench.trunk(cut, ("avgpool",), precision, batch=batch, compiled="on")
                contenders["layerprobe, compiled"] = partial(compiled, images)
            contenders["plain loop"] = _plain(plain, images, precision, bench)
            for who, run in contenders.items():
                rate = batch * _times_a_second(run, bench)
                yield {
                    "network": name,
                    "precision": precision,
                    "who": who,
                    "images/s": rate,
                    "TFLOP/s": rate * flops / 1e12,
                    "of the limit %": 100 * rate * flops / limits[precision],
                }
        backbone.model.cpu()
    for precision, limit in limits.items():
        yield {
            "network": "-",
            "precision": precision,
            "who": "matrix products",
            "images/s": None,
            "TFLOP/s": limit / 1e12,
            "of the limit %": 100.0,
        }


def matrix_rate(bench: Bench, precision: str) -> float:
    """Operations a second of square matrix products at a precision; float32 without TF32, as our features have it."""
    side = 512 if bench.small else _SIDE
    one = torch.randn(side, side, device=bench.device).to(getattr(torch, precision))
    return 2 * side**3 * _times_a_second(lambda: one @ one, bench)


def _plain(model: nn.Module, images: torch.Tensor, precision: str, bench: Bench) -> Callable[[], Any]:
    """As tutorials have it: the whole network, in autocast where less than float32 is asked for."""
    dtype = None if precision == "float32" else getattr(torch, precision)

    def run() -> torch.Tensor:
        with torch.inference_mode(), torch.autocast(bench.device.type, dtype, enabled=dtype is not None):
            return model(images)

    return run


def _times_a_second(run: Callable[[], Any], bench: Bench) -> float:
    """How often a second it can be run, after it has been twice; the best of three stretches."""
    for _ in range(2):
        run()
    best = 0.0
    for _ in range(3):
        bench.synchronise()
        times, started = 0, time.perf_counter()
        while time.perf_counter() - started < _SECONDS / 3:
            run()
            times += 1
            if times % 8 == 0:
                # Work is queued far faster than it is done.
                bench.synchronise()
        bench.synchronise()
        best = max(best, times / (time.perf_counter() - started))
    return best
