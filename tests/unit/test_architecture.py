"""The rules of who may know whom."""

import ast
from pathlib import Path

import pytest

import distsoftmax

PACKAGE = Path(distsoftmax.__file__).parent
FLOORS = [
    {
        "train",
        "evaluate",
        "predict",
        "scoring",
        "evaluation",
        "describe",
        "description",
        "description_table",
        "command_line",
    },
    {"regularization_path"},
    {"trainer"},
    {"coordinator"},
    {"cluster", "objective", "solvers", "data"},
    {"arithmetic"},
    {"config", "model", "errors"},
]
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def floor_of(room):
    return next((floor for floor, rooms in enumerate(FLOORS) if room in rooms), None)


def imports(path, *, at_import_time_only=False):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if at_import_time_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module):
    return module.parts[0].removesuffix(".py")


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_go_down_only(module):
    own = floor_of(room_of(module))
    if module.name == "__init__.py" and len(module.parts) == 1:
        return
    assert own is not None, f"{module} stands on no floor: give it one"
    for name in imports(PACKAGE / module):
        parts = name.split(".")
        if parts[0] == "distsoftmax" and len(parts) > 1 and floor_of(parts[1]) is not None:
            assert floor_of(parts[1]) >= own, f"{module} imports {name} from a floor above"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_mpi4py_is_imported_in_cluster_alone(module):
    if room_of(module) != "cluster":
        assert not any(name.split(".")[0] == "mpi4py" for name in imports(PACKAGE / module))


def test_solvers_know_neither_data_nor_ranks():
    for path in (PACKAGE / "solvers").glob("*.py"):
        for name in imports(path):
            assert not name.startswith(("distsoftmax.cluster", "distsoftmax.data", "distsoftmax.objective"))
