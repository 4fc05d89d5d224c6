"""torch's compiler stays out of a process until something is compiled.

torchvision 0.29 imports `torch._dynamo`, a second of processor time in every command that meets a network, for one
question in `torchvision.ops.roi_align`, which only its detection networks ask. While that one module is executed, a
module that answers when it is asked stands in for `torch._dynamo.utils`. `features` sees to this when it is imported,
which is before a user's own modules in the working folder are left aside: nothing is imported here but what `python -m`
has brought.
"""

import importlib
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

TYPE_CHECKING = False  # to those who check types it is true, and nothing else is imported for them
if TYPE_CHECKING:
    from collections.abc import Sequence

_ASKS, _ASKED = "torchvision.ops.roi_align", "torch._dynamo.utils"


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


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        later = sys.modules.setdefault(_ASKED, _Later(_ASKED))
        try:
            super().exec_module(module)
        finally:
            if isinstance(later, _Later) and sys.modules.get(_ASKED) is later:
                del sys.modules[_ASKED]


class _Finder:
    def find_spec(self, name: str, path: "Sequence[str] | None", target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == _ASKS else None
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def stay_out() -> None:
    """Leave the compiler out of what torchvision imports, from now on."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
