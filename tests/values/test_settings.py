"""Settings: round trips, sizes, windows and refusals."""

from __future__ import annotations

import json

import pytest

from digseg.errors import UsageError
from digseg.settings import (
    CT_WINDOWS,
    LARGEST_SEED,
    SegmentSettings,
    parse_scales,
    parse_size,
    parse_window,
)


def test_json_round_trip() -> None:
    settings = SegmentSettings(
        bands=(4, 3, 2), window=(-160.0, 240.0), thresholds={"water": 0.4}, memory=2**32
    )
    assert SegmentSettings.from_dict(json.loads(settings.to_json())) == settings


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GiB", 4 * 2**30),
        ("500MB", 500_000_000),
        ("1048576", 2**20),
        ("1.5 KiB", 1536),
        ("2G", 2 * 10**9),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-4GiB", "4 elephants", "0"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


def test_windows() -> None:
    assert parse_window("Soft tissue") == CT_WINDOWS["soft-tissue"]
    assert parse_window("-100,300") == (-100.0, 300.0)
    for text in ("sand", "1,2,3", "5,5", "9,1", "-inf,inf", "nan,5"):
        with pytest.raises(UsageError):
            parse_window(text)


@pytest.mark.parametrize(
    "values",
    [
        {"tile": 16},
        {"overlap": -1},
        {"tile": 128, "overlap": 65},
        {"threshold": 1.5},
        {"thresholds": {"a": -0.1}},
        {"steps": 0},
        {"ensemble": 0},
        {"bands": (0, 1, 2)},
        {"bands": (1, 2)},
        {"window": (5.0, 5.0)},
        {"percentiles": (98.0, 2.0)},
        {"device": "toaster"},
        {"planes": "zz"},
        {"minimum_ml": -1.0},
        {"time": -1},
        {"workers": -1},
        {"batch": -1},
        {"minimum_ml": float("nan")},
        {"minimum_ml": float("inf")},
        {"spacing": float("inf")},
        {"spacing": float("nan")},
        {"window": (float("-inf"), 5.0)},
        {"seed": -1},
        {"seed": LARGEST_SEED + 1},
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        SegmentSettings(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tile", "big"),
        ("tile", 512.5),
        ("tile", True),
        ("tile", None),
        ("threshold", "0.5"),
        ("thresholds", [0.5]),
        ("thresholds", {"water": "0.5"}),
        ("bands", 3),
        ("window", ["a", "b"]),
        ("memory", "4GiB"),
        ("largest", "yes"),
        ("propagate", 1),
        ("model", 5),
    ],
)
def test_values_of_another_kind_are_refused(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"{name!r} can't be"):
        SegmentSettings.from_dict({name: value})


def test_whole_numbers_do_for_numbers() -> None:
    values = {"threshold": 1, "spacing": 2, "window": [0, 80], "propagate": True, "memory": None}
    assert SegmentSettings.from_dict(values).spacing == 2


def test_every_member_s_seed_is_one_that_torch_takes() -> None:
    torch = pytest.importorskip("torch")
    torch.Generator("cpu").manual_seed(LARGEST_SEED * 100_003 + 1000)


def test_scales_without_a_number_are_none() -> None:
    assert parse_scales("0.7,") == (0.7,)
    with pytest.raises(UsageError, match="no scales"):
        parse_scales(",")


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="colour"):
        SegmentSettings.from_dict({"colour": "red"})
    with pytest.raises(UsageError, match="colour"):
        SegmentSettings().with_(colour="red")
