"""Driver of the differential test: random instruction sequences on the soft CPU and on the host CPU.

    python tests/engine/differential.py run --seed 1 --count 1000000     compare; prints failures, minimised
    python tests/engine/differential.py show SEED INDEX [MASK]           re-run one case and print both results
    python tests/engine/differential.py table                            the form table with hit counts of a run

Cases are numbered: (seed, index) fixes a case for a given form table; MASK keeps a subset of its instructions. The
work is done by native/diff_*.c; this module builds it, reads its output and disassembles.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import capstone

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

import forms as form_table  # noqa: E402

CPU_FLAGS = ("movbe", "popcnt", "sse4_2", "ssse3", "cx16", "lahf_lm", "fsgsbase")
"""What the host CPU must have for its results to be comparable."""


def _load_build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("native_build", ROOT / "native" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["native_build"] = module
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Programs:
    """Paths of the built programs and of the packed form table."""

    diff: Path
    runner: Path
    forms: Path


def build(variant: str = "release") -> Programs:
    """Build the driver (linked with the engine) and the native runner. Raises native/build.py's BuildError."""
    native_build = _load_build()
    builder = native_build.Builder(variant, native_build.find_compiler(), 2)
    native = HERE / "native"
    with builder.locked():
        archive = builder.archive(builder.objects())
        include = [f"-I{native}", f"-I{ROOT / 'native' / 'include'}", f"-I{ROOT / 'native' / 'tests'}"]
        units = [
            builder.compile(native / f"diff_{name}.c", include)
            for name in ("gen", "main", "engine", "compare", "rules", "unroll")
        ]
        diff = builder.dir / "diff"
        builder.link([*units, archive], diff, shared=False)
        # The runner executes arbitrary user-mode code in its own address space: never sanitised.
        plain = native_build.Builder("release", builder.compiler, 1)
    with plain.locked():
        runner = plain.dir / "diff_runner"
        plain.link([plain.compile(native / "diff_runner.c", ["-fno-stack-protector"])], runner, shared=False)
        packed = plain.dir / "diff_forms.bin"
        data = form_table.pack_forms(form_table.all_forms())
        if not packed.exists() or packed.read_bytes() != data:
            packed.write_bytes(data)
    return Programs(diff, runner, packed)


def missing_cpu_flags() -> list[str]:
    """Features of CPU_FLAGS that this host lacks."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            have = set(line.split(":", 1)[1].split())
            return [flag for flag in CPU_FLAGS if flag not in have]
    return list(CPU_FLAGS)


@dataclass
class Failure:
    """One differing case, as the driver printed it."""

    head: str
    lines: list[str] = field(default_factory=list)


@dataclass
class Result:
    """Outcome of one run."""

    done: int = 0
    invalid: int = 0
    retired: int = 0
    failures: list[Failure] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    hits: dict[int, int] = field(default_factory=dict)
    rules: dict[str, int] = field(default_factory=dict)
    """How often each rule of native/diff_rules.c allowed for the host's processor."""


def parse(output: str) -> Result:
    """Read the driver's output."""
    result = Result()
    current: Failure | None = None
    for line in output.splitlines():
        key, _, rest = line.partition(" ")
        if key == "failure":
            current = Failure(rest)
            result.failures.append(current)
        elif key == "failure-end":
            current = None
        elif current is not None:
            current.lines.append(line)
        elif key == "hits":
            form, count = rest.split()
            result.hits[int(form)] = int(count)
        elif key == "rule":
            name, count = rest.split()
            result.rules[name] = int(count)
        elif key == "done":
            words = line.split()
            result.done, result.invalid, result.retired = int(words[1]), int(words[3]), int(words[7])
        else:
            result.complaints.append(line)
    return result


def run(
    programs: Programs, seed: int, first: int, count: int, options: Sequence[str] = (), timeout_s: int = 3600
) -> Result:
    """Compare `count` cases from index `first`. Raises RuntimeError when the driver itself fails."""
    return _driver(programs, ["run", str(seed), str(first), str(count), *options], timeout_s)


def run_cases(programs: Programs, path: Path, timeout_s: int = 600) -> Result:
    """Compare the cases written to a file as native/diff_main.c's struct written. Raises RuntimeError as `run` does."""
    return _driver(programs, ["cases", str(path)], timeout_s)


