"""Runs the notebooks of examples/ and stores their outputs in them.

    pip install nbclient ipykernel
    python benchmarks/make_notebooks.py

Each runs in an empty folder. What would differ from run to run (times of cells) is not stored.
"""

import json
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(file: Path) -> None:
    """Executes one notebook in place; an error in a cell stops it."""
    notebook = nbformat.read(file, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata["language_info"] = {"name": "python"}
    file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for each in sorted(EXAMPLES.glob("*.ipynb")):
        run(each)
        print(each)
