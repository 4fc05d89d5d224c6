"""A backbone's tail as a classifier: fine-tuned from any stage on, or trained from scratch.

It takes uint8 images, or the cached maps of the layer at the cut: then the frozen part never runs again, and the result
is the same. What it starts from never changes.
"""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from classify.heads.estimator import FitError, both_planes
from classify.heads.logistic import Logistic
from classify.heads.network.batches import Inputs, Seen, channels_last, even_batches, is_images, source_for
from classify.heads.network.checkpoint import read_network, write_network
from classify.heads.network.graph import observed, set_linear
from classify.heads.network.logits import autocast
from classify.heads.network.network import FrozenTrunk, Network
from classify.heads.network.settings import TrainingSettings
from classify.heads.network.small_maps import small_map_convolutions
from classify.heads.network.trained import OnEpoch, TrainedNetwork, labels_from_json, labels_to_json, trained_with
from classify.heads.network.training import Labelled, Trainee
from classify.heads.regularizers import RegularizerSpec, parse_regularizers
from classify.heads.regularizers.protocol import Context, Regularizer
from extract.preprocess import Preprocessor
from features.backbones import Backbone, kept_backbone, load_backbone
from features.device import resolve_precision
from features.errors import UserError
from features.preprocessing import AS_THE_WEIGHTS_WANT, Preparation, Preprocessing
from features.presets import preset_of_earlier
from features.twins import with_channels_last
from features.weights import state_sha256

_LOOK_BATCH = 128


