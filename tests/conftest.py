"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# One OpenMP thread, passive waiting: with two threads and a busy core forwards slow by spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from digseg.types import AnyArray

# How long an example takes says how busy the machine is, not whether the code is right; and a
# folder that is made once for all examples of a test is meant to be.
settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("any machine")

_SHARED = Path(os.environ.get("DIGSEG_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Path of a file or folder of the shared real data; skips where it is absent."""

    def find(relative: str) -> Path:
        path = _SHARED / relative
        if not path.exists():
            pytest.skip(f"the shared data set {relative} is not on this machine")
        return path

    return find


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260424)


@pytest.fixture
def asymmetric() -> Callable[..., AnyArray]:
    """An array whose every pixel tells its own place, so that a flip or a shift is seen."""

    def make(*shape: int, dtype: str = "float32") -> AnyArray:
        return np.arange(1, int(np.prod(shape)) + 1, dtype=dtype).reshape(shape)

    return make
