"""Figures as people read them: sizes, times, counts. Level 0."""

from __future__ import annotations


def format_size(size: float) -> str:
    """Bytes as people read them, binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError  # unreachable: the loop always returns at GiB


def format_duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def format_count(count: int, thing: str) -> str:
    """``1 tile``, ``2 tiles``."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"
