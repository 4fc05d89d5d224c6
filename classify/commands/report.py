"""`python -m classify report`: one self-contained HTML page from what stands in a folder of results."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classify.commands.outputs import check_outputs
from features.commands.help import purpose
from features.commands.options import Parser, add_shared, positive
from features.commands.speaking import say, tell
from features.errors import UserError
from features.named_code import trusting

if TYPE_CHECKING:
    from classify.use.explanation import Explanation


def main(arguments: Sequence[str]) -> int:
    """Parse the command line, make the page and say where it is."""
    options = _parser().parse_args(arguments)
    output = Path(options.output)
    check_outputs(options, "output")
    if not os.access(output if output.exists() else output.absolute().parent, os.W_OK):
        raise UserError(f"{output}: the page cannot be written there; name another --output")
    if not 0 <= options.seed < 2**32:
        raise UserError(f"--seed {options.seed}: give a whole number from 0 to {2**32 - 1}")

    from classify.show.report import write_report

    with trusting(options.trust):
        path = write_report(
            options.results,
            output,
            sample=options.sample,
            seed=options.seed,
            maps=not options.no_maps,
            images=not options.no_images,
            stages=not options.no_stages,
            dataset=options.dataset,
            paths=options.paths,
            command=options.command_line,
            explain=None if options.no_stages else _explain,
            say=tell,
        )
    say(f"written: {path} ({path.stat().st_size / 1e6:.2f} MB); open it in a browser")
    return 0


def _explain(*asked: Any) -> "list[Explanation]":
    from classify.use.explaining import explain_between  # which imports torch

    return explain_between(*asked)


def _parser() -> Parser:
    parser = Parser("classify report", description=purpose(__doc__))
    add = parser.add_argument
    add_shared(add, "--results")
    add("--output", default="report.html", metavar="PATH", help="the page (report.html)")
    add("--dataset", metavar="NAME", help="where the images are, if nothing was made from them here before")
    add_shared(add, "--overwrite", "--trust")
    add("--sample", default=400, type=positive, metavar="N", help="test images on the maps of the features (400)")
    add("--seed", default=0, type=int, metavar="K", help="of that sample and of the maps")
    add("--no-maps", action="store_true", help="leave out the maps of the features, which take a second a layer")
    add("--no-images", action="store_true", help="leave out all images: wrong ones, on the maps, and feature maps")
    add(
        "--no-stages", action="store_true", help="leave out what stages see and where the best looked; loads no network"
    )
    add(
        "--paths", action="store_true", help="write absolute paths out, of which the last name alone is shown otherwise"
    )
    return parser
