"""Images of many pixels: a limit for one, and for all that are worked on at a time, whoever reads them."""

import threading
import time

import numpy as np
import pytest
from PIL import Image

from features.commands.options import Parser, add_shared, run_command
from features.datasets import pixels
from features.datasets.images import read_image
from features.errors import UserError


@pytest.fixture
def images(tmp_path):
    for number in range(6):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (100, 100), np.uint8)).save(
            tmp_path / f"{number}.png"
        )
    return sorted(tmp_path.glob("*.png"))


class _Watch:
    """How many pixels are in flight at the most, while images are worked on for a moment."""

    def __init__(self):
        self.most = 0

    def work(self, path, around):
        with around():
            read_image(path)
            self.most = max(self.most, pixels._in_flight)
            time.sleep(0.02)


def _together(images, watch, around=pixels.pixels_held):
    threads = [threading.Thread(target=watch.work, args=(path, around)) for path in images]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads) and pixels._in_flight == 0


@pytest.mark.parametrize(("budget", "most"), [(25_000, 20_000), (9_999, 10_000), (1, 10_000), (10**9, 60_000)])
def test_no_more_pixels_than_the_budget_are_worked_on(images, monkeypatch, budget, most):
    monkeypatch.setenv(pixels.IN_FLIGHT, str(budget))
    watch = _Watch()
    _together(images, watch)
    assert 0 < watch.most <= most


def test_an_image_that_cannot_be_read_gives_its_pixels_back(images):
    content = images[0].read_bytes()
    images[0].write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError):
        read_image(images[0])
    assert pixels._in_flight == 0


def test_an_image_beyond_the_limit_is_refused_before_it_is_decoded(images, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    monkeypatch.setenv(pixels.MAX_PIXELS, "9999")
    with pytest.raises(UserError, match=r"100 x 100 pixels.*--max-pixels"):
        read_image(images[0])
    monkeypatch.setenv(pixels.MAX_PIXELS, "10000")
    assert read_image(images[0]).shape == (100, 100)
    monkeypatch.setenv(pixels.MAX_PIXELS, "many")
    with pytest.raises(UserError, match="LAYERPROBE_MAX_PIXELS"):
        read_image(images[0])


def test_a_limit_is_gone_with_the_command_that_set_it(images, monkeypatch):
    own = Image.MAX_IMAGE_PIXELS

    def command(arguments):
        parser = Parser(prog="any")
        add_shared(parser.add_argument, "--max-pixels")
        parser.parse_args(arguments)
        read_image(images[0])

    assert run_command(command, ["--max-pixels", "9999"]) == 2
    assert read_image(images[0]).shape == (100, 100) and own == Image.MAX_IMAGE_PIXELS


def test_the_options_reach_the_processes_that_are_started(monkeypatch):
    for variable in (pixels.MAX_PIXELS, pixels.IN_FLIGHT):
        monkeypatch.setenv(variable, "1")
    parser = Parser(prog="any")
    add_shared(parser.add_argument, "--max-pixels", "--pixels-in-flight")
    options = parser.parse_args(["--max-pixels", "5", "--pixels-in-flight=7"])
    assert (options.max_pixels, options.pixels_in_flight) == (5, 7)
    assert pixels._number(pixels.MAX_PIXELS, 0) == 5 and pixels._number(pixels.IN_FLIGHT, 0) == 7
    with pytest.raises(UserError, match="1 or more"):
        parser.parse_args(["--max-pixels", "0"])
