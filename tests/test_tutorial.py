"""`docs/tutorial.ipynb` runs from its first cell to its last, shortened, and is stored clean."""

import json
from pathlib import Path

import pytest

from tests.engine.tiny import environment

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"


def test_the_notebook_is_stored_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in cells)


def test_the_notebook_runs(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert text.count("ITERATIONS = 300") == 1
    notebook = nbformat.reads(text.replace("ITERATIONS = 300", "ITERATIONS = 10"), as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources=resources
    )
    client.execute(env=environment())

    def shown(start):
        (cell,) = (c for c in notebook.cells if start in c.source)
        return [output.get("text") or str(output.get("data")) for output in cell.outputs]

    assert sum("image/png" in x for x in shown("random.Random(0)")) == 1
    assert "AP50" not in shown("DefaultTrainer.test")[-1]  # the number alone
    # A kernel may send one output in several parts.
    assert "continues at iteration 10" in "".join(shown("resume=True"))
    assert (tmp_path / "output/tutorial/model_final.pth").exists()
