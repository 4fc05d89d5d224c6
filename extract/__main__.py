"""`python -m extract`: images through a frozen network, what each layer sees into the cache."""

import argparse
import sys
from collections.abc import Sequence

from features.commands.options import add_request_options, request_from, run_command


def main(arguments: Sequence[str]) -> int:
    """Parse the command line and extract what is missing."""
    options = _parser().parse_args(arguments)
    if options.list_layers:
        return _list_layers(options)

    from extract.cost import Cost
    from features.reading import find_cached
    from features.request import plan

    answer = plan(request_from(options))
    files = {wanted.key.digest: wanted for wanted in answer.wanted}.values()
    todo = [wanted for wanted in files if find_cached(wanted, answer.request) is None]
    for wanted in files:
        if wanted not in todo:
            print(f"in the cache: {wanted.split} {wanted.layer} ({wanted.key.pool}), {wanted.rows:,} rows")
    if not todo:
        return 0
    _print_cost(Cost.of(todo))
    if options.dry_run:
        return 0

    from extract.extraction import extract
    from features.commands.progress import row_progress

    with row_progress() as progress:
        passes = extract(answer, compiled=options.compile, jobs=options.jobs, progress=progress)
    for done in passes:
        rate = done.images / done.seconds
        print(
            f"{done.split}: {done.images:,} images in {done.seconds:.1f} s ({rate:,.0f} images/s, "
            f"{done.computing:.0%} of the time in the network): {', '.join(dict.fromkeys(done.layers))}"
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m extract", description=__doc__, allow_abbrev=False)
    add_request_options(parser)
    group = parser.add_argument_group("how")
    group.add_argument("--compile", default="auto", choices=("auto", "on", "off"), help="compile the network first")
    group.add_argument("--dry-run", action="store_true", help="say what it would cost, and stop")
    group.add_argument("--list-layers", action="store_true", help="name every layer of the backbone, and stop")
    return parser


def _print_cost(cost) -> None:
    from extract.cost import as_bytes, memory_needed

    for layer, split, rows, numbers, size in cost.files:
        print(f"to extract: {split} {layer}, {rows:,} x {numbers:,} numbers, {as_bytes(size)}")
    print(f"this takes {as_bytes(cost.disk)} of disk and about {as_bytes(memory_needed(cost))} of memory")


def _list_layers(options: argparse.Namespace) -> int:
    from features.backbones import load_backbone
    from features.cut import Cut

    backbone = load_backbone(options.backbone, options.weights, options.seed)
    cut = Cut(backbone.model, backbone.preprocessing.at(options.image_size).crop, backbone.headless)
    stages = {cut.resolve(stage): stage for stage in cut.stages}
    print("layer, its output for one image, whether the network can be cut there; stages are marked with their name")
    for layer in cut.layers:
        shape = " x ".join(map(str, cut.shape(layer)))
        print(f"{layer:<50} {shape:<16} {'cut' if layer in cut.legal else '':<4} {stages.get(layer, '')}".rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
