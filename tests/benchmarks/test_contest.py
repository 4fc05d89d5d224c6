"""What a contest says of the seconds it was told; nothing is timed here."""

import sys

import pytest

from tests.benchmarks.contest import Contender, compete
from tests.benchmarks.served import Served


def _turns(*seconds):
    return iter(seconds).__next__


def test_ratios_are_taken_round_by_round_and_shares_of_the_best_limit():
    outcome = compete(
        "a title",
        [Contender("mine", _turns(1.0, 2.0, 4.0), "products", 100.0), Contender("theirs", _turns(3.0, 5.0, 12.0))],
        amount=8,
        unit="images",
        rounds=3,
        limits={"products": _turns(60.0, 100.0, 80.0)},
    )
    assert outcome.ratios("theirs", "mine") == [3.0, 2.5, 3.0]
    assert outcome.share(outcome.contenders[0]) == pytest.approx(0.5)
    assert outcome.share(outcome.contenders[1]) is None
    printed = str(outcome)
    for told in ("a title (3 rounds)", "1.00 / 2.00 / 4.00", "4.0", "2.50 / 3.00 / 3.00", "50% (products)"):
        assert told in printed
    assert outcome.to_json()["ratios"] == {"mine": {"mine": [1.0, 1.0, 1.0], "theirs": [3.0, 2.5, 3.0]}}


def test_all_of_ours_are_held_against_the_others_and_each_other():
    contenders = [Contender(name, _turns(seconds)) for name, seconds in (("one", 1.0), ("two", 2.0), ("theirs", 8.0))]
    outcome = compete("a title", contenders, amount=1, unit="rows", rounds=1, ours=2)
    assert outcome.ratios("theirs", "two") == [4.0]
    assert outcome.ratios("one", "two") == [0.5]


def test_a_served_program_takes_turns_and_its_end_is_told(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import json, sys\n"
        "from tests.benchmarks.served import serve\n"
        "options, left = json.loads(sys.argv[1]), [1, 2]\n"
        "def turn():\n"
        "    print('what a library prints')\n"
        "    return {'seconds': options['seconds'] * left.pop(0)}\n"
        "serve(turn, name='told')\n"
    )
    with Served(program, {"seconds": 0.5}, sys.executable) as served:
        assert served.told == {"name": "told"}
        turn = served.clocked("wall")
        assert [turn(), turn()] == [0.5, 1.0]
        with pytest.raises(RuntimeError, match="ended with status 1 instead of taking its turn"):
            turn()
