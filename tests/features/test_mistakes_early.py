"""A mistake that can be seen without torch is told before it is imported, which takes ten seconds of a processor."""

import subprocess
import sys

import pytest

from features.errors import UserError

DIGITS = "--dataset digits"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder without images, and nothing else."""
    place = tmp_path_factory.mktemp("place")
    (place / "empty").mkdir()
    return place


def _mistakes(command: str) -> list[str]:
    several = [
        "--dataset nope",
        "--dataset folder:nope",
        "--dataset folder:empty",
        "--dataset csv:nope.csv",
        "--dataset npz:nope.npz",
        f"{DIGITS} --backbone resnet81",
        f"{DIGITS} --weights nope.pth",
        f"{DIGITS} --limit 0",
        f"{DIGITS} --image-size 0",
    ]
    return [f"{command} {options}" for options in several]


COMMANDS = [
    *_mistakes("extract"),
    *_mistakes("classify probe"),
    *_mistakes("classify compare"),
    *_mistakes("classify run"),
    *_mistakes("classify run --model finetune"),
    *_mistakes("classify check"),
    *_mistakes("classify study data-size"),
    *(f"{command} {DIGITS} --pool avgg" for command in ("extract", "classify probe", "classify run")),
    *(f"classify {verb} {DIGITS} --score nope" for verb in ("probe", "compare", "run")),
    f"classify probe {DIGITS} --backbone resnet18 resnet81",
    f"classify probe {DIGITS} --weights resnet18=nope.pth",
    "classify predict x.png --from nope.json",
    "classify predict x.png --from nope",
    "classify predict empty --from nope --sort-into empty/sorted",
    "classify export --from nope",
    "classify repeat nope.json",
    "classify report --results nope",
]


def test_a_mistake_that_can_be_seen_without_torch_is_told_before_it_is_imported(place):
    # One process for all: what is imported for one of them is imported for those after it.
    script = (
        "import sys, contextlib, io\n"
        "import classify.__main__ as classify, extract.__main__ as extract\n"
        "from features.commands.options import run_command\n"
        f"for command in {COMMANDS!r}:\n"
        "    package, *words = command.split()\n"
        "    complaint = io.StringIO()\n"
        "    with contextlib.redirect_stderr(complaint):\n"
        "        status = run_command(sys.modules[f'{package}.__main__'].main, words)\n"
        "    assert status == 2 and complaint.getvalue().count('\\n') == 1, (command, complaint.getvalue())\n"
        "    assert 'torch' not in sys.modules, command\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=place)
    assert done.returncode == 0, done.stderr


def test_what_is_right_or_known_to_torch_alone_is_no_mistake(place, monkeypatch):
    from features.families import plain_names, require_name
    from features.request import Request

    monkeypatch.chdir(place)
    (place / "mine.pth").write_bytes(b"")
    for backbone in ("resnet18", "efficientnet_lite0", "python:mine:network"):
        require_name(backbone)
    for weights in ("default", "random", "IMAGENET1K_V2", "mine.pth"):
        Request(dataset="digits", weights=weights).check()
    from features.backbones.torchvision import FAMILY

    assert set(FAMILY.names()) <= set(plain_names())


@pytest.mark.parametrize("weights", ["a=b.pth", "resnet18=a=b.pth"])
def test_a_file_of_weights_may_have_an_equals_sign_in_its_name(place, monkeypatch, weights):
    from features.commands.options import Parser, add_request_options, check_request

    monkeypatch.chdir(place)
    (place / "a=b.pth").touch()
    parser = Parser("classify probe")
    add_request_options(parser, layer="all", several=True)
    check_request(parser.parse_args(["--dataset", "digits", "--weights", weights]))
    with pytest.raises(UserError, match="b=a.pth: there is no such file"):
        check_request(parser.parse_args(["--dataset", "digits", "--weights", "b=a.pth"]))
