"""What pyproject.toml cannot say: the core is compiled, and a wheel is for one platform and for any Python 3."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from setuptools import Command, Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.errors import CompileError

ARITHMETIC = Path("distsoftmax", "arithmetic")


def load_recipe() -> ModuleType:
    """Return distsoftmax/arithmetic/build.py, without the package, which cannot be imported yet."""
    spec = importlib.util.spec_from_file_location(
        "core_build", Path(__file__).resolve().parent / ARITHMETIC / "build.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


recipe = load_recipe()


class BuildCore(Command):
    """Compiles the core: into the source tree for an editable install, otherwise into what is installed."""

    description = "compile the arithmetic core"
    user_options = [("build-lib=", "b", "the folder of the packages")]  # noqa: RUF012
    editable_mode = False

    def initialize_options(self) -> None:
        """Know no option yet."""
        self.build_lib: str | None = None

    def finalize_options(self) -> None:
        """Take the folder of the packages from build_py."""
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        """Compile, but not again what a source tree has already, as for a second environment or for a wheel."""
        assert self.build_lib is not None
        folder = recipe.HERE if self.editable_mode else Path(self.build_lib, ARITHMETIC)
        if not os.environ.get("CC") and recipe.recorded_identity(recipe.HERE) == recipe.identity():
            if not self.editable_mode:
                for name in [*map(recipe.library_name, recipe.instruction_sets()), recipe.IDENTITY]:
                    self.copy_file(str(recipe.HERE / name), str(folder / name))
            return
        try:
            recipe.compile_core(folder)
        except recipe.BuildFailed as error:
            raise CompileError(str(error)) from None

    def get_source_files(self) -> list[str]:
        """Name what a source distribution needs."""
        return [str(ARITHMETIC / "core" / path.name) for path in sorted(recipe.SOURCES.glob("*.[ch]"))]

    def get_outputs(self) -> list[str]:
        """Name what is made."""
        names = [*map(recipe.library_name, recipe.instruction_sets()), recipe.IDENTITY]
        return [str(Path(self.build_lib or "", ARITHMETIC, name)) for name in names]

    def get_output_mapping(self) -> dict[str, str]:
        """Name what an editable install may link to: nothing."""
        return {}


class BuildAll(build):
    """Compiles the core beside what is copied."""

    sub_commands = [*build.sub_commands, ("build_core", None)]  # noqa: RUF012


class PlatformWheel(bdist_wheel):
    """A wheel for any Python 3, as the core knows nothing of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return the tags of Python, its ABI and the platform."""
        return "py3", "none", super().get_tag()[2]


class CoreDistribution(Distribution):
    """A distribution with compiled code."""

    def has_ext_modules(self) -> bool:
        """Say so."""
        return True


def compilers_wanted() -> list[str]:
    """Return the wheel of a compiler where the machine has none and the user chose none."""
    try:
        recipe.find_compiler()
    except recipe.BuildFailed:
        return [] if os.environ.get("CC") else ["ziglang>=0.14"]
    return []


setup(
    distclass=CoreDistribution,
    cmdclass={"build": BuildAll, "build_core": BuildCore, "bdist_wheel": PlatformWheel},
    setup_requires=compilers_wanted(),  # pip and build bring it into the environment of the build
)
