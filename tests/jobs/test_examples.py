"""The cookbook and the notebook: each recipe runs in an empty folder, and prints what it is said to print."""

import doctest
import re
import sys

import pytest
from conftest import OPEN_MPI, ROOT

EXAMPLES = ROOT / "tests" / "examples"
TEXT = (EXAMPLES / "README.md").read_text(encoding="utf-8")
RECIPES = {recipe.splitlines()[0]: recipe for recipe in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]}
BLOCK = re.compile(r"```(bash|python)\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)


@pytest.mark.skipif(OPEN_MPI, reason="once is enough")
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_and_prints_what_it_says(name, run):
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
