"""What was used before and changed since is refused by name, until the change is accepted by name."""

import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from features.architectures import build_model
from features.backbones import load_backbone
from features.commands.cache import main
from features.digests import sha256_file
from features.errors import UserError
from features.request import Request, plan


@pytest.fixture
def weights(home, tmp_path):
    """A file of weights without any check sum in it."""
    path = tmp_path / "mine.safetensors"
    torch.manual_seed(0)
    save_file(build_model("mobilenet_v3_small").state_dict(), path)
    return path


def _load(path):
    return load_backbone("mobilenet_v3_small", str(path))


def test_changed_weights_are_refused_until_the_change_is_accepted(weights, capsys):
    before = _load(weights).weights_sha256
    state = load_file(weights)
    state["features.0.0.weight"][0, 0, 0, 0] += 1
    save_file(state, weights)
    for _ in range(2):
        with pytest.raises(UserError, match=rf"{before[:8]} then, (?!{before[:8]}).*features accept {weights}"):
            _load(weights)
    assert main(["accept", str(weights)]) == 0
    after = _load(weights).weights_sha256
    assert f"accepted {weights}: SHA-256 {after}" in capsys.readouterr().out
    # What is accepted is what was refused, and nothing that came later.
    state["features.0.0.weight"][0, 0, 0, 0] += 1
    save_file(state, weights)
    with pytest.raises(UserError, match=f"{after[:8]} then"):
        _load(weights)


def test_nothing_is_accepted_that_was_not_refused(weights):
    _load(weights)
    with pytest.raises(UserError, match="no change of .* was refused"):
        main(["accept", str(weights)])


def test_the_same_values_in_another_file_are_no_change(weights):
    _load(weights)
    save_file(load_file(weights), weights, metadata={"note": "written again"})
    _load(weights)


def test_a_changed_data_set_is_refused_and_the_file_named(home, tmp_path):
    path = tmp_path / "mine.npz"
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)
    np.savez(path, images=images, labels=np.arange(20) % 2)
    request = Request(f"npz:{path}", weights="random", image_size=32)
    first = plan(request)
    images[3, 4, 4] ^= 1
    np.savez(path, images=images, labels=np.arange(20) % 2)
    with pytest.raises(UserError, match=rf"npz:{path} is not what it was.*; {path} changed since"):
        plan(request)
    assert main(["accept", f"npz:{path}"]) == 0
    assert plan(request).wanted[0].key.dataset != first.wanted[0].key.dataset


def test_a_file_with_its_old_time_put_back_is_read_again(home, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    first, times = sha256_file(path), path.stat()
    path.write_bytes(b"after!")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_mtime_ns == times.st_mtime_ns and path.stat().st_size == times.st_size
    assert sha256_file(path) != first


def test_a_file_that_changes_within_one_tick_of_the_clock_is_read_again(home, tmp_path):
    path = tmp_path / "file"
    for number in range(50):
        path.write_bytes(b"%6d" % number)
        first = sha256_file(path)
        path.write_bytes(b"%6d" % (number + 100))
        assert sha256_file(path) != first


def test_a_download_that_breaks_off_in_any_way_gets_one_line(home, monkeypatch):
    import http.client

    from features import weights

    def break_off(*arguments, **options):
        raise http.client.IncompleteRead(b"", 5)

    monkeypatch.setattr(torch.hub, "download_url_to_file", break_off)
    with pytest.raises(UserError, match="could not be downloaded"):
        weights.download("https://example.invalid/net-0123abcd.pth")
