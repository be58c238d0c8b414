"""An initramfs with this host's CPython: made on demand by tests, never committed.

The tools image, and below /py the interpreter with just the modules that a script imports: it is run once on the host
to find out which. They are compiled ahead, since a compiler run costs the guest more than the script.
"""

from __future__ import annotations

import importlib.util
import json
import marshal
import os
import subprocess
import sys
from pathlib import Path

from chaoscontrol import image_path, initramfs
from guest import images

HOME = "py"
SITE = "py/site"
_LIST_MODULES = """
import json as _json, sys as _sys
print("MODULES", _json.dumps({name: module.__file__ for name, module in list(_sys.modules.items())
                              if getattr(module, "__file__", None) and name != "__main__"}))
"""
_ALWAYS = ("encodings.utf_8", "encodings.ascii", "encodings.latin_1", "encodings.aliases", "_sysconfigdata")
_UNCHECKED = 0b01
"""PEP 552: the compiled file is trusted, whatever its source's time."""


def interpreter() -> Path:
    """The program itself, not a virtual environment's link."""
    return Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))


def _libraries(program: Path) -> list[str]:
    """Absolute paths of the shared libraries it loads, the dynamic linker included."""
    text = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True, timeout=60).stdout
    words = [word for line in text.splitlines() for word in line.split()[:3] if word.startswith("/")]
    return sorted(set(words))


def _modules(script: str, search: list[Path]) -> dict[str, str]:
    """The files of the modules that are loaded at the end of the script."""
    environment = {"PYTHONPATH": os.pathsep.join(map(str, search)), "PATH": os.environ["PATH"]}
    imports = "".join(f"import {name}\n" for name in _ALWAYS if importlib.util.find_spec(name.split(".")[0]))
    done = subprocess.run(
        [str(interpreter()), "-S", "-c", imports + script + _LIST_MODULES],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("MODULES "))
    found: dict[str, str] = json.loads(line.removeprefix("MODULES "))
    return found


def _compiled(path: Path) -> bytes:
    """A .pyc of a source file."""
    code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + _UNCHECKED.to_bytes(4, "little") + bytes(8) + marshal.dumps(code)


def _guest_place(name: str, file: Path, is_site: bool) -> str:
    """Where a module's file goes; compiled modules lie where their source would."""
    lib = f"{HOME}/lib/python{sys.version_info.major}.{sys.version_info.minor}"
    if file.suffix != ".py":
        return f"{SITE}/{file.name}" if is_site else f"{lib}/lib-dynload/{file.name}"
    at = name.replace(".", "/") + ("/__init__" if file.name == "__init__.py" else "")
    return f"{SITE if is_site else lib}/{at}.pyc"


def build(script: str, search: list[Path], extra: dict[str, Path]) -> bytes:
    """The archive. `search`: directories of modules besides the standard library; `extra`: guest path to host file.

    The script is /run.py; RUN is the command for it.
    """
    entries: dict[str, bytes] = {"run.py": script.encode()}
    binaries = [interpreter()]
    for name, text in _modules(script, search).items():
        file = Path(text)
        is_site = any(file.is_relative_to(place) for place in search)
        entries[_guest_place(name, file, is_site)] = _compiled(file) if file.suffix == ".py" else file.read_bytes()
        binaries += [file] if file.suffix == ".so" else []
    entries[f"{HOME}/bin/python3"] = interpreter().read_bytes()
    entries.update({guest: host.read_bytes() for guest, host in extra.items()})
    for binary in [*binaries, *(host for host in extra.values() if host.suffix == ".so")]:
        entries.update({library.lstrip("/"): Path(library).read_bytes() for library in _libraries(binary)})
    tools = initramfs.read_newc(images.decompress(Path(image_path("tools")).read_bytes()))
    return initramfs.write_newc([*tools, *(initramfs.regular(path, data, 0o755) for path, data in entries.items())])


RUN = f"PYTHONHOME=/{HOME} PYTHONPATH=/{SITE} /{HOME}/bin/python3 -S /run.py"
