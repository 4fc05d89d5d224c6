"""Who may import whom, read from the source: imports run one way, in no circle, and what shows knows no experiment."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("features", "extract", "classify", "layerprobe")  # each may import those before it
# Inside classify: what each room may not import of the others.
NEVER = {
    "measure": ("heads", "use", "show", "experiments", "commands"),
    "heads": ("use", "show", "experiments", "commands"),
    "use": ("experiments", "commands"),
    "show": ("experiments", "commands"),
    "experiments": ("commands",),
}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_name(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}


def _imported(name: str, text: str) -> set[str]:
    """The modules of ours that a module imports, inside functions and for its types too."""
    asked: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            asked |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = name.split(".")[: -node.level] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            # A module taken out of its package is what is imported; anything else stands in the package itself.
            inside = {f"{module}.{alias.name}" for alias in node.names}
            asked |= {name for name in inside if name in MODULES}
            asked |= {module} if any(name not in MODULES for name in inside) else set()
    return {module for module in asked if module in MODULES and module != name}


@pytest.fixture(scope="module")
def reads() -> dict[str, set[str]]:
    return {name: _imported(name, path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def _circle(reads: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in turn, or none."""
    state: dict[str, bool] = {}

    def visit(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name not in state:
            state[name] = True
            for other in sorted(reads.get(name, ())):
                if circle := visit(other, [*way, name]):
                    return circle
        return []

    return next((circle for name in sorted(reads) if (circle := visit(name, []))), [])


def test_imports_run_one_way_between_the_packages(reads):
    order = {package: place for place, package in enumerate(PACKAGES)}
    wrong = [
        (name, other) for name, others in reads.items() for other in others
        if order[other.split(".")[0]] > order[name.split(".")[0]]
    ]  # fmt: skip
    assert not wrong
    tests = [
        name for name, path in MODULES.items() if "import tests" in (text := path.read_text()) or "from tests" in text
    ]
    assert not tests


def test_no_module_imports_itself_by_way_of_others(reads):
    assert not _circle(reads)


def test_a_circle_inside_functions_is_seen():
    one = _imported("features.home", "def f():\n    import features.rows")
    assert one == {"features.rows"}
    assert _circle({"features.home": one, "features.rows": {"features.home"}}) == [
        "features.home", "features.rows", "features.home",
    ]  # fmt: skip


def test_rooms_of_classify_know_only_those_below_them(reads):
    wrong = []
    for name, others in reads.items():
        parts = name.split(".")
        if len(parts) > 1 and parts[0] == "classify":
            never = tuple(f"classify.{room}" for room in NEVER.get(parts[1], ()))
            wrong += [(name, other) for other in others if other.startswith(never)]
    assert not wrong
