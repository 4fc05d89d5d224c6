"""Files of weights as people have them: under other names, beside other things, of other layouts; and files that are
none. What is read has the digest of the plain state dict."""

import argparse
import re
import warnings

import numpy as np
import pytest
import torch
from torchvision import models

from features.architectures import build_model, outline
from features.backbones import load_backbone
from features.errors import UserError
from features.weights import all_finite

NAME = "shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(5)
    return models.get_model(NAME, weights=None).state_dict()


@pytest.fixture(scope="module")
def plain(state, tmp_path_factory):
    """The digest of the plain state dict."""
    path = tmp_path_factory.mktemp("plain") / "plain.pth"
    torch.save(state, path)
    return load_backbone(NAME, str(path)).weights_sha256


@pytest.fixture(autouse=True)
def _own_home(home):
    pass


def under(prefix, tensors):
    return {prefix + name: tensor for name, tensor in tensors.items()}


def others(tensors):
    """The same names with other numbers."""
    return {name: tensor + 1 for name, tensor in tensors.items()}


def by_number(tensors):
    """Names as in nn.Sequential(*network.children())."""
    children = [name for name, _ in outline(NAME).named_children()]
    split = {name: name.partition(".") for name in tensors}
    return {f"{children.index(split[name][0])}.{split[name][2]}": tensor for name, tensor in tensors.items()}


def adam(tensors):
    """An optimiser's state, which has tensors of the same shapes."""
    return {"state": {0: {"exp_avg": tensors["conv1.0.weight"], "step": torch.tensor(3.0)}}, "param_groups": [{}]}