def _driver(programs: Programs, arguments: Sequence[str], timeout_s: int) -> Result:
    command = [programs.diff, programs.forms, programs.runner, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    finished = "\ndone " in "\n" + done.stdout
    if done.returncode not in (0, 1) or not finished:
        raise RuntimeError(
            f"{programs.diff.name} exited with {done.returncode}: {done.stderr.strip()}\n{done.stdout[-2000:]}"
        )
    return parse(done.stdout)


def _disassemble(code: bytes, address: int) -> str:
    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    for insn in engine.disasm(code, address, 1):
        return f"{insn.mnemonic} {insn.op_str}".strip()
    return "(undefined)"


def describe(failure: Failure) -> str:
    """A failure for a person: the differing fields, the instructions, the inputs that matter, how to re-run it."""
    forms = form_table.all_forms()
    out = [f"case {failure.head}"]
    differing: list[str] = []
    state: dict[str, list[str]] = defaultdict(list)
    for line in failure.lines:
        words = line.split()
        match words[0]:
            case "differs":
                differing.append("  " + line.partition(" ")[2])
            case "insn":
                code, address = bytes.fromhex(words[6]), int(words[3], 16)
                text = _disassemble(code, address)
                out.append(
                    f"  {address:#x}  {code.hex():<32} {text:<44} ; {forms[int(words[2])].name}, undefined {words[5]}"
                )
            case "reg":
                state[words[1]].append(f"{words[2]}={words[3]}")
            case _:
                state[words[1]].append(" ".join([words[0], *words[2:]]))
    out.append("differing:")
    out += differing
    for who in ("in", "native", "engine"):
        out.append(f"{who}:")
        items = state[who]
        out += ["  " + "  ".join(items[i : i + 4]) for i in range(0, len(items), 4)]
    words = failure.head.split()
    if len(words) >= 6:
        out.append(f"re-run: python tests/engine/differential.py show {words[1]} {words[3]} {words[5]}")
    return "\n".join(out)


def coverage_table(result: Result) -> str:
    """Every opcode form with its hit count, by opcode map."""
    forms = form_table.all_forms()
    out = [f"{'hits':>9}  form (mandatory prefix, map, opcode, /digit, mnemonic, operand kind, operand size)"]
    out += [f"{result.hits.get(i, 0):>9}  {form.name}" for i, form in enumerate(forms)]
    return "\n".join(out)


def never_hit(result: Result, approx: bool = False) -> list[str]:
    """Names of forms that were not executed; approximating instructions have a run of their own."""
    forms = form_table.all_forms()
    return [f.name for i, f in enumerate(forms) if (f.special == "approx") == approx and not result.hits.get(i)]


def summary(result: Result, approx: bool = False) -> str:
    """The run's figures in one line, and how often the host's vendor was allowed for."""
    forms = [i for i, form in enumerate(form_table.all_forms()) if (form.special == "approx") == approx]
    hit = sum(1 for i in forms if result.hits.get(i))
    text = (
        f"{result.done} cases, {result.retired} instructions retired, {len(result.failures)} differ, "
        f"{hit} of {len(forms)} forms hit"
    )
    rules = ", ".join(f"{name} {count}" for name, count in result.rules.items() if count)
    return f"{text}; by vendor rules: {rules}" if rules else text


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = parser.add_subparsers(dest="command", required=True)
    run_parser = sub.add_parser("run")
    run_parser.add_argument("--seed", type=int, default=1)
    run_parser.add_argument("--first", type=int, default=0)
    run_parser.add_argument("--count", type=int, default=20_000)
    run_parser.add_argument("--table", action="store_true", help="print the coverage table")
    show_parser = sub.add_parser("show")
    show_parser.add_argument("seed", type=int)
    show_parser.add_argument("index", type=int)
    show_parser.add_argument("mask", nargs="?", default="0xffffffffffffffff")
    for p in (run_parser, show_parser):
        p.add_argument("--variant", default="release", choices=("release", "asan"))
        p.add_argument("--option", action="append", default=[], help="passed to the driver, e.g. --option=--step=1")
    args = parser.parse_args(argv)
    programs = build(args.variant)
    options = [word for option in args.option for word in option.split("=")]
    if args.command == "show":
        command = [
            programs.diff,
            programs.forms,
            programs.runner,
            "show",
            str(args.seed),
            str(args.index),
            args.mask,
            *options,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        sys.stderr.write(done.stderr)
        failure = Failure(f"seed {args.seed} index {args.index} mask {args.mask}", done.stdout.splitlines())
        print(describe(failure))
        return done.returncode
    result = run(programs, args.seed, args.first, args.count, options)
    for failure in result.failures:
        print(describe(failure), end="\n\n")
    for line in result.complaints:
        print(line)
    if args.table:
        print(coverage_table(result))
    print(summary(result, "--approx" in options))
    return 1 if result.failures or result.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
