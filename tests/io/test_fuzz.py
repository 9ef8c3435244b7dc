"""Whatever bytes come in, a reader answers with pixels or with one of our errors."""

from __future__ import annotations

import contextlib
import gzip
import io as streams
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from digseg import io
from digseg.errors import CorruptInputError, InputError
from digseg.io.tiff_guard import check_tiff

PIXELS = (np.arange(24 * 20, dtype=np.uint16) * 131).reshape(24, 20)


def _tiff(**options: object) -> bytes:
    stream = streams.BytesIO()
    tifffile.imwrite(stream, PIXELS, **options)
    return stream.getvalue()


def _picture(kind: str) -> bytes:
    stream = streams.BytesIO()
    Image.fromarray((PIXELS >> 8).astype(np.uint8)).save(stream, kind)
    return stream.getvalue()


def _nifti() -> bytes:
    import nibabel as nib

    return bytes(nib.Nifti1Image(PIXELS[None].astype(np.int16), np.diag([2, 3, 4, 1])).to_bytes())


SEEDS = {
    ".tif": _tiff(compression="zlib", tile=(16, 16)),
    ".ome.tif": _tiff(metadata={"axes": "YX"}, ome=True),
    ".png": _picture("PNG"),
    ".jpg": _picture("JPEG"),
    ".nii": _nifti(),
    ".nii.gz": gzip.compress(_nifti(), mtime=0),
}

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
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changes=st.lists(change, max_size=6), cut=st.sampled_from([1.0, 1.0, 0.99, 0.6, 0.05]))
@example(changes=[], cut=1.0)
@example(changes=[(0.0, b"MM")], cut=1.0)
def test_damaged_files(
    tmp_path: Path, suffix: str, changes: list[tuple[float, bytes]], cut: float
) -> None:
    path = tmp_path / f"fuzz{suffix}"
    path.write_bytes(mutated(SEEDS[suffix], changes, cut))
    error = problem(path)
    if error is not None:
        assert str(error).endswith(".")
        assert "\n" not in str(error)


def problem(path: Path) -> InputError | None:
    """The refusal of a file; `None` where it is read, and then whole."""
    try:
        facts = io.info(path)
        image = io.read(path)
        if np.prod(image.data.shape, dtype=np.float64) < 10**7:
            np.asarray(image.data[0])
    except InputError as error:
        return error
    return None if facts["shape"] else InputError("It has no shape")


@settings(max_examples=300, deadline=None)
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


@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=2000))
def test_noise_under_any_name(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(content)
    with pytest.raises(InputError):
        io.info(path)
