"""Where Linux on x86-64 has its kernel in virtual memory (arch/x86/include/asm/page_64_types.h)."""

IMAGE_BASE = 0xFFFF_FFFF_8000_0000
"""__START_KERNEL_map: physical 0 of a kernel that is loaded where it is linked, as the loader does."""
LINEAR_BASE = 0xFFFF_8880_0000_0000
"""__PAGE_OFFSET_BASE_L4: the direct map of kernels with four levels and without memory randomisation."""
KERNEL_HALF = 1 << 63
"""Addresses from here on are the kernel's."""