@dataclass(eq=False, repr=False)
class NetworkClassifier(TrainedNetwork):
    """The rest of a network above a cut, as a scikit-learn style classifier with a new final layer.

    backbone: a name, read with `weights` (and `weights_seed` for 'random'), or a loaded `Backbone`. unfreeze: the
    first stage that trains ('fc', 'layer4', ..., 'all'). until: the last one, beside the new classifier (None: all that
    follow). fresh_above: initialise the weights above this layer at random, with the settings' seed; 'input' is
    training from scratch. classes: how many outputs, for labels 0 .. classes-1 (None: the labels that occur).
    regularizers: as `parse_regularizers` reads them. trunk_precision: of the frozen part where it runs, in training or
    in prediction, which is the one that maps were extracted with (None: that of training). test_views: over how many
    views of an image its logits are averaged. preparation: what is asked for in place of the weights' preprocessing.
    """

    backbone: str | Backbone = "resnet18"
    _: KW_ONLY
    weights: str = "default"
    weights_seed: int = 0
    unfreeze: str = "all"
    fresh_above: str | None = None
    until: str | None = None
    image_size: int | None = None
    preparation: Preparation | None = None
    classes: int | None = None
    settings: TrainingSettings | None = None
    regularizers: Sequence[str | RegularizerSpec] = ()
    trunk_precision: str | None = None
    test_views: int = 1
    device: str = "auto"

    def fit(
        self,
        X: Any,
        y: Any,
        validation: tuple[Any, Any] | None = None,
        *,
        checkpoint: Path | str | None = None,
        on_epoch: OnEpoch | None = None,
        last_epoch: int | None = None,
    ) -> "NetworkClassifier":
        """Train on X and labels y (N,).

        X: uint8 images (N, H, W) or (N, H, W, 3), ImageFiles, or the maps of the layer at the cut, unpooled, (N, C,
        H, W) float32 or float16. validation: (X, y) that choose the epoch, never trained on. checkpoint: a folder that
        a killed run is carried on from. on_epoch: called with each `Epoch`. last_epoch: the one after which to end,
        with the learning rates of the whole schedule. Raises UserError.
        """
        specs = parse_regularizers(self.regularizers)
        data, context = self.starting(X, y)
        network, codes = context.network, data.codes
        held = None
        if validation is not None:
            validation_codes = self._encode(np.asarray(validation[1]), "validation")
            held = Labelled(self._rows(network, validation[0]), validation_codes)
        penalties = tuple(spec.prepare(context) for spec in specs)
        self.regularizer_notes_ = tuple(penalty.described for penalty in penalties if penalty.described)
        steps = self._steps(network.backbone)
        earlier = preset_of_earlier(network.backbone.name).at(network.image_size)
        identity = self._identity(
            X,
            codes,
            held,
            backbone=network.backbone.name,
            weights=network.backbone.weights_sha256,
            unfreeze=self.unfreeze,
            fresh_above=self.fresh_above,
            image_size=network.image_size,
            regularizers=[str(spec) for spec in specs],
            **({} if steps.describe() == earlier.describe() else {"preprocessing": steps.describe()}),
            **({} if self.until is None else {"until": self.until}),
            **({} if self._trunk_precision() == self._precision else {"trunk_precision": self._trunk_precision()}),
        )
        module = self._module(network)
        with contextlib.ExitStack() as stack:
            for penalty in penalties:
                stack.enter_context(penalty.attached())
            stack.enter_context(small_map_convolutions(module))
            trainee = self._trainee(network, penalties)
            self._train(
                trainee,
                data,
                held,
                checkpoint=checkpoint,
                identity=identity,
                on_epoch=on_epoch,
                last_epoch=last_epoch,
            )
        network.model.eval()
        module.eval().requires_grad_(False)
        self.network_ = network
        self.learned_ = self._learned(data, penalties)
        return self

    def check(self) -> None:
        """Raise UserError for what cannot be trained as asked, as `fit` would, without any image."""
        self._resolve()
        network = self._network(self._backbone(), self.classes or 2)
        self._check_batches(network.tail, self._settings.batch_size)
        self._check_fresh(network)
        if self._settings.init_head == "probe":
            _require_linear(network)
        context = Context.without_images(network)
        for spec in parse_regularizers(self.regularizers):
            spec.check(context)

    def starting(self, X: Any, y: Any) -> tuple[Labelled, Context]:
        """What `fit` starts from, before the first step: the training rows, and the network among them in its starting
        state, the new layer fitted already where the settings ask for a probe."""
        codes = self._start(X, y)
        network = self._build(self._backbone(), len(self.classes_))
        self._check_batches(network.tail, len(codes))
        self._check_fresh(network)
        if self._settings.augment and not is_images(X):
            raise FitError("augment needs images, and cached maps hold each image as it is; give uint8 images instead")
        data = Labelled(self._rows(network, X, self._settings.augment), codes)
        context = self._context(network, data)
        if self._settings.init_head == "probe":
            moving = self._settings.batch_norm == "train"
            probe = _fit_probe(network, context, batch_statistics=moving)
            set_linear(network.model.get_submodule(network.classifier), *probe)
        return data, context

    # ---- the parts ---------------------------------------------------------------------------------------------

    def _module(self, network: Network) -> nn.Module:
        """What trains and gives logits."""
        return network.tail

    def _trainee(self, network: Network, penalties: tuple[Regularizer, ...]) -> Trainee:
        """The tail with its penalties and what each of them observes."""
        nodes = tuple(dict.fromkeys(node for penalty in penalties for node in penalty.observes))
        return Trainee(
            network.tail,
            observed(network.tail, nodes),
            frozenset() if network.scratch else network.new | network.fresh,
            network.normalisation,
            network.still,
            penalties,
            tuple(tuple(nodes.index(node) for node in penalty.observes) for penalty in penalties),
            _stages_above(network) if self._settings.layer_decay != 1 else {},
        )

    def _learned(self, data: Labelled, penalties: tuple[Regularizer, ...]) -> dict[str, Any]:
        """What was learned beside the network, as plain values."""
        return {name: value for penalty in penalties for name, value in penalty.learned().items()}

    def _backbone(self) -> Backbone:
        if isinstance(self.backbone, Backbone):
            return self.backbone
        prepared = self.preparation or AS_THE_WEIGHTS_WANT
        return kept_backbone(self.backbone, self.weights, self.weights_seed, prepared)

    def _steps(self, backbone: Backbone) -> Preprocessing:
        return backbone.preprocessing.at(self.image_size)

    def _network(self, backbone: Backbone, classes: int) -> Network:
        return Network(
            backbone,
            classes,
            point=self.unfreeze,
            fresh_above=self.fresh_above,
            until=self.until,
            image_size=self.image_size,
            seed=self._settings.seed,
        )

    def _build(self, backbone: Backbone, classes: int) -> Network:
        network = self._network(backbone, classes)
        for part in (network.model, network.tail, network.source_head):
            if part is not None:
                with_channels_last(part.to(self._device))
        self._preprocessor = Preprocessor(self._steps(backbone), self._device)
        precision = self._trunk_precision()
        self._trunk = FrozenTrunk(network, precision, self._device) if network.trunk is not None else None
        return network

    def _trunk_precision(self) -> str:
        asked = self.trunk_precision
        return self._precision if asked is None else resolve_precision(asked, self._device)

    def _check_fresh(self, network: Network) -> None:
        frozen = self._settings.batch_norm == "freeze"
        if frozen and network.fresh & network.normalisation:
            raise FitError(
                f"batch norm above {self.fresh_above!r} is reinitialised and has no statistics worth freezing; take "
                "--batch-norm train"
            )
        specs = {spec.name for spec in parse_regularizers(self.regularizers)}
        if frozen and "stochnorm" in specs:
            raise UserError("--regularizer stochnorm trains batch norm in its own way; take --batch-norm train")

    def _rows(self, network: Network, X: Any, augment: Sequence[str] = (), seen: Seen | None = None) -> Inputs:
        return source_for(
            X,
            shape=network.shape,
            layout=network.cut.layout(network.layer),
            preprocessor=self._preprocessor,
            trunk=self._trunk,
            augment=augment,
            seen=seen,
        )

    def _context(self, network: Network, data: Labelled) -> Context:
        probes: list[tuple[np.ndarray, np.ndarray]] = []

        def batches(rows: np.ndarray) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for part in even_batches(rows, _LOOK_BATCH):
                inputs = data.source.prepare(data.source.read(part))
                yield channels_last(inputs), torch.from_numpy(data.codes[part]).to(self._device)

        def cast() -> contextlib.AbstractContextManager:
            return autocast(self._device, self._precision)

        def probe() -> tuple[np.ndarray, np.ndarray]:
            if not probes:
                probes.append(_fit_probe(network, context))
            return probes[0]

        context = Context(network, data.codes, batches, probe, cast, self._settings.seed)
        return context

    # ---- prediction, saving, loading -----------------------------------------------------------------------------

    def _forward(self) -> nn.Module:
        return self.network_.tail

    def _source(self, X: Any) -> Inputs:
        return self._rows(self.network_, X, seen=self._seen())

    def _frozen(self) -> FrozenTrunk | None:
        return self._trunk

    def prepare(self, images: Any) -> torch.Tensor:
        return self._preprocessor(images)

    def cropped(self, images: Any) -> torch.Tensor:
        return self._preprocessor.cropped(images)

    def normalisation(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self._preprocessor.normalisation()

    @property
    def preprocessing(self) -> Preprocessing:
        """Resizing, cropping and normalising, as the images trained on had them."""
        return self._steps(self.network_.backbone)

    def whole(self) -> nn.Module:
        """The backbone with its new classifier."""
        return self.network_.model

    def save(self, folder: Path | str) -> None:
        """Write network.json and network.safetensors, the whole network's state dict, which `--weights` reads too."""
        backbone = self.network_.backbone
        write_network(
            Path(folder),
            self.network_.model.state_dict(),
            {
                "backbone": backbone.name,
                "weights": backbone.weights_name,
                "weights_sha256": backbone.weights_sha256,
                "unfreeze": self.unfreeze,
                "fresh_above": self.fresh_above,
                "until": self.until,
                "trunk_precision": self.trunk_precision,
                "image_size": self.network_.image_size,
                "preprocessing": dataclasses.asdict(self.preprocessing),
                "classes": labels_to_json(self.classes_),
                "settings": self._settings.to_json(),
                "regularizers": [str(spec) for spec in parse_regularizers(self.regularizers)],
                "run": self._run_to_json(),
                "sha256": state_sha256(self.network_.model),
            },
        )

    @classmethod
    def load(cls, folder: Path | str, device: str = "auto") -> "NetworkClassifier":
        """The classifier that `save` wrote; UserError where its files are absent or damaged."""
        folder = Path(folder)
        fields = read_network(folder)
        path, steps = str(folder / "network.safetensors"), trained_with(fields)
        backbone = load_backbone(fields["backbone"], path, sha256=fields["sha256"], prepared=steps)
        self = cls(
            fields["backbone"],
            weights=fields["weights"],
            unfreeze=fields["unfreeze"],
            fresh_above=fields["fresh_above"],
            # Networks saved before there were such things train to the end, and have one precision.
            until=fields.get("until"),
            trunk_precision=fields.get("trunk_precision"),
            image_size=fields["image_size"],
            settings=TrainingSettings.from_json(fields["settings"]),
            regularizers=tuple(fields["regularizers"]),
            device=device,
        )
        self.classes_ = labels_from_json(fields["classes"])
        self._resolve()
        network = self._build(backbone, len(self.classes_))
        network.take(backbone.model)
        network.tail.eval().requires_grad_(False)
        self.network_ = network
        self._run_from_json(fields["run"])
        return self


def _stages_above(network: Network) -> dict[str, int]:
    """For each of the tail's parameters how many stages with parameters that train lie above its own; the new
    classifier is in none, though a stage may end after it."""
    trains = {name for name, value in network.tail.named_parameters() if value.requires_grad} - network.new
    groups = network.by_stage(name for name, _ in network.tail.named_parameters() if name in trains)
    trained = [names for names in groups.values() if names]
    return {name: place for place, names in enumerate(reversed(trained)) for name in names}


def _require_linear(network: Network) -> None:
    layer = network.model.get_submodule(network.classifier)
    if not isinstance(layer, nn.Linear):
        raise UserError(
            f"a probe stands in for a linear layer, and {network.backbone.name} ends in {type(layer).__name__}; take "
            "another backbone, or --init-head random"
        )


def _fit_probe(network: Network, context: Context, batch_statistics: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Weights (K, D) and intercepts (K,) of a logistic regression on what the classifier reads, float32.

    batch_statistics: batch norms use those of shuffled batches, as they will in training. On images unlike the source's
    the moving ones give other features, and a probe on these is worse than none once training begins.
    """
    _require_linear(network)
    look = observed(copy.deepcopy(network.tail), [context.classifier_input]).eval()
    for path, part in look.named_modules():
        if isinstance(part, nn.modules.batchnorm._NormBase):
            part.train(batch_statistics and path not in network.still)
    features, codes = [], []
    with torch.no_grad(), context.autocast():
        for inputs, batch_codes in context.batches(context.shuffled_rows()):
            features.append(look(inputs)[1][0].float().cpu())
            codes.append(batch_codes.cpu())
    probe = Logistic().fit(torch.cat(features).numpy(), torch.cat(codes).numpy())
    weight, bias = both_planes(probe.coef_, probe.intercept_)
    # A class without a training image keeps a score far below the others.
    weights = np.zeros((network.classes, weight.shape[1]), np.float32)
    biases = np.full(network.classes, bias.min() - 10, np.float32)
    weights[probe.classes_], biases[probe.classes_] = weight, bias
    return weights, biases
