"""A process that trains keeps the memory that it frees.

A training step frees and takes the same hundreds of megabytes again and again. GNU's allocator hands the end of
its heap back to the system as soon as that is large enough, and the system clears every page anew when it is taken
again. The private step suffers more of this than the plain one, since it holds more at the same time.
"""

from __future__ import annotations

import ctypes
import platform

__all__ = ["keep_freed_memory"]

# From GNU's malloc.h; the manual page mallopt(3) says what they do.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def keep_freed_memory() -> bool:
    """Let this process reuse freed memory instead of returning it to the system.

    Call it before large tensors are made. The heap then never shrinks; it goes back when the process ends. Blocks
    of more than 32 MiB that find no room in it still come from the system and return there, so that they leave no
    gaps. Memory on a GPU is no concern of it: torch keeps that by itself.

    Returns:
        Whether it took effect; it does nothing where the C library is not GNU's.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    settings = {
        _M_MMAP_THRESHOLD: 32 * 2**20,  # the most that the allocator takes; it would only come to it by itself
        _M_TRIM_THRESHOLD: -1,  # never
        _M_ARENA_MAX: 1,  # heaps of further threads shrink whatever the threshold
    }
    taken = [library.mallopt(option, value) == 1 for option, value in settings.items()]
    return all(taken)
