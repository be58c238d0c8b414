"""The bits of RFLAGS, MXCSR, CR0, CR4 and EFER by name.

Sources: Intel SDM vol. 1, 3.4.3 (RFLAGS) and 10.2.3 (MXCSR); vol. 3, 2.5 (control registers) and 2.2.1 (IA32_EFER).
"""

from __future__ import annotations

RFLAGS = {
    "CF": 0, "PF": 2, "AF": 4, "ZF": 6, "SF": 7, "TF": 8, "IF": 9, "DF": 10, "OF": 11, "NT": 14, "RF": 16, "VM": 17,
    "AC": 18, "VIF": 19, "VIP": 20, "ID": 21,
}  # fmt: skip
"""Bit numbers of single flags; IOPL is bits 12 and 13, bit 1 is always set."""
MXCSR = {
    "IE": 0, "DE": 1, "ZE": 2, "OE": 3, "UE": 4, "PE": 5, "DAZ": 6, "IM": 7, "DM": 8, "ZM": 9, "OM": 10, "UM": 11,
    "PM": 12, "FZ": 15,
}  # fmt: skip
"""Bits 13 and 14 are the way of rounding."""
CR0 = {"PE": 0, "MP": 1, "EM": 2, "TS": 3, "ET": 4, "NE": 5, "WP": 16, "AM": 18, "NW": 29, "CD": 30, "PG": 31}
CR4 = {
    "VME": 0, "PVI": 1, "TSD": 2, "DE": 3, "PSE": 4, "PAE": 5, "MCE": 6, "PGE": 7, "PCE": 8, "OSFXSR": 9,
    "OSXMMEXCPT": 10, "UMIP": 11, "LA57": 12, "VMXE": 13, "SMXE": 14, "FSGSBASE": 16, "PCIDE": 17, "OSXSAVE": 18,
    "SMEP": 20, "SMAP": 21, "PKE": 22,
}  # fmt: skip
EFER = {"SCE": 0, "LME": 8, "LMA": 10, "NXE": 11}

BITS = {"rflags": RFLAGS, "mxcsr": MXCSR, "cr0": CR0, "cr4": CR4, "efer": EFER}
"""The tables, by the names that `Registers` has for the registers."""
_IOPL_SHIFT = 12


def flag_names(register: str, value: int) -> str:
    """The bits of a register of BITS that are set, in order: `PF ZF IF`; of RFLAGS also IOPL, if it is not 0."""
    names = [name for name, bit in BITS[register].items() if value >> bit & 1]
    iopl = value >> _IOPL_SHIFT & 3 if register == "rflags" else 0
    return " ".join([*names, *([f"IOPL={iopl}"] if iopl else [])])
