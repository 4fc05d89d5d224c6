"""The networks that a probe asks about: backbone is a dimension of its question, as layer, head and size of images are.

Each backbone goes with weights of its own and is prepared for as these want it, unless the request says otherwise. All
are planned before anything is extracted, so that what one of them cannot do is said at once.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from classify.experiments.probe.entries import probe_layers
from classify.experiments.probe.question import Question
from extract.planning import plan
from features.errors import UserError, unknown
from features.home import user_path
from features.request import Plan, Request, as_items

DEFAULT = "default"
WORDS = (DEFAULT, "random")
FILES = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True)
class Variant:
    """A network at a size of the images.

    plan: of all its layers. random: of the same with random weights, None where that is no control. name: what the
    network is called beside others; '' where it is the only one.
    """

    plan: Plan
    random: Plan | None
    name: str = ""


def paired(backbones: Any, weights: Any) -> tuple[tuple[str, str], ...]:
    """Each (backbone, weights) that these mean, once.

    backbones: a name or torch.nn.Module, or several. weights: one for all ('default', 'random'), one for each in their
    order, or 'NAME=W' for some, the others having their default; of one backbone several are each probed. UserError for
    what does not fit together.
    """
    # A module may be iterable (nn.Sequential), and is callable as no list is.
    names = [_named(network) for network in ([backbones] if callable(backbones) else as_items(backbones))]
    values = [str(value) for value in as_items(weights)]
    if not names or not values:
        missing = "--weights was" if names else "--backbone was"
        raise UserError(f"{missing} given without a value; leave it out, or give at least one")
    own = _by_name(names, values)
    if own:
        values = [own.get(name, DEFAULT) for name in names]
    elif len(names) == 1:
        names *= len(values)
    elif len(values) == 1:
        if values[0] not in WORDS and (user_path(values[0]).exists() or values[0].endswith(FILES)):
            raise UserError(
                f"--weights {values[0]}: a file holds the weights of one network, and {len(names)} are probed; write "
                f"{names[0]}={values[0]}, or one value for each backbone in their order"
            )
        values *= len(names)
    elif len(values) != len(names):
        raise UserError(
            f"--weights: {len(values)} values for {len(names)} backbones; give one for all (default or random), one "
            "for each in their order, or NAME=W for some"
        )
    return tuple(dict.fromkeys(zip(names, values, strict=True)))


def _named(network: Any) -> str:
    if isinstance(network, str):
        return network
    from features.backbones.own import named

    return named(network)


def _by_name(names: Sequence[str], values: Sequence[str]) -> dict[str, str]:
    """The weights that are spelled 'NAME=W', by backbone; none where none are."""
    own: dict[str, str] = {}
    for value in values:
        # What is called `python:MODULE:CALLABLE?width=2` has a sign of equality in its name.
        name = max((name for name in names if value.startswith(f"{name}=")), key=len, default="")
        if not name:
            strange, equals, _ = value.partition("=")
            if equals and len(names) > 1 and "/" not in strange and not user_path(value).exists():
                raise unknown(f"--weights {value}: no backbone {strange!r} is probed", strange, names)
            continue
        if name in own:
            raise UserError(f"--weights names {name} twice; give its weights once")
        own[name] = value.removeprefix(f"{name}=") or DEFAULT
    if own and len(own) < len(values):
        plain = next(value for value in values if not any(value.startswith(f"{name}=") for name in names))
        raise UserError(
            f"--weights {plain} does not say whose it is, and others do; write NAME={plain}, or give one for each "
            "backbone in their order"
        )
    return own


def variants(question: Question) -> tuple[Variant, ...]:
    """What is probed, network by network: those that read the same files are one. UserError, which names the backbone,
    where one of several has not what is asked of it."""
    networks = ((question.request.backbone, question.request.weights), *question.networks)
    planned: list[tuple[Plan, Plan | None]] = []
    for backbone, weights in networks:
        with _naming(backbone if len(networks) > 1 else ""):
            request = dataclasses.replace(question.request, backbone=backbone, weights=weights).normalised()
            request = dataclasses.replace(request, layers=probe_layers(request, question.depth))
            for size in (request.image_size, *question.sizes):
                asked = plan(_at_size(request, size))
                if not any(_alike(asked, other) for other, _ in planned):
                    planned.append((asked, _random(question, asked)))
    names = _names([asked for asked, _ in planned])
    return tuple(Variant(asked, drawn, names[_network(asked)]) for asked, drawn in planned)


@contextlib.contextmanager
def _naming(backbone: str) -> Iterator[None]:
    """What is wrong in the block is said of this backbone."""
    try:
        yield
    except UserError as error:
        raise error if not backbone or backbone in str(error) else UserError(f"{backbone}: {error}") from error


def _at_size(request: Request, size: int | None) -> Request:
    """The same request of images of another size, strictly."""
    return dataclasses.replace(request, image_size=size).normalised()


def _random(question: Question, asked: Plan) -> Plan | None:
    if not question.random or asked.request.weights == "random":
        return None
    return plan(dataclasses.replace(asked.request, weights="random", layers=tuple(asked.layers)))


def _alike(first: Plan, second: Plan) -> bool:
    return [wanted.key for wanted in first.wanted] == [wanted.key for wanted in second.wanted]


def _network(asked: Plan) -> tuple[str, str]:
    return asked.request.backbone, asked.request.weights


def _names(plans: Sequence[Plan]) -> dict[tuple[str, str], str]:
    """What each network is called: the backbone, and its weights where these alone tell it from another."""
    firsts: dict[tuple[str, str], Plan] = {}
    for asked in plans:
        firsts.setdefault(_network(asked), asked)
    if len(firsts) == 1:
        return dict.fromkeys(firsts, "")
    names = {}
    for network, asked in firsts.items():
        twins = [_called(other) for (backbone, _), other in firsts.items() if backbone == network[0]]
        words = _called(asked)
        telling = next(place for place in range(len(words)) if len({twin[place] for twin in twins}) == len(twins))
        names[network] = words[telling]
    return names


def _called(asked: Plan) -> tuple[str, ...]:
    """What a network can be called, the shortest first; the last is no other's."""
    wanted, (backbone, weights) = asked.wanted[0], _network(asked)
    name = wanted.about.weights_name
    digits = f"{name} {wanted.key.weights[:8]}"
    return backbone, f"{backbone} ({name})", f"{backbone} ({digits})", f"{backbone} ({weights})"
