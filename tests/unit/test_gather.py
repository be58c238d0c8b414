"""chaoscontrol.gather: what programs need, as the dynamic linker would find it; compared with that of this host."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from flat_guests import native_build

from chaoscontrol.errors import UsageError
from chaoscontrol.gather import Gathering
from chaoscontrol.initramfs import Entry, regular, symlink

PERL = "/usr/bin/perl"
"""Debian's perl-base is on every system that has its package manager."""


def gathered(gathering: Gathering) -> dict[str, Entry]:
    return {entry.path: entry for entry in gathering.entries}


def compile_c(out: Path, source: str, *flags: str) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [*native_build().find_compiler().command, "-x", "c", "-", "-o", str(out), *flags]
    subprocess.run(command, input=source, text=True, check=True, timeout=120)
    return out


def listed_by_the_linker(program: str) -> set[str]:
    text = subprocess.run(["ldd", program], capture_output=True, text=True, check=True, timeout=60).stdout
    return {word.lstrip("/") for line in text.splitlines() for word in line.split() if word.startswith("/")}


@pytest.mark.parametrize("name", ["perl", PERL, "/bin/../usr/bin/perl"])
def test_a_program_comes_with_what_its_linker_names(name: str) -> None:
    gathering = Gathering()
    gathering.add_program(name)
    found = gathered(gathering)
    assert listed_by_the_linker(PERL) <= set(found)
    assert found["usr/bin/perl"].data == Path(PERL).read_bytes()
    assert stat.S_IMODE(found["usr/bin/perl"].mode) == 0o755
    for path, entry in found.items():
        if stat.S_ISLNK(entry.mode):
            assert entry.data.decode().lstrip("/") in found, f"{path} leads nowhere"
            assert os.path.realpath(f"/{path}") == entry.data.decode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root directory of another system: a program that needs libouter, which needs libinner."""
    root = tmp_path / "root"
    inner = compile_c(root / "opt/app/lib/libinner.so.1.5", "int inner(void) { return 7; }", "-shared", "-fPIC")
    (root / "opt/app/lib/libinner.so").symlink_to("libinner.so.1.5")
    libraries = ["-L", str(inner.parent)]
    outer = "int inner(void); int outer(void) { return inner(); }"
    compile_c(root / "opt/app/lib/libouter.so", outer, "-shared", "-fPIC", *libraries, "-linner")
    main = "int outer(void); int main(void) { return outer(); }"
    # DT_RPATH is handed down to what the libraries need, which DT_RUNPATH is not.
    rpath = ["-Wl,-rpath,$ORIGIN/../lib", "-Wl,--disable-new-dtags", f"-Wl,-rpath-link,{inner.parent}"]
    compile_c(root / "opt/app/bin/program", main, *libraries, "-louter", *rpath)
    for library in listed_by_the_linker("/bin/true"):
        if not library.startswith("opt"):
            (root / library).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(f"/{library}", root / library)
    return root


def test_libraries_beside_a_program_are_found_from_there(root: Path) -> None:
    gathering = Gathering(root)
    gathering.add_program("/opt/app/bin/program")
    found = gathered(gathering)
    assert {"opt/app/bin/program", "opt/app/bin/../lib/libouter.so".replace("bin/../", "")} <= set(found)
    assert found["opt/app/lib/libinner.so"] == symlink("opt/app/lib/libinner.so", "/opt/app/lib/libinner.so.1.5")
    assert found["opt/app/lib/libinner.so.1.5"].data == (root / "opt/app/lib/libinner.so.1.5").read_bytes()


def test_links_are_followed_inside_the_root(root: Path, tmp_path: Path) -> None:
    (root / "usr/bin").mkdir(parents=True, exist_ok=True)
    (root / "usr/bin/app").symlink_to("/opt/app/bin/program")
    (root / "usr/bin/up").symlink_to("../../../../../opt/app/bin/program")
    (root / "usr/bin/round").symlink_to("round")
    for name in ("app", "up"):
        gathering = Gathering(root)
        gathering.add_program(name)
        found = gathered(gathering)
        assert found[f"usr/bin/{name}"] == symlink(f"usr/bin/{name}", "/opt/app/bin/program")
        assert "opt/app/bin/program" in found
    with pytest.raises(UsageError, match="there is no file /usr/bin/round"):
        Gathering(root).add_program("/usr/bin/round")
    with pytest.raises(UsageError, match="there is no program 'round'"):
        Gathering(root).add_program("round")


def test_a_library_that_is_nowhere_is_named_with_who_needs_it(root: Path) -> None:
    (root / "opt/app/lib/libinner.so").unlink()
    with pytest.raises(UsageError, match=r"library libinner.so, which opt/app/lib/libouter.so needs, is in none"):
        Gathering(root).add_program("/opt/app/bin/program")


def test_a_tree_brings_what_its_programs_need_and_may_hold_it(root: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    (root / "opt/app").rename(moved)
    (moved / "notes.txt").write_text("hello")
    (moved / "empty").mkdir()
    os.mkfifo(moved / "pipe")
    gathering = Gathering(root)
    gathering.add_tree("/opt/app", str(moved))
    found = gathered(gathering)
    assert found["opt/app/notes.txt"] == regular("opt/app/notes.txt", b"hello", 0o644)
    assert stat.S_ISDIR(found["opt/app/empty"].mode)
    assert found["opt/app/lib/libinner.so"] == symlink("opt/app/lib/libinner.so", "libinner.so.1.5")
    assert "opt/app/pipe" not in found
    assert any(path.endswith("libc.so.6") for path in found), "from the root, since the program needs it"
    assert gathering.unmet == [], "libouter needs libinner, which the program's path leads to"
    with pytest.raises(UsageError, match="is no directory; give GUEST=DIRECTORY"):
        gathering.add_tree("/opt", str(moved / "notes.txt"))


def test_what_a_tree_lacks_is_told_and_no_error(root: Path) -> None:
    (root / "opt/app/lib/libinner.so").unlink()
    (root / "opt/app/lib/libinner.so.1.5").unlink()
    (root / "opt/app/tool.py").write_text("#!/opt/python\n")
    (root / "opt/app/damaged").write_bytes(Path(PERL).read_bytes()[:200])
    gathering = Gathering(root)
    gathering.add_tree("/opt/app", str(root / "opt/app"))
    assert [text.split(" (")[0] for text in gathering.unmet] == [
        "opt/app/lib/libouter.so needs libinner.so, which was not found",
        "opt/app/damaged: is a damaged ELF file",
        "opt/app/tool.py: there is no file /opt/python, which opt/app/tool.py needs",
    ]


def test_a_tree_may_be_the_whole_root(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "motd").write_text("hi")
    gathering = Gathering()
    gathering.add_tree("/", str(tmp_path))
    assert {"etc", "etc/motd"} == set(gathered(gathering))


def test_directories_of_the_linkers_configuration(root: Path) -> None:
    (root / "srv/lib").mkdir(parents=True)
    for path in list((root / "opt/app/lib").iterdir()):
        path.rename(root / "srv/lib" / path.name)
    (root / "etc/ld.so.conf.d").mkdir(parents=True)
    (root / "etc/ld.so.conf").write_text("# more\ninclude ld.so.conf.d/*.conf\ninclude /etc/ld.so.conf\n")
    (root / "etc/ld.so.conf.d/app.conf").write_text("/srv/lib  # ours\n".replace("  #", " #"))
    (root / "etc/ld.so.cache").write_bytes(b"what ldconfig made")
    gathering = Gathering(root)
    gathering.add_program("/opt/app/bin/program")
    found = gathered(gathering)
    assert {"srv/lib/libouter.so", "srv/lib/libinner.so", "srv/lib/libinner.so.1.5"} <= set(found)
    assert found["etc/ld.so.cache"].data == b"what ldconfig made", "or the guest's linker would not look there"


def test_scripts_bring_their_interpreters(tmp_path: Path) -> None:
    for name, line in (("direct", "#! /usr/bin/perl -w"), ("env", "#!/usr/bin/env perl")):
        script = tmp_path / name
        script.write_text(f"{line}\nprint 1;\n")
        script.chmod(0o755)
        gathering = Gathering(present={"usr/bin/env"})
        gathering.add_file(f"/app/{name}", str(script))
        found = gathered(gathering)
        assert stat.S_IMODE(found[f"app/{name}"].mode) == 0o755
        assert "usr/bin/perl" in found and "usr/bin/env" not in found
    script.write_text("#!/usr/bin/env no-such-language\n")
    with pytest.raises(UsageError, match="there is no program 'no-such-language', which app/env needs"):
        Gathering(present={"usr/bin/env"}).add_file("/app/env", str(script))


def test_an_interpreter_that_the_root_has_not_is_that_of_the_archive(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/usr/bin/env sh\n")
    gathering = Gathering(tmp_path, present={"bin/env", "bin/sh"})
    gathering.add_file("/app", str(script))
    assert gathered(gathering)["usr/bin/env"] == symlink("usr/bin/env", "/bin/env")


def test_what_the_archive_has_is_replaced_only_by_name(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    gathering = Gathering(present={"bin/sh", "etc/motd"})
    gathering.add_file("/app", str(script))
    gathering.add_file("/etc/motd", str(script))
    assert set(gathered(gathering)) == {"app", "etc/motd"}


def test_other_files_are_just_files(tmp_path: Path) -> None:
    for name, data in (("empty", b""), ("core", b"\x7fELF"[:3]), ("bang", b"#!"), ("text", b"#!relative\n")):
        (tmp_path / name).write_bytes(data)
        gathering = Gathering()
        gathering.add_file(f"/{name}", str(tmp_path / name))
        assert gathering.entries == [regular(name, data, 0o644)]


def test_what_cannot_be_used_is_refused_in_one_line(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(Path(PERL).read_bytes()[:200])
    narrow = tmp_path / "narrow"
    narrow.write_bytes(b"\x7fELF\x01\x01\x01" + bytes(9) + b"\x02\x00\x03\x00\x01" + bytes(31))
    asked = [
        (lambda g: g.add_file("/x", str(damaged)), "damaged: is a damaged ELF file"),
        (lambda g: g.add_file("/x", str(narrow)), "narrow: is a 32-bit program; the machines run 64-bit code only"),
        (lambda g: g.add_file("/x", str(tmp_path)), "cannot be read: Is a directory"),
        (lambda g: g.add_file("/x", str(tmp_path / "none")), "none: cannot be read: No such file or directory"),
        (lambda g: g.add_file("/", PERL), "'/' is no path of a file in the guest"),
        (lambda g: g.add_file("../x", PERL), "'../x' is no path of a file in the guest"),
        (lambda g: g.add_program("/no/such"), "there is no file /no/such; install what has it"),
    ]
    for ask, message in asked:
        with pytest.raises(UsageError) as refused:
            ask(Gathering())
        assert message in str(refused.value) and "\n" not in str(refused.value)
    with pytest.raises(UsageError, match="is no directory; give the root of a file system"):
        Gathering(tmp_path / "none")


@pytest.mark.parametrize("at", range(0, 400, 11))
def test_a_damaged_program_is_gathered_or_refused(tmp_path: Path, at: int) -> None:
    data = bytearray(Path(PERL).read_bytes()[:6000])
    data[at] ^= 0x80
    (tmp_path / "x").write_bytes(bytes(data))
    try:
        Gathering().add_file("/x", str(tmp_path / "x"))
    except UsageError as refused:
        assert "\n" not in str(refused)
