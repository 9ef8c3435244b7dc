"""Direct matches: what the words find in the picture's own features, without the U-Net."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.train.tiny import LAYOUT, save_tiny

from digseg.model.adapter import LoadedModel, quiet
from digseg.model.fresh import add_matching, new_pipeline
from digseg.model.match_neck import MATCH_FEATURES, MatchNeck
from digseg.model.pipeline import DiGSegPipeline
from digseg.model.text_pathway import Match
from digseg.prompts import PromptSet
from digseg.types import Float32Array


@pytest.fixture
def without(tmp_path: Path) -> DiGSegPipeline:
    """A pipeline as they were before there was such a neck, read from a folder."""
    with quiet():
        given = DiGSegPipeline.from_pretrained(save_tiny(tmp_path / "tiny"))
        layout = replace(LAYOUT, match=())
        made = new_pipeline(layout, given.vae, given.text_encoder, given.tokenizer)
        made.save_pretrained(tmp_path / "without")
        for part in ("image_encoder", "text_pathway"):  # a config that doesn't know the setting
            file = tmp_path / "without" / part / "config.json"
            config = json.loads(file.read_text())
            del config["match_channels"]
            file.write_text(json.dumps(config))
        return DiGSegPipeline.from_pretrained(tmp_path / "without")


def test_the_neck_refines_from_coarse_to_fine() -> None:
    neck = MatchNeck((6, 5, 4), (8, 8, 4)).eval()
    features = [torch.randn(2, c, s, s) for c, s in ((6, 4), (5, 8), (4, 16))]
    found = neck(features)
    assert tuple(found) == MATCH_FEATURES[-3:]
    assert [tuple(x.shape) for x in found.values()] == [(2, 8, 4, 4), (2, 8, 8, 8), (2, 4, 16, 16)]
    coarser = neck([features[0] + 1, *features[1:]])
    assert not torch.allclose(coarser["match_half"], found["match_half"])
    finer = neck([*features[:2], features[2] + 1])
    torch.testing.assert_close(finer["match_quarter"], found["match_quarter"])


def test_rows_may_come_in_any_order() -> None:
    """Each prompt reads its own picture, however prompts and pictures are mixed."""
    torch.manual_seed(0)
    layer = Match(4, 6, 3)
    torch.nn.init.normal_(layer.key.weight)
    features, e = torch.randn(3, 4, 5, 7), torch.randn(6, 6)
    rows = torch.tensor([2, 0, 1, 0, 2, 2])
    found = layer(features, e, rows)
    for index, row in enumerate(rows.tolist()):
        query = layer.query(features[row][None])[0]
        expected = (query * layer.key(e)[index][:, None, None]).sum(0)
        torch.testing.assert_close(found[index, 0], expected)


def _learn(pipeline: DiGSegPipeline) -> None:
    for layer in pipeline.text_pathway.matches:
        torch.nn.init.normal_(layer.key.weight)


def test_added_to_a_trained_pipeline_it_changes_no_answer(
    without: DiGSegPipeline, tiles: Float32Array
) -> None:
    full = without
    prompts = PromptSet.parse(["water", "road"]).prompts
    for channels in ((8, 8, 4), (12, 8, 8, 8, 4)):  # first a neck, then its coarse scales
        before = LoadedModel(full, "before")(tiles, prompts)
        add_matching(full, channels)
        assert full.image_encoder.config.match_channels == channels
        np.testing.assert_array_equal(LoadedModel(full, "after")(tiles, prompts), before)
        _learn(full)
        assert not np.allclose(LoadedModel(full, "learned")(tiles, prompts), before)


def test_coarse_scales_that_were_added_learn(without: DiGSegPipeline, tiles: Float32Array) -> None:
    """They start at zero on their way out, and no further in: else no gradient would come."""
    add_matching(without, (8, 8, 4))
    _learn(without)
    add_matching(without, (12, 8, 8, 8, 4))
    encoder = without.image_encoder
    encoder(torch.from_numpy(tiles))["match_half"].sum().backward()
    joint = encoder.match_neck.down[1]
    assert not joint.weight.any()
    assert joint.weight.grad.any()
    torch.nn.init.ones_(joint.weight)
    encoder(torch.from_numpy(tiles))["match_half"].sum().backward()
    assert all(
        p.grad is not None and p.grad.any() for p in encoder.match_neck.blocks[0].parameters()
    )


def test_a_neck_of_other_widths_is_refused(without: DiGSegPipeline) -> None:
    add_matching(without, (8, 8, 4))
    with pytest.raises(ValueError, match="fit"):
        add_matching(without, (12, 8, 8, 16, 4))
    with pytest.raises(ValueError, match="no scale"):
        add_matching(without, (8, 8, 4))
