"""What a family of backbones knows: everything that the rest of the code must not find out by a network's name.

A family is a subclass in a file of its own, which says what its networks have beyond the defaults here. Names are those
of the command line, prefix included.
"""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from features.errors import UserError
from features.home import user_path
from features.preprocessing import Preprocessing


@dataclass(frozen=True)
class Pretrained:
    """Weights that can be asked for: what they are called, how images are prepared for them, and where their file is,
    or will be once it has come from its `url`, or `fetch` has got it.

    path None: a network that comes with its weights (`Family.made`). preset None: as for any file of the architecture.
    """

    path: Path | None
    name: str
    preset: Preprocessing | None = None
    url: str | None = None
    fetch: Callable[[], Path] | None = None

    def at_hand(self, download: Callable[[str], Path]) -> Path | None:
        """The file, downloaded if need be, and sound. download: what gives the file at a URL."""
        if self.url:
            return download(self.url)
        return self.fetch() if self.fetch else self.path


@dataclass(frozen=True)
class Traits:
    """What a family declares of a network, for its cut; what is None or empty is found from the graph.

    stages: modules whose outputs are the stages, shallow to deep. prefix_tokens: how many tokens that stand for no
    place come first (class, register, distillation). has_class_token: whether the first of them is one. leaf_modules,
    leaf_functions: what the tracer takes as one step each. classifiers: the modules that give the classes. sized:
    whether the network is traced with its sizes known from the start (`features.tracing`).
    """

    stages: tuple[str, ...] = ()
    prefix_tokens: int | None = None
    has_class_token: bool = False
    leaf_modules: tuple[type[nn.Module], ...] = ()
    leaf_functions: tuple[Callable[..., Any], ...] = ()
    classifiers: tuple[str, ...] = ()
    sized: bool = False


class Body(nn.Module):
    """A network without a classifier, which gives rows of numbers (N, width), and the place for one."""

    def __init__(self, body: nn.Module, width: int) -> None:
        super().__init__()
        self.body, self.fc, self.width = body, nn.Identity(), width

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """What `fc` makes of the rows."""
        return self.fc(self.body(images))


