"""Networks that are built in ways of their own, trained, saved and read again: nothing that was trained is lost."""

import numpy as np
import pytest
import torch

from classify.heads.network.classifier import NetworkClassifier
from classify.heads.network.settings import TrainingSettings
from classify.heads.network.spottune import SpotTuneClassifier
from features.architectures import build_model, outline
from features.backbones import load_backbone

ONE_STEP = TrainingSettings(steps=1, batch_size=4, precision="float32")


@pytest.fixture(autouse=True)
def _own_home(home):
    pass


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    return random.integers(0, 256, (8, 64, 64, 3)).astype(np.uint8), np.tile([0, 1], 4)


def trained_and_read_again(classifier, images, folder):
    classifier.fit(*images)
    classifier.save(folder)
    again = type(classifier).load(folder, device="cpu")
    assert np.array_equal(again.decision_function(images[0]), classifier.decision_function(images[0]))
    return again


@pytest.mark.parametrize(("name", "size"), [("googlenet", 64), ("inception_v3", 96), ("mnasnet0_5", 64)])
def test_a_fine_tuned_network_is_read_again(name, size, images, tmp_path):
    torch.save(build_model(name, 5).state_dict(), tmp_path / "source.pth")
    backbone = load_backbone(name, str(tmp_path / "source.pth"))
    again = trained_and_read_again(
        NetworkClassifier(backbone, unfreeze="fc", image_size=size, settings=ONE_STEP, device="cpu"), images, tmp_path
    )
    assert not any(key.lower().startswith("aux") for key in again.whole().state_dict())


def test_a_network_saved_with_auxiliary_heads_is_read_as_well(images, tmp_path):
    """Version 0.1.0 kept them, of the source's number of classes, and could not read what it had saved."""
    import json

    from classify.heads.network.checkpoint import write_network
    from features.weights import state_sha256

    backbone = load_backbone("googlenet", "random")
    classifier = NetworkClassifier(backbone, unfreeze="fc", image_size=64, settings=ONE_STEP, device="cpu").fit(*images)
    classifier.save(tmp_path)
    fields = json.loads((tmp_path / "network.json").read_text())
    model = classifier.whole()
    model.aux1, model.aux2 = backbone.model.aux1, backbone.model.aux2
    fields = {name: value for name, value in fields.items() if name not in ("digest", "file_sha256")}
    write_network(tmp_path, model.state_dict(), {**fields, "sha256": state_sha256(model)})
    again = NetworkClassifier.load(tmp_path, device="cpu")
    assert np.array_equal(again.decision_function(images[0]), classifier.decision_function(images[0]))


@pytest.mark.parametrize("kind", [NetworkClassifier, SpotTuneClassifier])
def test_a_vision_transformer_of_another_size_is_read_again(kind, images, tmp_path):
    state = {
        name: torch.randn(t.shape) * 0.02 for name, t in outline("vit_b_32", 5, image_size=64).state_dict().items()
    }
    torch.save(state, tmp_path / "source.pth")
    backbone = load_backbone("vit_b_32", str(tmp_path / "source.pth"))
    point = "fc" if kind is NetworkClassifier else "all"
    trained_and_read_again(kind(backbone, unfreeze=point, settings=ONE_STEP, device="cpu"), images, tmp_path)
