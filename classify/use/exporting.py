"""Saved models as files for other programs: ONNX, torch's exported programs, plain weights. Written aside, checked
against the model on real images, and only then given their names; a file that does otherwise is never seen.

Beside the file stands a JSON file of the same name and `.json`: classes, what goes in and comes out, how images are
prepared, where it is from and how it was checked. ONNX and .pt2 files hold it inside as well.
"""

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from classify.measure.environment import this_environment
from classify.measure.results import SavedResult
from classify.use.checking import (
    Agreement,
    CheckImages,
    agree,
    answers_of,
    check_images,
    output_names,
    reference,
)
from classify.use.plain import architecture, plain_state
from classify.use.saved import Answers, SavedModel, logit_answers
from classify.use.whole import input_shape, whole_network
from features.architectures import build_model
from features.commands.speaking import quiet, say
from features.digests import sha256_file
from features.errors import UserError
from features.notes import write_json
from features.store.locks import lock_digest
from features.weights import read_state_dict
from features.written import note_written

INSTALL = "pip install 'layerprobe[export]'"
SUFFIXES = {"onnx": (".onnx",), "torch": (".pt2",), "state-dict": (".pth", ".pt", ".safetensors")}
_INSIDE = "layerprobe.json"
_ONNX_BYTES = 2_000_000_000  # a protocol buffer holds less than 2 GiB
_OUTPUTS = {
    "label": "int64 (N,), the place among `classes` that is decided for",
    "scores": "float32 (N, K), what decides; with two classes half the decision value and its negative",
    "probabilities": "float32 (N, K)",
    "distance": "float32 (N,), to the training images: above 1 an image is unlike them",
}


@dataclass(frozen=True)
class Exported:
    """A file that was written and checked, and the JSON beside it."""

    path: Path
    sidecar: Path
    agreement: Agreement


def require_export(form: str, output: Path) -> None:
    """UserError, before anything is loaded, where a form cannot be written there or a package for it is missing."""
    if output.suffix not in SUFFIXES[form]:
        raise UserError(f"--output {output}: a file of --format {form} ends in {' or '.join(SUFFIXES[form])}")
    if not output.absolute().parent.is_dir():
        raise UserError(f"{output}: there is no folder {output.parent}; make it, or name another place")
    missing = [
        name for name in ("onnx", "onnxscript", "onnxruntime") if form == "onnx" and not importlib.util.find_spec(name)
    ]
    if missing:
        raise UserError(f"--format onnx needs {missing[0]}: {INSTALL}")


def export_model(
    record: SavedResult | Path | str,
    form: str,
    output: Path | str,
    *,
    trust: bool = False,
    weights: str | None = None,
    images: tuple[str, ...] = (),
) -> Exported:
    """Write the model of a record to `output` in a form ('onnx', 'torch' or 'state-dict'), and check it.

    images: paths of images to check with, instead of test images of its data set. trust and weights as in
    `SavedModel.open`. UserError, and no file, where that cannot be done or does not come out the same.
    """
    output = Path(output)
    require_export(form, output)
    model = SavedModel.open(record, trust=trust, weights=weights, device="cpu", exact=True)
    # What cannot be exported says so before the images are looked for.
    made: Any = plain_state(model) if form == "state-dict" else whole_network(model)
    if form == "onnx":
        _check_size(made)
    checked = check_images(model, images)
    expected = reference(model, checked.images)
    about = _about(model, form)
    write, run = {"onnx": (_write_onnx, _run_onnx), "torch": (_write_program, _run_program)}.get(
        form, (_write_state, _run_state)
    )
    sidecar = sidecar_of(output)
    with _aside(output) as path:
        write(path, made, model, about)
        agreement = agree(model, checked, expected, run(path, model, checked))
        digest = sha256_file(path, fresh=True)
        write_json(sidecar_of(path), {**about, "sha256": digest, "checked": dataclasses.asdict(agreement)})
    for written in (output, sidecar):
        note_written(written)
    return Exported(output, sidecar, agreement)


def sidecar_of(output: Path) -> Path:
    """The JSON beside an exported file."""
    return output.with_name(f"{output.name}.json")


def _about(model: SavedModel, form: str) -> dict[str, Any]:
    """What somebody with nothing but the file has to know."""
    saved, steps = model.saved, model.preprocessing
    channels, height, width = input_shape(model)
    before = f"an image of another size is resized to {height} x {width}, whatever its shape (bilinear, antialiased)"
    if steps is not None:
        before = f"{steps.in_words()}; a grey image is repeated as three channels"
    whole = form != "state-dict"
    values = "0 to 255; the normalisation is part of the network"
    if not whole:
        mean, std = (list(steps.mean), list(steps.std)) if steps else ([], [])
        values = f"(pixel / 255 - mean) / std, with mean {mean} and std {std} for red, green and blue"
    names = output_names(model)
    probable = "probabilities" in names
    meaning = "their softmax gives the probabilities" if probable else "scores of a head that has no probabilities"
    return {
        "format": f"layerprobe {form}",
        "made_from": {"record": saved.path.name, "digest": saved.result.digest, "config": dict(saved.result.config)},
        **({} if whole else _builder(model)),
        "classes": list(model.classes),
        "labels": model.labels.tolist(),
        "input": {
            "name": "images",
            "type": "uint8" if whole else "float32",
            "shape": ["N", channels, height, width],
            "values": values,
            "before": before,
        },
        "outputs": {name: _OUTPUTS[name] for name in names} if whole else {"logits": f"float32 (N, K); {meaning}"},
        "test_accuracy": saved.result.metrics.accuracy,
        "precision": "float32, whatever the precision in training",
        "environment": this_environment(),
    }