class Family:
    """The defaults: a family without pre-trained weights whose files are PyTorch's, by the architecture's own names.

    graph_in_key: whether the traced graph is a part of what its features are known by, since no version of a package
    says which network it was. builds_outlines: whether its builders do without numbers (`features.architectures`).
    """

    graph_in_key = False
    builds_outlines = True

    # ---- architectures -----------------------------------------------------------------------------------------

    def names(self) -> Sequence[str]:
        """Every architecture that can be asked for."""
        return ()

    def knows(self, name: str) -> bool:
        """Whether a name is one of this family's."""
        return name in self.names()

    def defined_by(self, name: str) -> str:
        """The package that defines an architecture, and its version, as cache keys have it."""
        return ""

    def build(self, name: str, classes: int | None = None, **options: Any) -> nn.Module:
        """A network with random weights, in training mode. classes None: as many as its own weights tell apart.

        options: what else its builder is told, as `options_of` and its kin give them.
        """
        raise NotImplementedError

    def drawn(self, name: str, classes: int | None = None, **options: Any) -> nn.Module:
        """The same, where what is built need not have random weights."""
        return self.build(name, classes, **options)

    def made(self, name: str) -> nn.Module:
        """A network that comes with its weights."""
        raise NotImplementedError

    def is_headless(self, model: nn.Module) -> bool:
        """Whether a network that no file took the classifier from has none, but a place for one."""
        return isinstance(model, Body) and isinstance(model.fc, nn.Identity)

    def options_of(self, model: nn.Module) -> dict[str, Any]:
        """What the builder has to be told, beside the classes, to make a network of this one's shapes."""
        return {}

    def options_for(self, model: nn.Module, shapes: Mapping[str, torch.Size]) -> dict[str, Any]:
        """The same for tensors of these shapes, where `model` (an outline) has others."""
        return {}

    def options_at(self, name: str, size: int | None) -> dict[str, Any]:
        """The same for images of a size, for networks that are built for one; None: their weights' own."""
        return {}

    def fixed_size(self, model: nn.Module) -> int | None:
        """The only size of images that a network takes, in pixels; None for one that takes several."""
        return None

    def traits(self, model: nn.Module) -> Traits:
        """What is declared of a network."""
        return Traits()

    def classes_of(self, model: nn.Module) -> int:
        """How many classes a network tells apart."""
        return len(getattr(model.get_submodule(self.classifiers(model)[0]), "weight", ()))

    def classifiers(self, model: nn.Module) -> tuple[str, ...]:
        """The modules that give the classes, the one first that others stand beside: by default the last linear layer,
        or the convolution that stands for it. () where there is none."""
        names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
        return tuple([name for name in names if not is_auxiliary(name)][-1:])

    def new_classifier(self, model: nn.Module, classes: int) -> tuple[str, ...]:
        """Put a new classifier, with random weights, into a network that has one or a place for one; its modules."""
        if isinstance(model, Body):
            model.fc = nn.Linear(model.width, classes)  # type: ignore[assignment]  # in the place of nothing
            return ("fc",)
        name = self.classifiers(model)[0]
        model.set_submodule(name, another_classifier(model.get_submodule(name), classes))
        return (name,)

    # ---- weights -----------------------------------------------------------------------------------------------

    def entries(self, name: str) -> tuple[str, ...]:
        """The words for pre-trained weights of an architecture."""
        return ()

    def pretrained(self, name: str, weights: str) -> Pretrained | None:
        """The weights that a word stands for, with nothing downloaded; None where it is none of the family's."""
        return None

    def read(self, name: str, path: Path, options: Mapping[str, Any]) -> tuple[nn.Module, bool] | None:
        """A network that holds the weights of a file, and whether it lacks a classifier; UserError for other files.

        None: what is in the file is found by the architecture's own names.
        """
        return None

    def categories(self, name: str) -> tuple[str, ...]:
        """The names of the classes that an architecture's own weights tell apart, where they are known."""
        return ()

    # ---- images ------------------------------------------------------------------------------------------------

    def preset(self, name: str) -> Preprocessing:
        """How images are prepared for an architecture, whatever the weights."""
        raise NotImplementedError

    def preset_of_file(self, name: str, path: Path, size: int | None = None) -> tuple[Preprocessing, str]:
        """The same for a file of weights; and, where it may be another one, whose it is and why it is taken.

        size: the only one in pixels that the network takes.
        """
        return self.preset(name).at(size), "as it was made for"

    def preset_of_recorded(self, name: str, weights: str, path: Path) -> Preprocessing | None:
        """The same for weights that a record calls so, whose file stood at a path; None where nothing says which they
        were."""
        return None

    def preset_of_earlier(self, name: str) -> Preprocessing | None:
        """What version 0.1.0 did for an architecture; None where records have always said it."""
        return None


def another_classifier(old: nn.Module, classes: int) -> nn.Module:
    """One like the old one, randomly initialised, for so many classes."""
    if isinstance(old, nn.Linear):
        return nn.Linear(old.in_features, classes, bias=old.bias is not None)
    assert isinstance(old, nn.Conv2d)  # the other of the two that classifiers are
    # torch has these attributes as tuples of any length, and its constructor asks for pairs.
    sizes: tuple[Any, ...] = (old.kernel_size, old.stride, old.padding)
    return nn.Conv2d(old.in_channels, classes, *sizes)


def is_auxiliary(name: str) -> bool:
    """Inception's second head: it exists in training only, and takes no part in a frozen network."""
    return name.lower().startswith("aux")


def version_of(package: str) -> str:
    """An installed distribution, with its version, as cache keys have it."""
    return f"{package} {importlib.metadata.version(package)}"


def weights_file(family: Family, name: str, weights: str) -> Pretrained:
    """The weights that `weights` asks for: a word of the family's, or a file; UserError where it is neither."""
    if asked := family.pretrained(name, weights):
        return asked
    path = user_path(weights)
    if not path.is_file():
        words = family.entries(name)
        choice = ", ".join([*(["default"] if words else []), *words, "random"])
        raise UserError(f"--weights {weights}: there is no such file, and it is none of {choice}; give one of these")
    return Pretrained(path, path.name)
