"""The cookbook and the notebook: each recipe runs in an empty folder, and prints what it is said to print."""

import doctest
import re
import sys

import pytest
from conftest import OPEN_MPI, ROOT

EXAMPLES = ROOT / "tests" / "examples"
TEXT = (EXAMPLES / "README.md").read_text(encoding="utf-8")
RECIPES = {recipe.splitlines()[0]: recipe for recipe in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]}
NEEDED = {"distsoftmax.report": "matplotlib", "--to onnx": "onnx"}  # packages that a command needs
BLOCK = re.compile(r"```(bash|python)\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)


@pytest.mark.skipif(OPEN_MPI, reason="once is enough")
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_and_prints_what_it_says(name, run):
    for words, package in NEEDED.items():
        if words in RECIPES[name]:
            pytest.importorskip(package)
    blocks = BLOCK.findall(RECIPES[name])
    assert blocks
    for language, text, expected in blocks:
        command = [sys.executable, "-c", text] if language == "python" else ["bash", "-euo", "pipefail", "-c", text]
        ended = run(*command, deadline=200)
        assert ended.status == 0, (text, ended.out, ended.err)
        if expected:
            assert doctest.OutputChecker().check_output(expected, ended.out, doctest.ELLIPSIS), ended.out


def test_the_cookbook_has_the_same_blocks_in_every_language():
    english, *others = (
        re.findall(r"```.*?```", path.read_text(encoding="utf-8"), re.DOTALL) for path in sorted(EXAMPLES.glob("*.md"))
    )
    assert len(english) > 15
    assert all(other == english for other in others)


@pytest.mark.skipif(OPEN_MPI, reason="once is enough")
def test_the_notebook_runs(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("matplotlib")
    notebook = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    first, second = [cell for cell in notebook.cells if cell.cell_type == "code"][:2]
    score, gap = (cell.outputs[-1]["data"]["text/plain"] for cell in (first, second))
    assert float(score) > 0.95
    assert 0 <= float(gap) < 1e-5
