"""torch's compiler stays out of a process until something is compiled.

It takes a second of processor time to import `torch._dynamo`, and torch does so when an optimiser takes a step and when
a batch norm first meets tensors without numbers, to leave the compiler out of what they do; torchvision 0.29 does when
it is imported, for a question of detection networks. Both are told otherwise as their modules are loaded: while nobody
has asked for a compiler, there is none to leave out. `features` sees to this when it is imported, which is before a
user's own modules in the working folder are left aside: nothing is imported here but what `python -m` has brought.
"""

import functools
import importlib
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

TYPE_CHECKING = False  # to those who check types it is true, and nothing else is imported for them
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_COMPILER, _ASKED = "torch._dynamo", "torch._dynamo.utils"


class _Later(ModuleType):
    """A module that is imported when something of it is wanted: a function when it is called, the rest at once."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "is_compile_supported":
            return lambda device: self._imported().is_compile_supported(device)
        return getattr(self._imported(), name)

    def _imported(self) -> ModuleType:
        if sys.modules.get(_ASKED) is self:
            del sys.modules[_ASKED]
        return importlib.import_module(_ASKED)


class _Asking(SourceFileLoader):
    """Loads a module that asks the compiler a question, while one that answers later stands in for it."""

    def exec_module(self, module: ModuleType) -> None:
        later = sys.modules.setdefault(_ASKED, _Later(_ASKED))
        try:
            super().exec_module(module)
        finally:
            if isinstance(later, _Later) and sys.modules.get(_ASKED) is later:
                del sys.modules[_ASKED]


class _LeavingOut(SourceFileLoader):
    """Loads a module of torch that makes functions which import the compiler when they are called, if only to be left
    out of it: while nothing else has imported it, what they are made of is run alone."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        for name, alone in (("_disable_dynamo", None), ("_use_grad_for_differentiable", _stepping)):
            if hasattr(module, name):
                setattr(module, name, _until_it_compiles(getattr(module, name), alone))


def _until_it_compiles(decorator: "Callable[..., Any]", alone: "Callable[..., Any] | None") -> "Callable[..., Any]":
    """A decorator whose functions are those of `decorator` once there is a compiler, and till then run by `alone`."""

    @functools.wraps(decorator)
    def decorate(function: "Callable[..., Any] | None" = None, *options: object, **named: object) -> object:
        if function is None:
            return lambda function: decorate(function, *options, **named)
        decorated = decorator(function, *options, **named)
        plain = alone(function) if alone else function

        @functools.wraps(function)
        def run(*args: object, **kwargs: object) -> object:
            return (decorated if _COMPILER in sys.modules else plain)(*args, **kwargs)

        return run

    return decorate


def _stepping(step: "Callable[..., Any]") -> "Callable[..., Any]":
    """An optimiser's step, which is differentiated where the optimiser says so and nowhere else."""

    def run(optimiser: "Any", *args: object, **kwargs: object) -> object:
        with sys.modules["torch"].set_grad_enabled(optimiser.defaults["differentiable"]):
            return step(optimiser, *args, **kwargs)

    return run


class _Finder:
    _loaders = {"torchvision.ops.roi_align": _Asking} | dict.fromkeys(
        ("torch._compile", "torch.optim.optimizer"), _LeavingOut
    )

    def find_spec(self, name: str, path: "Sequence[str] | None", target: ModuleType | None = None) -> ModuleSpec | None:
        loader = self._loaders.get(name)
        spec = PathFinder.find_spec(name, path) if loader else None
        if loader and spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = loader(spec.loader.name, spec.loader.path)
        return spec


def stay_out() -> None:
    """Leave the compiler out of what torch and torchvision import, from now on."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
