"""`python -m classify check`: what is wrong with a data set, or may be, before anything is trained; a line for each
kind of thing, and nothing where all is well."""

import contextlib
from collections.abc import Sequence

from classify.commands.outputs import add_output_options, check_outputs, present, write_outputs
from features.commands.help import purpose
from features.commands.options import Parser, add_request_options, add_shared, check_request, request_from
from features.commands.speaking import tell


def main(arguments: Sequence[str]) -> int:
    """Parse the command line, look at the data set, and print and write what was found."""
    options = _parser().parse_args(arguments)
    check_outputs(options)
    from features.datasets.survey import AbsentImages

    with contextlib.suppress(AbsentImages):  # which are findings
        check_request(options)

    from classify.experiments.check import check

    outcome = check(
        request_from(options),
        features=not options.no_features,
        results=options.results,
        compiled=options.compile,
        jobs=options.jobs,
        say=tell,
    )
    outcome.save()
    tell(outcome.summary)
    # Where all is well nothing is printed: whoever asks a script, or reads a log, sees at once that there is nothing.
    if outcome.findings:
        present(outcome, options.csv or str(outcome.folder / f"{outcome.stem}.json"), listed=True)
    write_outputs(options, outcome, tell)
    tell(f"saved in {outcome.folder}: {outcome.stem}.json")
    return 0


def _parser() -> Parser:
    parser = Parser("classify check", description=purpose(__doc__))
    add = parser.section("what is looked at")
    no_features = "look at files alone: no near-duplicates, contradicted labels and images unlike all others"
    add("--no-features", action="store_true", help=no_features)
    add_request_options(parser, layer=None)
    add = parser.section("how")
    add_shared(add, "--compile", "--results")
    add_output_options(add)
    return parser
