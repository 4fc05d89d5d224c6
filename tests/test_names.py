"""Names in the source: a local variable has a noun."""

import ast

import pytest

from tests.readme_commands import ROOT

NO_NOUNS = {"each", "found", "told", "answer", "one"}


def _locals(text: str) -> set[str]:
    """The names of all variables, arguments and functions inside functions."""
    names: set[str] = set()
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for node in ast.walk(function):
                if isinstance(node, ast.Name):
                    names.add(node.id)
                elif isinstance(node, ast.arg):
                    names.add(node.arg)
                elif node is not function and isinstance(node, ast.FunctionDef):
                    names.add(node.name)
    return names


@pytest.mark.parametrize("package", ["features", "extract", "classify", "layerprobe"])
def test_local_variables_have_nouns(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    named = {str(file.relative_to(ROOT)): _locals(file.read_text("utf-8")) & NO_NOUNS for file in files}
    assert not {file: names for file, names in named.items() if names}


def test_a_variable_without_a_noun_would_be_seen():
    inner = "    def answer():\n        return [one for one in rows]\n"
    source = f"def outer(rows, *, told):\n{inner}    return lambda found: answer()\n"
    assert _locals(source) & NO_NOUNS == {"told", "answer", "one", "found"}
