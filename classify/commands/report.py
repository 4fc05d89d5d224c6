"""`python -m classify report`: one self-contained HTML page from what stands in a folder of results."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from features.commands.options import Parser, positive
from features.errors import UserError


def main(arguments: Sequence[str]) -> int:
    """Parse the command line, make the page and say where it is."""
    options = _parser().parse_args(arguments)
    if not options.output.absolute().parent.is_dir():
        raise UserError(f"{options.output}: there is no folder {options.output.parent}; make it, or name another place")

    from classify.show.report import write_report

    path = write_report(
        options.results,
        options.output,
        sample=options.sample,
        seed=options.seed,
        maps=not options.no_maps,
        images=not options.no_images,
        stages=not options.no_stages,
        command=shlex.join(["python", "-m", "classify", "report", *arguments]),
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(f"written: {path} ({path.stat().st_size / 1e6:.2f} MB); open it in a browser")
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m classify report", description=__doc__)
    add = parser.add_argument
    add("--results", default="results", metavar="FOLDER", help="where the results are (results/)")
    add("--output", default=Path("report.html"), type=Path, metavar="PATH", help="the page (report.html)")
    add("--sample", default=400, type=positive, metavar="N", help="test images on the maps of the features (400)")
    add("--seed", default=0, type=int, metavar="K", help="of that sample and of the maps")
    add("--no-maps", action="store_true", help="leave out the maps of the features, which take a second a layer")
    add("--no-images", action="store_true", help="leave out all images: wrong ones, on the maps, and feature maps")
    add("--no-stages", action="store_true", help="leave out what each stage sees of one image; loads no network then")
    return parser
