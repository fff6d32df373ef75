"""Keeps the C library from giving memory back to the kernel after every message, and taking it again for the next."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
"""malloc.h of glibc."""

KEEP = 33_554_432
"""Free octets at the top of the heap that stay with the process."""
MAPPED = 16_777_216
"""Blocks of this size and more are mapped and unmapped one by one."""


def tune() -> bool:
    """Set glibc's thresholds; False where there is no glibc.

    With the defaults each 256 KB piece of a message is mapped, zeroed by the kernel page by page, and unmapped: 3 ms of
    system time for a message of 2 MB.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, KEEP)) and bool(mallopt(M_MMAP_THRESHOLD, MAPPED))
