"""What a debugger reads of a stopped guest: names, code, processes and memory.

    elf.py           ELF files: sections, segments, load bias, their symbols
    table.py         names <-> addresses
    disassembly.py   instructions as text, with names
    space.py         memory by physical address or through page tables, and search in it
    kallsyms.py      the names that a stripped kernel carries
    btf.py           layouts of kernel structures from .BTF
    layout.py        which layouts are known for which kernel
    bases.py         where a kernel is in virtual memory
    linux.py         processes, threads and their maps, from a Linux guest's memory
    programs.py      a guest's files: its kernel and programs, what is parsed of them, once per contents
    cpio.py          the files of an initramfs
    mapped.py        files that only the guest has, from its memory
    modules.py       which file is where in an address space
    lines.py         source lines <-> addresses
    code_places.py   where a source line or a function is, in the kernel and in processes
    stacks.py        call stacks, from the kernel on into the program: stack_of()
    frames.py        their frames, as values
    unwind.py        one step from a frame to its caller
    saved.py         registers that Linux has saved: interrupts, task switches, signals
    cfi.py           call frame information
    orc.py           the kernel's own unwinding tables
    follow.py        a caller without tables: code up to its return
    dwarf_data.py    numbers and expressions of DWARF

Nothing here changes a machine: reads go through DeterministicVm.read_memory and its registers. What a guest's memory
holds is the guest's: everything read from it is bounded, and what could not be read is told in notes, not raised.
"""
