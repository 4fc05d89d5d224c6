"""`python -m classify repeat results/RECORD.json`: make a row again from its record, and say whether it came out the
same; status 1 if it did not."""

from collections.abc import Sequence

from features.commands.help import purpose
from features.commands.options import Parser, add_shared
from features.commands.speaking import put


def main(arguments: Sequence[str]) -> int:
    """Parse the command line, make every record's row again and print how it compares."""
    options = _parser().parse_args(arguments)

    from classify.measure.results import open_result, recorded_option

    results, different = [open_result(record) for record in options.records], 0
    # With these comes torch, and a record that is absent is said before.
    from classify.experiments.repeating import repeat
    from features.first_use import require_used_here

    for saved in results:
        dataset = options.dataset
        if dataset is None and (dataset := recorded_option(saved, "dataset")) is not None:
            require_used_here(dataset, saved.result.config.dataset_sha256)
        weights = options.weights or recorded_option(saved, "weights")
        repetition = repeat(saved, dataset=dataset, weights=weights, afresh=options.afresh, trust=options.trust)
        different += not repetition.same
        put(f"{saved.path}\n{repetition}")
    return 1 if different else 0


def _parser() -> Parser:
    parser = Parser("classify repeat", description=purpose(__doc__))
    add = parser.add_argument
    add("records", nargs="+", metavar="RECORD", help="a JSON record in a folder of results")
    add("--dataset", metavar="NAME", help="where the data set stands now (default: where it stood)")
    add("--weights", metavar="W", help="where the weights stand now (default: where they stood)")
    add("--afresh", action="store_true", help="extract the features again too, instead of reading the cache")
    add_shared(add, "--trust")
    return parser
