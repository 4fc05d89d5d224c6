"""How regularisers are asked for: names, strengths and layers as text."""

import pytest

from classify.heads.regularizers import REGULARIZERS, RegularizerSpec, parse_regularizers
from features.errors import UserError


def test_specs_are_read_with_their_defaults():
    specs = parse_regularizers(["l2-sp=0.1", "bss", "delta=0.2@layer3+layer4"])
    assert specs == (
        RegularizerSpec("l2-sp", (0.1, 0.01)),
        RegularizerSpec("bss", (0.001,)),
        RegularizerSpec("delta", (0.2,), ("layer3", "layer4")),
    )
    assert parse_regularizers(map(str, specs)) == specs
    assert parse_regularizers("l2=1 bss=2") == parse_regularizers(["l2=1", "bss=2"])
    assert all(kind.summary for kind in REGULARIZERS.values())


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["l2sp=0.1"], "did you mean l2-sp"),
        (["l2=-1"], "0 or more"),
        (["l2=much"], "no strength"),
        (["l2=1,2"], "at most 1"),
        (["l2=1@layer3"], "does not act on layers"),
        (["l2", "l2=2"], "2 times"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(texts, words):
    with pytest.raises(UserError, match=words) as caught:
        parse_regularizers(texts)
    assert "\n" not in str(caught.value)
