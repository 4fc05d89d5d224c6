"""`python -m extract`: images through a frozen network, what each layer sees into the cache."""

# PYTHON_ARGCOMPLETE_OK: a shell that finds this in the first lines asks here for what can be typed.

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# `-m` has Python look into the working folder first, where a features.py may stand that is the user's own: ours are the
# packages beside this one.
if __name__ == "__main__" and not sys.flags.safe_path and Path(sys.path[0]) != Path(__file__).parents[1]:
    sys.path[0] = str(Path(__file__).parents[1])
    import features  # noqa: F401

    sys.path.append(sys.path.pop(0))
    sys.path.append(str(Path.cwd()))

from features.commands.help import purpose  # noqa: E402
from features.commands.options import (  # noqa: E402
    Parser,
    add_request_options,
    add_shared,
    check_request,
    request_from,
    run_command,
)
from features.commands.speaking import put


def main(arguments: Sequence[str]) -> int:
    """Parse the command line and extract what is missing."""
    options = _parser().parse_args(arguments)
    check_request(options)
    if options.list_layers:
        return _list_layers(options)

    from extract.cluster import on_cluster
    from extract.commands.ensure import ensure_features

    with on_cluster(None if options.dry_run else options.cluster):
        ensure_features(request_from(options), compiled=options.compile, jobs=options.jobs, dry_run=options.dry_run)
    return 0


def _parser() -> Parser:
    parser = Parser("extract", description=purpose(__doc__))
    add_request_options(parser)
    add = parser.section("how")
    add_shared(add, "--views", "--view-augment", "--compile", "--cluster")
    add("--dry-run", action="store_true", help="say what it would cost, and stop")
    add("--list-layers", action="store_true", help="name every layer of the backbone, and stop")
    return parser


def _list_layers(options: argparse.Namespace) -> int:
    from features.backbones import requested_backbone

    request = request_from(options).normalised()
    cut = requested_backbone(request).cut(request.image_size)
    stages = {cut.resolve(stage): stage for stage in cut.stages}
    put("layer, its output for one image, whether the network can be cut there; stages are marked with their name")
    for layer in cut.layers:
        shape = " x ".join(map(str, cut.shape(layer)))
        put(f"{layer:<50} {shape:<16} {'cut' if layer in cut.legal else '':<4} {stages.get(layer, '')}".rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
