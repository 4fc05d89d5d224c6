"""`python -m classify predict`: a saved head or network on new images.

Images are files, folders, and `-` for the standard input: an image, or a list of paths, one a line. One that cannot be
read is named and the others are still done; the exit status is then 1.
"""

import argparse
import contextlib
import csv
import io
import itertools
import json
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from classify.commands.outputs import check_outputs
from features.commands.help import purpose
from features.commands.options import Add, Parser, add_shared, positive
from features.commands.speaking import complain, printable, tell
from features.commands.stopping import status_of
from features.errors import UserError
from features.home import user_path
from features.written import text_written

_ROWS = 1000  # of a table; a folder of more gets several, so that nothing waits for its end


def main(arguments: Sequence[str]) -> int:
    """Parse the command line and classify what it names; 1 where an image could not be read."""
    options = _parser().parse_args(arguments)
    _check_outputs(options)
    _check_folders(options)
    from classify.use.choosing import choose_result

    # With what predicts comes torch, and a record that is absent is said before.
    saved = choose_result(options.source, options.dataset)
    from classify.use.saved import load_model, require_probabilities
    from features.datasets.images import warnings_by_file

    if options.jobs is not None:
        import torch

        torch.set_num_threads(options.jobs)
    model = load_model(saved, trust=options.trust, weights=options.weights, device=options.device)
    require_probabilities(model, options.reject)
    failed = done = 0
    try:
        with warnings_by_file(_warn), contextlib.closing(_written(options, model)) as written:
            for prediction in written:
                done += 1
                if prediction.problem is not None:
                    failed += 1
                    complain(f"error: {prediction.problem}")
    except KeyboardInterrupt as stop:
        complain(f"stopped after {done} images, whose classes stand above or in their files")
        return status_of(stop)
    return 1 if failed else 0


def _warn(name: str, warning: str) -> None:
    complain(f"{name} is read with a warning: {warning}")


def _written(options: argparse.Namespace, model: Any) -> Generator[Any, None, None]:
    """The predictions, each given out after it was written to wherever they go."""
    from classify.use.images import given_images, overview
    from classify.use.predicting import predictions
    from features.commands.progress import row_progress

    with contextlib.ExitStack() as stack:
        explainer = _explainer(model) if options.explain is not None else None
        writers = [stack.enter_context(writer) for writer in _writers(options, model)]
        progress = stack.enter_context(row_progress())
        seen = overview(options.images, model.white)
        for remark in seen.remarks:
            tell(remark)
        images = given_images(options.images, sys.stdin.buffer if sys.stdin else io.BytesIO())
        explain = explainer.explain if explainer else None
        predicted = predictions(model, images, options.top, options.jobs or 4, seen.white, options.reject, explain)
        for done, prediction in enumerate(predicted, start=1):
            for write in writers:
                write(prediction)
            progress("images", done, seen.count)
            yield prediction
    if explainer:
        maps = ", ".join(explainer.maps)
        tell(f"{options.explain}: what speaks for each class in red, against it in blue, at the places of {maps}")


def _explainer(model: Any) -> Any:
    from classify.use.explaining import Explainer

    return Explainer(model)


def _writers(options: argparse.Namespace, model: Any) -> Iterator[Any]:
    """Where predictions go, each a context that gives a function of one prediction."""
    if "-" not in (options.json, options.csv):
        yield _tables(model)
    if options.json is not None:
        yield _json(options.json, model)
    if options.csv is not None:
        yield _csv(options.csv)
    if options.sort_into is not None:
        from classify.use.sorting import sorted_into

        yield sorted_into(user_path(options.sort_into).absolute(), options.sort_as)
    if options.explain is not None:
        from classify.use.sorting import explained_into

        yield explained_into(user_path(options.explain).absolute())


