"""What is compared: models as they are typed, and the default set."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass

from classify.heads import HEADS, find_head
from classify.heads.network import NETWORKS
from classify.heads.regularizers import REGULARIZERS, RegularizerSpec, parse_regularizers
from features.errors import UserError, unknown
from features.named_code import names_code

DEFAULT_HEADS = ("svm", "logistic", "linear")
BEST = "best"
_FORMS = "as in svm, svm@layer3, finetune:layer4 or finetune:all+l2-sp=0.01"


@dataclass(frozen=True)
class Model:
    """One model of a comparison.

    name: of a head or a network. layers: where a head sits; 'best' is the layer that is best on validation. unfreeze:
    the first stage of a fine-tuned network that trains.
    """

    name: str
    layers: tuple[str, ...] = ()
    unfreeze: str = "all"
    regularizers: tuple[RegularizerSpec, ...] = ()

    @property
    def is_head(self) -> bool:
        """Whether it is a head on cached features."""
        return self.name in HEADS

    @property
    def label(self) -> str:
        """As people read it: 'svm on layer3', 'finetune layer4, bss=0.001'."""
        if self.is_head:
            return f"{self.name} on {'+'.join(self.layers)}"
        name = f"{self.name} {self.unfreeze}" if self.name == "finetune" else self.name
        return ", ".join([name, *map(str, self.regularizers)])

    def __str__(self) -> str:
        text = f"{self.name}:{self.unfreeze}" if self.name == "finetune" else self.name
        text += f"@{','.join(self.layers)}" if self.is_head else ""
        return "+".join([text, *map(str, self.regularizers)])


def default_models(points: Sequence[str]) -> tuple[Model, ...]:
    """The set that answers which is better, features or fine-tuning; points: where the backbone can be unfrozen."""
    partial = dict.fromkeys((points[0], points[1], "all"))
    networks = [Model(name) for name in ("untouched", "convnet", "scratch")]
    tuned = [Model("finetune", unfreeze=point) for point in partial]
    return (*networks, *tuned, *(parse_model(name) for name in DEFAULT_HEADS))


def parse_model(text: str) -> Model:
    """Read HEAD, HEAD@LAYER, NETWORK or finetune:STAGE, the last two with +REGULARIZER behind; UserError otherwise."""
    if names_code(text):
        name, _, layer = text.strip().partition("@")
        find_head(name)
        return Model(name, (layer,) if layer else ("avgpool", BEST))
    match = re.fullmatch(r"([^:@+]+)(?::([^@+]+))?(?:@([^:+]+(?:\+[^:=]+)?))?((?:\+.+)?)", text.strip())
    if match is None:
        raise UserError(f"{text!r} is no model; give one {_FORMS}")
    name, unfreeze, layer, rest = match.groups()
    names = (*HEADS, *NETWORKS)
    if name not in names:
        raise unknown(f"there is no model called {name!r}", name, names, f", {_FORMS}")
    if name in HEADS:
        if unfreeze or rest:
            raise UserError(f"{text}: the head {name} takes a layer and nothing else, as in {name}@layer3")
        return Model(name, (layer,) if layer else ("avgpool", BEST))
    if layer or (unfreeze and not NETWORKS[name].unfreezes):
        raise UserError(f"{text}: only heads take @LAYER and only finetune takes :STAGE; give models {_FORMS}")
    regularizers = parse_regularizers(_regularizers(rest))
    if regularizers and not NETWORKS[name].regularised:
        raise UserError(f"{text}: regularisers act on a backbone that trains; give them to finetune or scratch")
    return Model(name, unfreeze=unfreeze or "all", regularizers=regularizers)


def with_regularizers(model: Model, regularizers: tuple[RegularizerSpec, ...]) -> Model:
    """The model with regularisers that hold for all fine-tuned ones; its own stay. Where the new layer alone trains
    there is nothing that most of them act on, and it goes without."""
    if model.name != "finetune" or model.regularizers:
        return model
    fitting = tuple(spec for spec in regularizers if model.unfreeze != "fc" or REGULARIZERS[spec.name].alone)
    return dataclasses.replace(model, regularizers=fitting)


def _regularizers(text: str) -> list[str]:
    """The parts of '+bss=0.001+delta@layer3+layer4': a plus that no regulariser follows joins layers."""
    parts: list[str] = []
    for part in text.split("+")[1:]:
        if re.split("[=@]", part)[0] in REGULARIZERS or not parts or "@" not in parts[-1]:
            parts.append(part)
        else:
            parts[-1] += f"+{part}"
    return parts
