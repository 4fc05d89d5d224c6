"""Which saved model is meant: the record that was named, or the best on validation in a folder of results."""

from pathlib import Path

from classify.measure.results import SavedResult, load_results, open_result
from features.errors import UserError
from features.home import user_path


def choose_result(source: SavedResult | Path | str, dataset: str | None = None) -> SavedResult:
    """The result at `source`: a record, or of a folder the one whose model was kept and was best on validation.

    dataset: the name of the data set that it should be for. Of equals the first made is taken. UserError where nothing
    is there, where no model was kept, and for a folder with models for several data sets, which have no best.
    """
    if isinstance(source, SavedResult):
        return source
    path = user_path(str(source))
    if path.is_file() or path.suffix in (".json", ".joblib", ".skops"):
        return open_result(path)
    results = load_results(path)
    if not results:
        raise UserError(
            f"{path}: no results are kept there; train a model first (`python -m classify --model svm`), or say where "
            "one is with --from"
        )
    kept = [saved for saved in results if is_kept(saved)]
    if dataset is not None:
        kept = [saved for saved in kept if saved.result.config.dataset == dataset]
    if not kept:
        about = f" for {dataset}" if dataset is not None else ""
        raise UserError(f"{path}: none of its {len(results)} results{about} was saved with its model; run one again")
    names = sorted({saved.result.config.dataset for saved in kept})
    if len(names) > 1:
        raise UserError(
            f"{path} holds models for {', '.join(names)}, and accuracies on different images have no best; say which "
            f"with --dataset {names[0]}, or name a record with --from"
        )
    return max(kept, key=_validated)


def is_kept(saved: SavedResult) -> bool:
    """Whether a result's head or network was kept, and was trained on what it should predict."""
    extra, config = saved.result.extra, saved.result.config
    return (saved.head_path is not None or extra.network_sha256 is not None) and config.labels != "shuffled"


def _validated(saved: SavedResult) -> float:
    accuracy = saved.result.validation_accuracy
    return -1.0 if accuracy is None else accuracy