@contextlib.contextmanager
def _tables(model: Any) -> Iterator[Callable]:
    from classify.show.table import show
    from classify.use.predictions import predictions_table

    rows: list = []
    titles = itertools.chain([f"{model}\n{model.saved.path}"], itertools.repeat(""))

    def write(prediction: Any) -> None:
        rows.append(prediction)
        if len(rows) == _ROWS:
            show(predictions_table(rows, next(titles)))
            rows.clear()

    try:
        yield write
    finally:
        if rows:
            show(predictions_table(rows, next(titles)))


@contextlib.contextmanager
def _json(path: str, model: Any) -> Iterator[Callable]:
    """One object: `model`, and `images`, written as they come, and complete whenever it ends."""
    about = {"record": str(model.saved.path), "about": str(model), "classes": list(model.classes)}
    with _opened(path) as stream:
        stream.write(f'{{"model": {json.dumps(about)},\n"images": [')
        between = itertools.chain(["\n"], itertools.repeat(",\n"))
        try:
            yield lambda prediction: stream.write(next(between) + json.dumps(prediction.to_json()))
        finally:
            stream.write("\n]}\n")


@contextlib.contextmanager
def _csv(path: str) -> Iterator[Callable]:
    """A line for each guess."""
    from classify.use.predicting import CSV_FIELDS

    with _opened(path) as stream:
        writer = csv.DictWriter(stream, CSV_FIELDS, lineterminator="\n")
        writer.writeheader()
        yield lambda prediction: writer.writerows(prediction.records())


@contextlib.contextmanager
def _opened(path: str) -> Iterator[TextIO | io.TextIOBase]:
    if path == "-":
        yield _Shown() if sys.stdout.isatty() else sys.stdout
        return
    with text_written(Path(path)) as stream:
        yield stream


class _Shown(io.TextIOBase):
    """The terminal, to which no name of a file or a class may speak."""

    def write(self, text: str) -> int:
        return sys.stdout.write(printable(text))


def _check_folders(options: argparse.Namespace) -> None:
    for option, folder in (("--sort-into", options.sort_into), ("--explain", options.explain)):
        if folder is not None:
            from classify.use.sorting import require_place

            require_place(option, folder, options.images)


def _check_outputs(options: argparse.Namespace) -> None:
    if options.json == options.csv == "-":
        raise UserError("--json - and --csv - would both write to the standard output; name a file for one of them")
    check_outputs(options, "json", "csv")


def add_model_options(add: Add) -> None:
    """The options that say which saved model, as `predict` and `export` have them; `add` is a section's."""
    add(
        "--from",
        dest="source",
        default="results",
        metavar="RECORD",
        help="a result's record (.json), or a folder: the model best on validation in it (results/)",
    )
    add("--dataset", metavar="NAME", help="the best for this data set, named as in training")
    add("--weights", metavar="PATH", help="the file of the backbone's weights, if it cannot be found")
    add_shared(add, "--trust")


def _probability(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no probability; give a number from 0 to 1")
    return value


def _parser() -> Parser:
    parser = Parser("classify predict", description=purpose(__doc__))
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="an image, a folder of images, or -")
    add_model_options(parser.section("which model"))
    add = parser.section("what to say")
    add("--top", type=positive, default=1, metavar="K", help="the K likeliest classes (1)")
    add("--reject", type=_probability, default=0.0, metavar="P", help="say 'unsure' where the probability is below P")
    add("--json", metavar="PATH", help="write everything as JSON; - to the standard output, alone")
    add("--csv", metavar="PATH", help="write a line for each guess; - to the standard output, alone")
    add(
        "--sort-into",
        metavar="FOLDER",
        help="links to the images in a new folder, by class, and predictions.csv beside",
    )
    add("--sort-as", default="link", choices=("link", "copy"), help="of --sort-into: link (default) or copy", rare=True)
    add(
        "--explain",
        metavar="FOLDER",
        help="a picture of each image in a new folder: which of its places speak for its class, and which against it",
    )
    add_shared(add, "--overwrite")
    add_shared(parser.section("how"), "--device", "--jobs", "--max-pixels", "--pixels-in-flight")
    return parser
