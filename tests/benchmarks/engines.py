"""The network alone, images in memory, one core: ours against torch, torch channels last, onnxruntime and OpenVINO.

Random weights. onnxruntime and OpenVINO take part where they are installed, with the network as torch exports it and
one thread; in int8 onnxruntime alone does, with its own static quantisation, and torch computes in float32. Seconds are
a core's, so that a busy machine changes them little.
"""

import argparse
import copy
import dataclasses
import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from extract.int8_ranges import observed_ranges
from extract.trunk import Output, Trunk, choose_recipe, fold_batch_norm, torch_threads
from features.backbones import load_backbone
from features.device import exact_levels
from features.memory import keep_freed_memory
from features.ranges import SEVEN_BITS, keep_ranges
from features.twins import twin
from tests.benchmarks.contest import Contender, Outcome, compete, timed
from tests.benchmarks.limits import matrix_rate

_MUCH = 60_000  # images, for which an engine is chosen


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which networks, in which precisions."""
    add = parser.add_argument
    add("--backbone", nargs="+", default=["resnet18"])
    add("--precision", nargs="+", default=["float32"], choices=("float32", "bfloat16", "int8"))
    add("--image-size", type=int, default=224)
    add("--images", type=int, default=32, help="in one turn, in batches as ours takes them (default 32)")


def measure(options: argparse.Namespace) -> Iterator[Outcome]:
    """A contest for each network and precision."""
    os.environ["OMP_NUM_THREADS"] = "1"
    keep_freed_memory()
    with torch_threads(1):
        for name in options.backbone:
            for precision in options.precision:
                yield _contest(name, precision, options)


def _contest(name: str, precision: str, options: argparse.Namespace) -> Outcome:
    backbone = load_backbone(name, "random")
    cut = backbone.cut(options.image_size)
    last = cut.resolve("avgpool" if cut.headless else "fc")
    outputs, cpu = [Output(last, "none")], torch.device("cpu")
    images = torch.randn(options.images, 3, cut.image_size, cut.image_size)
    # What is computed in bytes is compared with the network in float32.
    asked, plain = precision, "float32" if precision == "int8" else precision
    if precision == "int8":
        asked = keep_ranges(observed_ranges(fold_batch_norm(twin(cut.trunk([last])).eval().float()), [images]))
    recipe = choose_recipe(cut, outputs, images=_MUCH, precision=asked, device=cpu)
    batches = tuple(batch for batch in images.split(recipe.batch) if len(batch) == recipe.batch)
    if not batches:
        raise SystemExit(f"--images {options.images}: {name} takes batches of {recipe.batch}; give that many or more")
    ours = {f"layerprobe, {recipe.engine}": recipe}
    if recipe.engine == "winograd":
        ours["layerprobe, fused"] = dataclasses.replace(recipe, engine="fused")
    runs: dict[str, Callable[[torch.Tensor], Any]] = {
        who: Trunk(cut, outputs, recipe, cpu) for who, recipe in ours.items()
    }
    model = copy.deepcopy(backbone.model).to(getattr(torch, plain))
    runs["torch"] = _plain(model, torch.contiguous_format, plain)
    runs["torch, channels last"] = _plain(model, torch.channels_last, plain)
    if plain == "float32":
        runs |= _runtimes(model, batches, in_bytes=precision == "int8")
    operations = cut.flops([last]) * sum(map(len, batches))
    contenders = [
        Contender(who, timed(lambda run=run: [run(batch) for batch in batches], "cpu"), precision, operations)
        for who, run in runs.items()
    ]
    for contender in contenders:
        contender.turn()
    return compete(
        f"{name}, {precision}, {cut.image_size} pixels, batches of {recipe.batch}, a core's seconds",
        contenders,
        amount=sum(map(len, batches)),
        unit="images",
        rounds=options.rounds,
        limits={precision: matrix_rate(precision, "cpu")},
        ours=len(ours),
    )


def _plain(model: nn.Module, layout: torch.memory_format, precision: str) -> Callable[[torch.Tensor], torch.Tensor]:
    dtype = getattr(torch, precision)
    model = copy.deepcopy(model).to(memory_format=layout)

    def run(images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return model(images.to(dtype, memory_format=layout))

    return run


def _runtimes(
    model: nn.Module, batches: Sequence[torch.Tensor], *, in_bytes: bool
) -> dict[str, Callable[[torch.Tensor], Any]]:
    """onnxruntime and OpenVINO, as far as they are installed; in_bytes: onnxruntime in int8 alone."""
    found: dict[str, Callable[[torch.Tensor], Any]] = {}
    exported = torch.onnx.export(model, (batches[0],), dynamo=True, input_names=["images"], verbose=False)
    assert exported is not None
    file = exported.model_proto.SerializeToString()
    if importlib.util.find_spec("onnxruntime"):
        import onnxruntime

        asked = onnxruntime.SessionOptions()
        asked.intra_op_num_threads = asked.inter_op_num_threads = 1
        content = _quantised(file, batches) if in_bytes else file
        session = onnxruntime.InferenceSession(content, asked, providers=["CPUExecutionProvider"])
        found["onnxruntime"] = lambda batch: session.run(None, {"images": batch.numpy()})
    if importlib.util.find_spec("openvino") and not in_bytes:
        import openvino

        core = openvino.Core()
        exact = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        compiled = core.compile_model(core.read_model(file), "CPU", exact)
        found["OpenVINO"] = lambda batch: np.array(compiled(batch.numpy())[0])
    return found


def _quantised(file: bytes, batches: Sequence[torch.Tensor]) -> bytes:
    """An ONNX file in int8 as onnxruntime's documentation has it for a processor: prepared, calibrated on the images,
    bytes in and out, a step for each channel, and weights of seven bits where there is no VNNI."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            self._left = iter([{"images": batch.numpy()} for batch in batches])

        def get_next(self) -> dict | None:
            return next(self._left, None)

    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        plain, prepared, quantised = (Path(folder) / f"{name}.onnx" for name in ("plain", "prepared", "quantised"))
        plain.write_bytes(file)
        quant_pre_process(str(plain), str(prepared))
        quantize_static(
            str(prepared),
            str(quantised),
            Images(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=exact_levels() == SEVEN_BITS,
        )
        return quantised.read_bytes()
