"""What was computed wrongly is not used again: neither shown, nor predicted with, nor taken for today's row."""

import dataclasses

import pytest

from classify import load_model
from classify.experiments.making import make
from classify.experiments.row import Row, network_row
from classify.experiments.settings import How
from classify.heads.network.settings import TrainingSettings
from classify.heads.regularizers import parse_regularizers
from classify.measure.corrections import CORRECTED, superseded
from classify.measure.record import RowConfig
from classify.measure.results import load_results, open_result
from classify.measure.saving import save_result
from features.errors import UserError
from features.request import Request

REQUEST = Request(
    dataset="digits", weights="random", image_size=32, limit=60, limit_test=30, precision="float32", device="cpu"
)
ONE_STEP = TrainingSettings(steps=1, batch_size=8, precision="float32")


def _row(*regularizers: str) -> Row:
    specs = parse_regularizers(regularizers)
    return network_row(REQUEST, "finetune", training=ONE_STEP, unfreeze="layer4", regularizers=specs)


@pytest.fixture(autouse=True)
def own_home(home) -> None:
    """Nothing is left in the machine's own."""


def test_only_rows_whose_mathematics_was_corrected_are_others_than_before():
    assert _row("ewc=2", "bss").config.corrections == [CORRECTED["ewc"].name]
    assert _row("delta-attention").config.corrections == [CORRECTED["delta-attention"].name]
    for unchanged in ((), ("delta",), ("l2-sp", "bss"), ("l2-sp-fisher",)):
        assert "corrections" not in _row(*unchanged).config
    for name in CORRECTED:
        assert superseded(RowConfig({"regularizers": [f"{name}=1"]}))
        assert not superseded(_row(name).config)


def test_a_result_from_before_a_correction_is_made_again_and_never_used(tmp_path, capsys):
    row, lines = _row("ewc=2"), []
    made = make(row, How(folder=tmp_path / "made"))
    config = {name: value for name, value in row.config.items() if name != "corrections"}
    earlier = dataclasses.replace(made.result, config=RowConfig(config))
    folder = tmp_path / "results"
    old = save_result(folder, earlier, made.predictions())
    assert not load_results(folder)
    said = f"1 result is known to be wrong and not used ({old.path.name}: ewc has been corrected since"
    assert said in capsys.readouterr().err
    for use in (open_result, load_model, lambda path: Row.from_config(RowConfig(config))):
        with pytest.raises(UserError, match="ewc has been corrected since"):
            use(old.path)
    again = make(row, How(folder=folder, say=lines.append))
    assert again.path != old.path
    assert any(old.path.name in line and "made again" in line for line in lines)
    assert [saved.path for saved in load_results(folder)] == [again.path]
    assert Row.from_config(again.result.config, keep=True).digest == row.digest