FORMS = {
    "Lightning": lambda s: {"state_dict": {**under("model.", s), "loss.weight": torch.ones(3)}, "epoch": 3},
    "torch.compile": lambda s: under("_orig_mod.", s),
    "compiled inside DataParallel": lambda s: under("module._orig_mod.", s),
    "compiled backbone": lambda s: {"state_dict": under("backbone._orig_mod.", s)},
    "backbone": lambda s: {**under("backbone.", s), "projector.0.weight": torch.ones(4, 4)},
    "encoder": lambda s: {"net": under("encoder.", s), "optimizer": adam(s)},
    "model_state_dict": lambda s: {"model_state_dict": s, "optimizer_state_dict": adam(s), "loss": 0.3},
    "ema alone": lambda s: {"ema": s, "epoch": 3},
    "teacher": lambda s: {"teacher": under("module.backbone.", s), "epoch": 3},
    "network two deep": lambda s: {"checkpoint": {"network": s}},
    "Ray Tune's pair": lambda s: (s, adam(s)),
    "wrapper in the middle": lambda s: {re.sub(r"^(stage2)\.", r"\1.module.", name): t for name, t in s.items()},
    "children in a Sequential": lambda s: under("backbone.", by_number(s)),
    "averaged model": lambda s: {**under("module.", s), "n_averaged": torch.tensor(7)},
    "script's settings": lambda s: {"model": s, "args": argparse.Namespace(lr=0.1), "best": np.float64(0.7)},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_checkpoint_gives_the_plain_weights(form, state, plain, tmp_path, capsys):
    torch.save(FORMS[form](state), tmp_path / "any.ckpt")
    backbone = load_backbone(NAME, str(tmp_path / "any.ckpt"))
    assert backbone.weights_sha256 == plain
    assert not backbone.headless
    assert capsys.readouterr().err == ""


def test_safetensors_are_known_by_content_and_have_prefixes_too(state, plain, tmp_path):
    from safetensors.torch import save_file

    save_file({name: tensor.clone() for name, tensor in under("model.", state).items()}, tmp_path / "weights.bin")
    assert load_backbone(NAME, str(tmp_path / "weights.bin")).weights_sha256 == plain


TWO = {
    "model": (lambda s: {"model_ema": others(s), "model": s}, "model, model_ema"),
    "state_dict": (lambda s: {"state_dict_ema": others(s), "state_dict": s}, "state_dict, state_dict_ema"),
    "both": (lambda s: {"model": others(s), "state_dict": s}, "state_dict, model"),
    "net": (lambda s: {"ema": under("module.", others(s)), "net": s}, "net, ema with the prefix module."),
    "teacher": (
        lambda s: {**under("student.", others(s)), **under("teacher.", s)},
        "with the prefix teacher., with the prefix student.",
    ),
    "query": (
        lambda s: {"state_dict": {**under("encoder_k.", others(s)), **under("encoder_q.", s)}},
        "state_dict with the prefix encoder_q., state_dict with the prefix encoder_k.",
    ),
    "bare": (
        lambda s: {**s, **under("ema.", others(s))},
        "the file's outermost tensors, with the prefix ema.",
    ),
}


@pytest.mark.parametrize("which", TWO)
def test_of_two_networks_in_a_file_the_one_that_is_used_is_told(which, state, plain, tmp_path, capsys):
    form, places = TWO[which]
    torch.save(form(state), tmp_path / f"{which}.pth")
    assert load_backbone(NAME, str(tmp_path / f"{which}.pth")).weights_sha256 == plain
    said = capsys.readouterr().err
    assert said == f"{which}.pth holds 2 sets of weights of {NAME}: {places}; the first is used\n"


def test_two_equal_copies_are_one(state, tmp_path, capsys):
    torch.save({"model": state, "ema": state}, tmp_path / "both.pth")
    load_backbone(NAME, str(tmp_path / "both.pth"))
    assert capsys.readouterr().err == ""


def test_a_head_of_several_layers_leaves_the_network_below_it(state, tmp_path, capsys):
    body = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    torch.save(body, tmp_path / "body.pth")
    head = {"fc.1.weight": torch.ones(3, 1024), "fc.1.bias": torch.ones(3)}
    torch.save({"state_dict": under("model.", {**body, **head})}, tmp_path / "own-head.pth")
    networks = [load_backbone(NAME, str(tmp_path / name)) for name in ("body.pth", "own-head.pth")]
    assert all(network.headless for network in networks)
    assert networks[0].weights_sha256 == networks[1].weights_sha256
    assert capsys.readouterr().err == (
        f"own-head.pth has a classifier that {NAME} has not (fc.1.weight), and is read without it\n"
    )


def test_a_head_of_another_number_of_classes_under_a_prefix(tmp_path):
    ten = models.get_model(NAME, weights=None, num_classes=10).state_dict()
    torch.save({"state_dict": under("net.model.", ten)}, tmp_path / "ten.ckpt")
    assert load_backbone(NAME, str(tmp_path / "ten.ckpt")).model.fc.out_features == 10


REFUSED = {
    "whole module": (lambda s: models.get_model(NAME, weights=None), r"pickled torchvision\.models\.shufflenetv2\.Sh"),
    "nested module": (
        lambda s: {"model": torch.nn.ReLU(), "epoch": 3},
        r"pickled torch\.nn\.modules\.activation\.ReLU",
    ),
    "numbers alone": (lambda s: {"lr": 0.1}, "no tensors with names"),
    "another architecture": (
        lambda s: {"state_dict": under("model.", outline_of("squeezenet1_1"))},
        r"it lacks conv1\.0\.weight, and its names are like model\.features\.0\.weight .* those of squeezenet1_1: give",
    ),
    "a part": (
        lambda s: {"state_dict": under("model.", {k: v for k, v in s.items() if not k.startswith("conv5.")})},
        r"it lacks conv5\.0\.weight \(state_dict with the prefix model\.\) \(5 tensors missing",
    ),
    "another layer": (lambda s: {**s, "attention.weight": torch.ones(3)}, r"it has attention\.weight \(0 tensors"),
    "another shape": (
        lambda s: {**s, "conv1.0.weight": torch.ones(24, 1, 3, 3)},
        r"conv1\.0\.weight is \(24, 1, 3, 3\), not \(24, 3, 3, 3\)",
    ),
    "names of nobody's": (lambda s: {"blocks.0.qkv": torch.ones(3)}, r"its names are like blocks\.0\.qkv"),
}


def outline_of(name):
    return {key: torch.zeros(tensor.shape) for key, tensor in outline(name).state_dict().items()}


@pytest.mark.parametrize("what", REFUSED)
def test_what_are_no_weights_of_the_architecture_is_refused_in_a_line(what, state, tmp_path):
    form, message = REFUSED[what]
    torch.save(form(state), tmp_path / "any.pth")
    with pytest.raises(UserError, match=message) as caught:
        load_backbone(NAME, str(tmp_path / "any.pth"))
    assert "\n" not in str(caught.value)


def test_programs_are_told_from_weights(tmp_path):
    module = torch.nn.Linear(2, 2)
    torch.jit.trace(module, torch.zeros(1, 2)).save(str(tmp_path / "script.pt"))
    torch.export.save(torch.export.export(module, (torch.zeros(1, 2),)), tmp_path / "program.pt2")
    for name, kind in (("script.pt", "a TorchScript archive"), ("program.pt2", "an exported program")):
        with pytest.raises(UserError, match=rf"is {kind}, a program .*save its state dict: torch\.save"):
            load_backbone(NAME, str(tmp_path / name))


def test_foreign_objects_are_never_run_and_the_tensors_beside_them_are_read(state, plain, tmp_path):
    trace = tmp_path / "trace"

    class Planted:
        def __reduce__(self):
            return open, (str(trace), "w")

    torch.save({"model": state, "callbacks": [Planted()]}, tmp_path / "planted.pth")
    assert load_backbone(NAME, str(tmp_path / "planted.pth")).weights_sha256 == plain
    assert not trace.exists()


# ---- layouts of single architectures -------------------------------------------------------------------------------


def test_densenets_old_names_are_those_that_torchvision_renames(tmp_path):
    state = build_model("densenet121").state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|relu|conv))([12])\.", r"\1.\2.", name): t for name, t in state.items()}
    assert len(old.keys() - state.keys()) > 500
    torch.save(old, tmp_path / "old.pth")
    torch.save(state, tmp_path / "new.pth")
    digests = {load_backbone("densenet121", str(tmp_path / name)).weights_sha256 for name in ("old.pth", "new.pth")}
    assert len(digests) == 1


