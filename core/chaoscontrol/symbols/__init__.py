"""What a debugger reads of a stopped guest: names, code, processes and memory.

    elf.py           ELF files: sections, segments, load bias, their symbols
    table.py         names <-> addresses
    disassembly.py   instructions as text, with names
    space.py         memory by physical address or through page tables, and search in it
    btf.py           layouts of kernel structures from .BTF
    layout.py        which layouts are known for which kernel
    bases.py         where a kernel is in virtual memory
    linux.py         processes, threads and their maps, from a Linux guest's memory

Nothing here changes a machine: reads go through DeterministicVm.read_memory and its registers. What a guest's memory
holds is the guest's: everything read from it is bounded, and what could not be read is told in notes, not raised.
"""
