"""A Linux guest whose only program is native/stack_program.c, built in several ways, under a debugger.

Returns of calls, named lines and stacks are known from the source. The C library of the musl variants has no call frame
information; the glibc variant is position independent and has three files in its address space.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # guest/ is a tool of the repository, not an installed package
    sys.path.insert(0, str(ROOT))

from chaoscontrol import (  # noqa: E402
    SimulationConfig,
    SimulationController,
    VmConfig,
    image_path,
    initramfs,
)
from chaoscontrol.debug import Breakpoint, Debugger  # noqa: E402
from chaoscontrol.symbols.frames import Stack  # noqa: E402
from chaoscontrol.symbols.modules import Module  # noqa: E402
from chaoscontrol.symbols.programs import GuestFiles  # noqa: E402
from chaoscontrol.symbols.stacks import StackReader  # noqa: E402
from chaoscontrol.timetravel import Multiverse, Position  # noqa: E402
from guest import toolchain  # noqa: E402

SOURCE = Path(__file__).resolve().parent / "native" / "stack_program.c"
SECOND = 1_000_000_000
STATIC = ("musl-gcc", "-static", "-no-pie", "-Wl,--build-id=none")
VARIANTS = {
    "musl-O0": (*STATIC, "-O0"),
    "musl-O2": (*STATIC, "-O2", "-fomit-frame-pointer"),
    "glibc-O2-pie": (toolchain.COMPILER, "-O2", "-pie", "-fPIE"),
}
LIBRARIES = ("/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6")


def compile_program(variant: str, out: Path) -> Path:
    """The program with its debug information."""
    flags = ["-g", "-Wall", "-Wextra", "-Werror", f"-ffile-prefix-map={ROOT}=."]
    toolchain.run([*VARIANTS[variant], *flags, "-o", str(out), str(SOURCE)])
    return out


def pack_image(variant: str, program: Path, out: Path) -> Path:
    """An initramfs with a program as /init, and the libraries that it needs."""
    libraries = LIBRARIES if variant.startswith("glibc") else ()
    files = [initramfs.regular(path[1:], Path(path).read_bytes(), 0o755) for path in libraries]
    out.write_bytes(initramfs.bootable(program.read_bytes(), files))
    return out


def strip_program(variant: str, program: Path, directory: Path) -> Path:
    """An initramfs with the program without its symbols."""
    stripped = directory / "stripped"
    toolchain.run(["objcopy", "--strip-all", str(program), str(stripped)])
    return pack_image(variant, stripped, directory / "stripped.cpio")


def line_of(comment: str) -> int:
    """The number of the source line that has this comment."""
    found = [at for at, text in enumerate(SOURCE.read_text().splitlines(), 1) if text.endswith(f"// {comment}")]
    assert len(found) == 1, comment
    return found[0]


class StackGuest(NamedTuple):
    """The guest, which has said once that a round of calls is over."""

    cluster: SimulationController
    debugger: Debugger
    files: GuestFiles
    image: Path
    begin: Position

    def run_to(self, *names: str) -> Stack:
        """From the beginning to where each of these functions in turn is about to begin; the stack there."""
        self.debugger.goto_position(self.begin)
        return self.go_on_to(*names)

    def go_on_to(self, *names: str) -> Stack:
        """The same from here; a name that ends with `@kernel` is the kernel's."""
        for name in names:
            is_kernel = name.endswith("@kernel")
            address = self.kernel_address(name.removesuffix("@kernel")) if is_kernel else self.address(name)
            point = Breakpoint(0, address, user=not is_kernel)
            stop = self.debugger.forward([point], limit_vns=self.debugger.position.vns + SECOND)
            assert stop.hit is not None, name
        return self.debugger.stack(0)

    def reader(self) -> StackReader:
        return self.debugger.reader(0)

    def program(self) -> Module:
        reader = self.reader()
        assert reader.linux is not None
        return next(m for m in reader.process(reader.linux.current()).modules.loaded() if m.name == "/init")

    def address(self, name: str) -> int:
        """Of a function of the program."""
        module = self.program()
        found = module.binary.symbols.address(name)
        assert found is not None, name
        return found + module.bias

    def kernel_address(self, name: str) -> int:
        linux = self.reader().linux
        assert linux is not None
        found = linux.symbols.address(name)
        assert found is not None, name
        return found


def boot(variant: str, directory: Path) -> StackGuest:
    """Started, and up to where it has said that a round is over."""
    program = compile_program(variant, directory / "init")
    image = pack_image(variant, program, directory / "stack.cpio")
    config = SimulationConfig(
        num_vms=1,
        vm_config=VmConfig(memory_bytes=64 << 20),
        kernel_path=image_path("vmlinux"),
        initrd_path=str(image),
        threads=1,
    )
    cluster = SimulationController(config)
    multiverse = Multiverse(cluster)
    assert multiverse.until(b"round", 0, limit_vns=5 * SECOND)
    files = GuestFiles(image_path("vmlinux"), str(image))
    return StackGuest(cluster, Debugger(multiverse, files), files, image, multiverse.position)
