"""The build steps that pyproject.toml cannot state: compiling native/, packing what is in guest/.

Everything else is in pyproject.toml. native/build.py does the compiling.
"""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildNative(build_ext):
    """Compiles chaoscontrol._native: into the wheel, or for `pip install -e` into the checkout."""

    def run(self) -> None:
        build: dict[str, Any] = runpy.run_path(str(ROOT / "native" / "build.py"), run_name="native_build")
        target = ROOT / "core" / "chaoscontrol" if self.inplace else Path(self.build_lib).resolve() / "chaoscontrol"
        target.mkdir(parents=True, exist_ok=True)
        if build["main"](["--out", str(target)]) != 0:
            raise SystemExit(1)

    def get_outputs(self) -> list[str]:
        return []


OBSERVERS = ("__init__.py", "programs/__init__.py", "programs/raft/*.py")
"""Of guest/: what judges the included scenarios, under the names by which scenarios and recordings know it."""


class BuildWithGuest(build_py):
    """Adds guest images, scenarios and their observers to the wheel; a checkout uses guest/ directly."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        guest, library = ROOT / "guest", Path(self.build_lib)
        for name in ("images", "scenarios"):
            self._add(sorted((guest / name).iterdir()), guest / name, library / "chaoscontrol" / name)
        for pattern in OBSERVERS:
            self._add(sorted(guest.glob(pattern)), guest, library / "guest")

    @staticmethod
    def _add(files: list[Path], below: Path, target: Path) -> None:
        for path in files:
            place = target / path.relative_to(below)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place)


setup(
    ext_modules=[Extension("chaoscontrol._native", sources=[], py_limited_api=True)],
    cmdclass={"build_ext": BuildNative, "build_py": BuildWithGuest},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