def _builder(model: SavedModel) -> dict[str, Any]:
    """What builds the network that plain weights are for: torchvision's name, and its options beside the classes."""
    name, options = architecture(model)
    return {"architecture": name, **({"options": options} if options else {})}


@contextlib.contextmanager
def _aside(output: Path) -> Iterator[Path]:
    """A path to write to, with its sidecar, which becomes `output` at the block's end, and goes if that raises.

    Whenever it is killed, a whole file stands there, the old one or the new one, and no sidecar of another one; what it
    leaves goes with the next export to that place.
    """
    parent = output.absolute().parent
    place = f"exporting-{hashlib.sha256(os.fsencode(output.absolute())).hexdigest()[:16]}"
    with lock_digest(place, wait=True, say=say, folder=parent, doing="exporting to the same file"):
        for left in parent.glob(f".{place}-*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{place}-", dir=parent) as folder:
            path = Path(folder) / output.name
            yield path
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
            sidecar_of(output).unlink(missing_ok=True)
            path.replace(output)
            sidecar_of(path).replace(sidecar_of(output))


def _example(made: torch.nn.Module, model: SavedModel) -> tuple[tuple[torch.Tensor], dict[str, Any]]:
    images = torch.zeros(2, *input_shape(model), dtype=torch.uint8)
    return (images,), {"images": {0: torch.export.Dim("N", min=1)}}


@contextlib.contextmanager
def _exporting(form: str) -> Iterator[None]:
    """torch's exporter, whose warnings are about itself, and whose errors are of every kind."""
    try:
        with warnings.catch_warnings(), torch.no_grad(), quiet("torch.onnx", "torch.export", "onnxscript", "onnx_ir"):
            warnings.simplefilter("ignore")
            yield
    except UserError:
        raise
    except Exception as error:
        first: BaseException = error
        while first.__cause__ is not None:
            first = first.__cause__  # what stands above it says that something failed
        reason = " ".join(str(first).split())[:200]
        raise UserError(
            f"torch cannot express this network as --format {form} ({type(first).__name__}: {reason}); take another "
            "format, or another backbone"
        ) from error


class _AttentionOverFourAxes(TorchFunctionMode):
    """While a network is traced: its attention is over (images, heads, tokens, width), and ONNX's over nothing else."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            func = _attention
        return func(*args, **(kwargs or {}))


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    *more: Any,
    **named: Any,
) -> torch.Tensor:
    """torch's, of (..., heads, tokens, width)."""
    if query.ndim == 4:
        return F.scaled_dot_product_attention(query, key, value, attn_mask, *more, **named)
    if attn_mask is not None:
        attn_mask = attn_mask.expand(*query.shape[:-1], key.shape[-2])
        attn_mask = attn_mask.reshape(-1, *attn_mask.shape[-3:])
    shape = (*query.shape[:-1], value.shape[-1])
    query, key, value = (part.reshape(-1, *part.shape[-3:]) for part in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask, *more, **named).reshape(shape)


def _check_size(made: torch.nn.Module) -> None:
    size = sum(tensor.numel() * tensor.element_size() for tensor in made.state_dict().values())
    if size > _ONNX_BYTES:
        raise UserError(
            f"the network would take {size / 1e9:.1f} GB, and an ONNX file holds less than 2; take --format torch, or "
            "a smaller head"
        )


def _write_onnx(path: Path, made: torch.nn.Module, model: SavedModel, about: dict[str, Any]) -> None:
    arguments, dynamic = _example(made, model)
    with _exporting("onnx"), _AttentionOverFourAxes(), contextlib.redirect_stdout(None):
        program = torch.onnx.export(
            made,
            arguments,
            input_names=["images"],
            output_names=output_names(model),
            dynamic_shapes=dynamic,
            dynamo=True,
            verbose=False,
        )
        assert program is not None  # torch's exporter gives one, its predecessor (dynamo=False) did not
        program.model.metadata_props["layerprobe"] = json.dumps(about)
        program.save(str(path), external_data=False)


def _run_onnx(path: Path, model: SavedModel, checked: CheckImages) -> Answers:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return answers_of(model, session.run(None, {"images": _crops(model, checked)}))


def _write_program(path: Path, made: torch.nn.Module, model: SavedModel, about: dict[str, Any]) -> None:
    arguments, dynamic = _example(made, model)
    with _exporting("torch"):
        program = torch.export.export(made, arguments, dynamic_shapes=dynamic)
        torch.export.save(program, path, extra_files={_INSIDE: json.dumps(about)})


def _run_program(path: Path, model: SavedModel, checked: CheckImages) -> Answers:
    with _exporting("torch"):
        outputs = torch.export.load(path).module()(torch.from_numpy(_crops(model, checked)))
        return answers_of(model, [output.numpy() for output in outputs])


def _write_state(path: Path, made: dict[str, torch.Tensor], model: SavedModel, about: dict[str, Any]) -> None:
    if path.suffix == ".safetensors":
        save_file(made, path, metadata={"format": "pt", "layerprobe": json.dumps(about)})
    else:
        torch.save(made, path)


def _run_state(path: Path, model: SavedModel, checked: CheckImages) -> Answers:
    name, options = architecture(model)
    network = build_model(name, classes=len(model.classes), **options).eval()
    try:
        network.load_state_dict(read_state_dict(path), strict=True)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"torchvision's {name} does not load it as {path.suffix} ({reason}); take --output NAME.pth, or --format "
            "onnx or torch"
        ) from error
    with torch.no_grad():
        return logit_answers(network(model.prepare(checked.images)).numpy())


def _crops(model: SavedModel, checked: CheckImages) -> np.ndarray:
    return model.cropped(checked.images).contiguous().numpy()
