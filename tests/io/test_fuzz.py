"""Whatever bytes come in, a reader answers with pixels or with one of our errors."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.fuzz.seeds import SEEDS, problem, write

from digseg import io
from digseg.errors import CorruptInputError, InputError
from digseg.io.tiff_guard import check_tiff

FOUND = Path(__file__).parents[1] / "fuzz" / "found"

change = st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8))


def mutated(seed: bytes, changes: list[tuple[float, bytes]], cut: float) -> bytes:
    """Overwrite a few places, then cut the end off."""
    content = bytearray(seed)
    for place, values in changes:
        # Squared: damage falls on headers more often than on pixels.
        start = int(place * place * len(content))
        content[start : start + len(values)] = values
    return bytes(content[: max(1, int(len(content) * cut))])


@pytest.mark.parametrize("suffix", sorted(SEEDS))
@settings(
    max_examples=40,
)
@given(changes=st.lists(change, max_size=6), cut=st.sampled_from([1.0, 1.0, 0.99, 0.6, 0.05]))
@example(changes=[], cut=1.0)
@example(changes=[(0.0, b"MM")], cut=1.0)
def test_damaged_files(
    tmp_path: Path, suffix: str, changes: list[tuple[float, bytes]], cut: float
) -> None:
    path = write(tmp_path, suffix, mutated(SEEDS[suffix], changes, cut))
    error = problem(path)
    if error is not None:
        assert str(error).endswith(".")
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", sorted(path.name for path in FOUND.glob("*.*")))
def test_what_fuzzers_found(tmp_path: Path, name: str) -> None:
    """Files that once made a reader fail with something else than one of our errors."""
    suffix = max((end for end in SEEDS if name.endswith(end)), key=len)
    error = problem(write(tmp_path, suffix, (FOUND / name).read_bytes()))
    if error is not None:
        assert str(error).endswith(".")
        assert "\n" not in str(error)


@settings(max_examples=300)
@given(content=st.binary(max_size=300), big=st.booleans(), motorola=st.booleans())
def test_directories_of_noise(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, big: bool, motorola: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.tif"
    order, number = ("big", b"MM") if motorola else ("little", b"II")
    version = (43 if big else 42).to_bytes(2, order)
    middle = (8).to_bytes(2, order) + bytes(2) + (16).to_bytes(8, order)
    start = middle if big else (8).to_bytes(4, order)
    path.write_bytes(number + version + start + content)
    # Noise behind a TIFF's first bytes may look like a directory; then there is nothing to say.
    with contextlib.suppress(CorruptInputError):
        check_tiff(path)


@settings(max_examples=40)
@given(content=st.binary(max_size=2000))
def test_noise_under_any_name(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(content)
    with pytest.raises(InputError):
        io.info(path)
