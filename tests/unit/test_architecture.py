"""The rules of who may know whom."""

import ast
import functools
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import distsoftmax

PACKAGE = Path(distsoftmax.__file__).parent
FLOORS = [
    {
        "__main__",
        "train",
        "evaluate",
        "predict",
        "describe",
        "summary",
        "monitor",
        "command_line",
        "supervise",
        "report",
        "export",
        "estimator",
    },
    {
        "usage",
        "inspection",
        "scoring",
        "inference",
        "regularization_path",
        "supervision",
        "reporting",
        "exporting",
        "estimation",
    },
    {"trainer"},
    {"session"},
    {"coordinator"},
    {"training"},
    {"cluster", "objective", "solvers", "data", "monitoring"},
    {"arithmetic"},
    {"config", "model", "tensor_file", "durable", "output_file", "scratch", "run_folder", "errors"},
]
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def floor_of(room):
    return next((floor for floor, rooms in enumerate(FLOORS) if room in rooms), None)


@functools.cache
def import_statements(path, at_import_time_only):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if at_import_time_only else ast.walk(tree)
    return [node for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]


def imports(path, *, at_import_time_only=False):
    """Yield the modules that a file imports, and the names that it takes from them."""
    for node in import_statements(path, at_import_time_only):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
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


def name_of(module):
    parts = ["distsoftmax", *module.with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def dependencies(module, own):
    """Those of this package's modules that a module imports, at any time or for its annotations alone."""
    for node in import_statements(PACKAGE / module, False):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in own)
        else:
            for alias in node.names:
                yield f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in own else node.module


def test_no_module_imports_itself_by_way_of_others():
    own = {name_of(module) for module in MODULES}
    graph = {name_of(module): set(dependencies(module, own)) for module in MODULES}
    graph["distsoftmax"] = set()  # it imports a public name when that is asked for, and is imported for its version
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_mpi4py_is_imported_by_one_module_which_nobody_imports_at_import_time():
    importers = [
        module for module in MODULES if any(name.split(".")[0] == "mpi4py" for name in imports(PACKAGE / module))
    ]
    assert [str(module) for module in importers] == ["cluster/mpi.py"]
    for module in MODULES:
        assert "distsoftmax.cluster.mpi" not in imports(PACKAGE / module, at_import_time_only=True)


def test_every_other_module_can_be_imported_without_mpi4py():
    names = [name_of(module) for module in MODULES if name_of(module) != "distsoftmax.cluster.mpi"]
    program = (
        f"import sys, importlib; sys.modules['mpi4py'] = None; [importlib.import_module(name) for name in {names}]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=100)


def test_the_map_in_the_package_names_every_room_once():
    lines = distsoftmax.__doc__.splitlines()
    named = [name for line in lines if line.startswith("    ") for name in line[4:40].split()]
    rooms = sorted({room_of(module) for module in MODULES} - {"__init__"})
    assert sorted(named) == rooms
    assert set(rooms) == set().union(*FLOORS)


def test_solvers_know_neither_data_nor_ranks():
    for path in (PACKAGE / "solvers").glob("*.py"):
        for name in imports(path):
            assert not name.startswith(("distsoftmax.cluster", "distsoftmax.data", "distsoftmax.objective"))
