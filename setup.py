"""The two build steps that pyproject.toml cannot state: compiling native/ and packing the guest images.

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


class BuildWithImages(build_py):
    """Adds the guest images to the wheel as package data; a checkout uses guest/images directly."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "chaoscontrol" / "images"
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted((ROOT / "guest" / "images").iterdir()):
            shutil.copy2(path, target / path.name)


setup(
    ext_modules=[Extension("chaoscontrol._native", sources=[], py_limited_api=True)],
    cmdclass={"build_ext": BuildNative, "build_py": BuildWithImages},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