@pytest.mark.parametrize("noted", [True, False])
def test_mnasnets_files_load_with_and_without_torchs_note_of_their_version(noted, tmp_path):
    state = build_model("mnasnet0_5").state_dict()
    torch.save({"state_dict": under("model.", state)} if not noted else state, tmp_path / "mnasnet.pth")
    model = load_backbone("mnasnet0_5", str(tmp_path / "mnasnet.pth")).model
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("noted", [True, False])
def test_mnasnets_first_layout_is_loaded_as_torchvision_loads_it(noted, tmp_path):
    theirs = build_model("mnasnet0_5")
    told = theirs.state_dict()
    told._metadata[""]["version"] = 1
    with warnings.catch_warnings(), pytest.raises(RuntimeError, match="size mismatch"):
        warnings.simplefilter("ignore")
        # It changes its own layout before it finds that these tensors are of the second one.
        theirs.load_state_dict(told)
    old = theirs.state_dict()
    assert old["layers.0.weight"].shape != told["layers.0.weight"].shape
    torch.save(old if noted else dict(old), tmp_path / "first.pth")
    ours = load_backbone("mnasnet0_5", str(tmp_path / "first.pth")).model
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(ours(images), theirs.eval()(images))


def test_a_vision_transformer_of_another_size_is_read_at_that_size(tmp_path):
    state = {name: torch.zeros(t.shape) for name, t in outline("vit_b_32", 10, image_size=384).state_dict().items()}
    torch.save({"state_dict": under("model.", state)}, tmp_path / "vit.ckpt")
    backbone = load_backbone("vit_b_32", str(tmp_path / "vit.ckpt"))
    assert backbone.model.image_size == backbone.preprocessing.crop == 384
    assert "crop 384" in backbone.unsure
    assert backbone.cut(None).shape(backbone.cut(None).resolve("fc")) == (10,)
    with pytest.raises(UserError, match="--image-size 224: vit_b_32 with vit.ckpt takes images of 384 x 384"):
        _ = backbone.cut(224).stages


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_may_be_there_or_not_and_of_any_number_of_classes(name, tmp_path):
    state = build_model(name, 10).state_dict()
    aux = {key for key in state if key.lower().startswith("aux")}
    wide = build_model(name, 20).state_dict()
    torch.save({key: tensor for key, tensor in state.items() if key not in aux}, tmp_path / "without.pth")
    torch.save({key: wide[key] if key in aux else tensor for key, tensor in state.items()}, tmp_path / "mixed.pth")
    torch.manual_seed(1)
    first = load_backbone(name, str(tmp_path / "without.pth"))
    again = load_backbone(name, str(tmp_path / "without.pth"))
    mixed = load_backbone(name, str(tmp_path / "mixed.pth"))
    assert first.weights_sha256 == again.weights_sha256
    images = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(first.model(images), mixed.model(images))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda weights: weights.to(torch.int8), r"conv1\.weight holds whole numbers \(torch\.int8\)"),
        (
            lambda weights: weights.masked_fill(weights == weights.max(), torch.inf),
            r"conv1\.weight holds NaN or infinity",
        ),
        (lambda weights: weights * torch.nan, r"conv1\.weight holds NaN or infinity"),
    ],
)
def test_weights_that_are_no_numbers_of_a_network_are_refused(home, tmp_path, change, said):
    state = build_model("resnet18").state_dict()
    torch.save({**state, "conv1.weight": change(state["conv1.weight"])}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=said):
        load_backbone("resnet18", str(tmp_path / "weights.pth"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_one_number_that_is_none_is_seen_wherever_it_stands(dtype, wrong):
    for place in (0, 500, 999):
        tensor = torch.linspace(-3, 3, 1000).to(dtype)
        assert all_finite(tensor) and all_finite(tensor[:0]) and all_finite(tensor[0])
        tensor[place] = wrong
        assert not all_finite(tensor) and not all_finite(tensor.view(20, 50).T)
