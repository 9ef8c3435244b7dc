"""A tiny pipeline of real classes, saved once and loaded by each test that needs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.train.tiny import save_tiny

from digseg.types import Float32Array


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of a few thousand random weights, none of them zero.

    The layers that start at zero are filled, so that text reaches every scale.
    """
    from digseg.model.adapter import quiet
    from digseg.model.pipeline import DiGSegPipeline

    folder = save_tiny(tmp_path_factory.mktemp("model") / "tiny")
    with quiet():
        pipeline = DiGSegPipeline.from_pretrained(folder)
    torch.manual_seed(5)
    for parameter in pipeline.text_pathway.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def tiles() -> Float32Array:
    """Two tiles that are no mirror images of themselves."""
    rng = np.random.default_rng(3)
    ramp = np.linspace(0, 0.6, 64 * 96, dtype=np.float32).reshape(64, 96)
    noise = rng.random((2, 3, 64, 96), dtype=np.float32) * np.float32(0.4)
    return ramp + noise
