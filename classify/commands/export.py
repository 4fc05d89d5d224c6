"""`python -m classify export`: a saved model as one network for other programs: trunk, pooling and head.

onnx and torch (.pt2) files take uint8 images (N, 3, S, S), resized and cropped as in training, and normalise them
themselves. state-dict writes plain weights with the head as their final layer, which torchvision loads strictly. The
file is checked against the model on real images, and kept only if it does the same; what goes in and comes out stands
in a .json file beside it.
"""

from collections.abc import Sequence
from pathlib import Path

from classify.commands.outputs import check_output, check_outputs
from classify.commands.predict import add_model_options
from features.commands.help import purpose
from features.commands.options import Parser, add_shared
from features.commands.speaking import put

_ENDINGS = {"onnx": ".onnx", "torch": ".pt2", "state-dict": ".pth"}


def main(arguments: Sequence[str]) -> int:
    """Parse the command line, write the file and say how it was checked."""
    options = _parser().parse_args(arguments)
    from classify.use.choosing import choose_result

    # With what exports comes torch, and a record that is absent is said before.
    saved = choose_result(options.source, options.dataset)
    from classify.use.exporting import export_model, require_export, sidecar_of

    named = None if options.output is None else Path(options.output)
    if named is not None:
        require_export(options.format, named)
        check_outputs(options, "output")
    output = named or Path(saved.path.stem + _ENDINGS[options.format])
    for path in (output, sidecar_of(output)):
        check_output(path, str(path), [saved.path], overwrite=options.overwrite)
    done = export_model(
        saved,
        options.format,
        output,
        trust=options.trust,
        weights=options.weights,
        images=tuple(options.check or ()),
    )
    put(f"{saved.path} as {options.format}: {done.path} ({done.path.stat().st_size / 1e6:.1f} MB)")
    put(done.agreement)
    put(f"classes, input and outputs: {done.sidecar}")
    return 0


def _parser() -> Parser:
    parser = Parser("classify export", description=purpose(__doc__))
    add_model_options(parser.section("which model"))
    add = parser.section("what to write")
    add("--format", default="onnx", choices=tuple(_ENDINGS), help="default onnx")
    add("--output", metavar="PATH", help="where to: .onnx, .pt2, and .pth or .safetensors (the record's name, here)")
    add_shared(add, "--overwrite")
    add("--check", nargs="+", metavar="IMAGE", help="check with these, not the data set's test images")
    return parser
