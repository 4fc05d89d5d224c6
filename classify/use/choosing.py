"""Which saved model is meant: the record that was named, or the best on validation in a folder of results."""

from pathlib import Path

from classify.measure.choice import best_of
from classify.measure.results import SavedResult, left_out, open_result, sorted_out
from classify.use.data_sets import for_one_data_set
from features.commands.speaking import tell
from features.errors import UserError
from features.home import user_path


def choose_result(source: SavedResult | Path | str, dataset: str | None = None) -> SavedResult:
    """The result at `source`: a record, or of a folder the one whose model was kept and was best on validation.

    The best is what `classify.measure.choice` says of them. dataset: the data set that it should be for, as training
    takes it, or its name in the records. UserError where nothing is there, where no model was kept, and for a folder
    with models for several data sets, which have no best. Those that are known to be wrong are left out, which is said.
    """
    if isinstance(source, SavedResult):
        return source
    path = user_path(str(source))
    if path.is_file() or path.suffix in (".json", ".joblib", ".skops"):
        return open_result(path)
    results, wrong = sorted_out(path)
    if wrong and not results:
        raise UserError(left_out(path, wrong))
    if wrong:
        tell(left_out(path, wrong))
    if not results:
        raise UserError(
            f"{path}: there are no results there; train a model first (`python -m classify probe`), or say where "
            "one is with --from"
        )
    kept = [saved for saved in results if is_kept(saved)]
    if not kept:
        raise UserError(f"{path}: none of its {len(results)} results was saved with its model; run one again")
    return best_of(for_one_data_set(kept, path, dataset), lambda saved: [saved.result])


def is_kept(saved: SavedResult) -> bool:
    """Whether a result's head or network was kept, and was trained on what it should predict."""
    extra, config = saved.result.extra, saved.result.config
    return (saved.head_path is not None or extra.network_sha256 is not None) and config.labels != "shuffled"
