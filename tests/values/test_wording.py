"""Figures read well."""

from __future__ import annotations

from digseg.wording import format_count, format_duration, format_size


def test_sizes_read_well() -> None:
    assert [format_size(size) for size in (12, 2048, 3 * 2**30)] == ["12 B", "2.0 KiB", "3.0 GiB"]


def test_times_read_well() -> None:
    told = [format_duration(seconds) for seconds in (0.42, 9.6, 61, 150, 4000, 9000)]
    assert told == ["0.4 s", "9.6 s", "61 s", "2 min", "67 min", "2.5 h"]


def test_counts_read_well() -> None:
    told = [format_count(count, "tile") for count in (0, 1, 2, 12345)]
    assert told == ["0 tiles", "1 tile", "2 tiles", "12,345 tiles"]
