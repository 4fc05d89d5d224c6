"""The typed parts of a record: read by attribute, written exactly as they were read, and refused where mistyped."""

import pickle

import pytest

from classify.measure.outcome import plain_json
from classify.measure.record import Extra, RowConfig

CONFIG = {"head": "finetune", "unfreeze": "layer4", "limit": None, "regularizers": ["bss=0.001"], "training": {}}


def test_a_configuration_is_the_mapping_that_it_was_read_from():
    config = RowConfig({**CONFIG, "from_the_future": 3})
    assert dict(config) == {**CONFIG, "from_the_future": 3} == plain_json(config) == config
    assert config.limit is None and "limit" in config
    assert config.limit_test is None and "limit_test" not in config
    assert config.validation is True and config.is_network
    assert config.network_label == "finetune layer4, bss=0.001"
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(AttributeError, match="cannot be changed"):
        config.head = "svm"


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (RowConfig, {"head": ["svm"]}),
        (RowConfig, {"limit": True}),
        (RowConfig, {"regularizers": "bss"}),
        (RowConfig, {"seed": None}),
        (Extra, {"history": [{"epoch": 1}]}),
        (Extra, {"places": {"dataset": 3}}),
        (Extra, {"top1": "0.7"}),
    ],
)
def test_a_field_of_another_type_is_named(kind, values):
    with pytest.raises(ValueError, match=f"its {next(iter(values))} cannot be"):
        kind(values)
