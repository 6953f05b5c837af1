"""What is asked of the C library's allocator."""

from __future__ import annotations


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next tensor instead of giving it back to the system page by page.

    A decoding step on a CPU frees and asks for the same 100 MB again and again; the page faults took a fifth of its time (SmolLM2, 64 rows).
    Nothing happens where the C library is another.
    """
    import ctypes
    import platform

    if platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, mmap_threshold, most = -1, -3, 1 << 30  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
    libc = ctypes.CDLL(None)
    libc.mallopt(mmap_threshold, most)
    libc.mallopt(trim_threshold, most)
