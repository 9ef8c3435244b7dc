"""Stable Diffusion checkpoints become pipelines that start as the original."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file
from tests.model import stable_diffusion as sd

from digseg.errors import ModelError, ModelNotFoundError, UsageError
from digseg.model import DiGSegPipeline, load
from digseg.model.unet_split import unet_down, unet_up
from digseg.prompts import Prompt

KINDS: tuple[sd.Kind, ...] = ("1.5", "2.1", "turbo")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sd")
    return {kind: sd.save(root / kind, kind, seed) for seed, kind in enumerate(KINDS)}


@pytest.fixture(scope="module")
def converted(checkpoints: dict[str, Path]) -> dict[str, DiGSegPipeline]:
    return {k: DiGSegPipeline.from_stable_diffusion(path) for k, path in checkpoints.items()}


def _inputs(width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    latents = torch.randn(2, 4, 16, 8, generator=generator)
    text = torch.randn(2, 77, width, generator=generator)
    return latents, text, torch.tensor([999, 3])


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_widened_unet_equals_the_original_on_a_doubled_latent(
    kind: sd.Kind, checkpoints: dict[str, Path], converted: dict[str, DiGSegPipeline]
) -> None:
    original = UNet2DConditionModel.from_pretrained(checkpoints[kind] / "unet")
    widened = converted[kind].unet
    latents, text, times = _inputs(original.config.cross_attention_dim)
    expected = original(latents, times, text).sample
    found = widened(torch.cat([latents, latents], 1), times, text).sample
    assert widened.config.in_channels == widened.conv_in.in_channels == 8
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    # Not because it looks away: another mask latent gives another answer.
    other = widened(torch.cat([latents, -latents], 1), times, text).sample
    assert (other - expected).abs().max() > 1e-3


def test_conv_in_is_repeated_and_halved_and_its_bias_kept(
    checkpoints: dict[str, Path], converted: dict[str, DiGSegPipeline]
) -> None:
    file = checkpoints["1.5"] / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    conv = converted["1.5"].unet.conv_in
    assert torch.equal(conv.weight[:, :4], weights["conv_in.weight"] / 2)
    assert torch.equal(conv.weight[:, 4:], weights["conv_in.weight"] / 2)
    assert torch.equal(conv.bias, weights["conv_in.bias"])


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_text_pathway_starts_at_zero_and_then_matters(
    kind: sd.Kind, converted: dict[str, DiGSegPipeline]
) -> None:
    pipeline = converted[kind]
    unet, pathway = pipeline.unet, pipeline.text_pathway
    width = unet.config.cross_attention_dim
    latents, text, times = _inputs(width)
    doubled = torch.cat([latents, latents], 1)
    expected = unet(doubled, times, text).sample
    state = unet_down(unet, doubled, times, (), text)
    embedded = pathway(pathway.align(torch.randn(2, width)))
    found = unet_up(unet, state, text, None, pathway, embedded)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    # One place of injection before the middle block and one after each up block.
    assert len(pathway.scales) == 1 + len(unet.up_blocks)
    for injection in pathway.scales:
        before = injection.modulate.weight.clone()
        injection.modulate.weight.normal_(0, 0.1)
        changed = unet_up(unet, state, text, None, pathway, embedded)
        injection.modulate.weight.copy_(before)
        assert (changed - expected).abs().max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_schedule_is_trailing_with_zero_terminal_snr(
    kind: sd.Kind, converted: dict[str, DiGSegPipeline]
) -> None:
    scheduler = converted[kind].scheduler
    assert scheduler.config.timestep_spacing == "trailing"
    assert scheduler.config.rescale_betas_zero_snr is True
    assert scheduler.config.prediction_type == "v_prediction"
    assert float(scheduler.alphas_cumprod[-1]) == pytest.approx(0.0, abs=1e-7)
    scheduler.set_timesteps(1)
    assert scheduler.timesteps.tolist() == [999]


def test_eps_can_be_kept_on_its_own_betas(checkpoints: dict[str, Path]) -> None:
    pipeline = DiGSegPipeline.from_stable_diffusion(checkpoints["1.5"], prediction="keep")
    assert pipeline.scheduler.config.prediction_type == "epsilon"
    assert 0.004 < float(pipeline.scheduler.alphas_cumprod[-1]) < 0.006
    masks = pipeline(np.zeros((1, 3, 64, 64), np.float32), ["water"]).masks
    assert np.isfinite(masks).all()
    kept = DiGSegPipeline.from_stable_diffusion(checkpoints["2.1"], prediction="keep")
    assert kept.scheduler.config.prediction_type == "v_prediction"
    assert kept.scheduler.config.rescale_betas_zero_snr is True


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip_and_one_step(
    kind: sd.Kind, converted: dict[str, DiGSegPipeline], tmp_path: Path
) -> None:
    pipeline = converted[kind]
    pipeline.save_pretrained(tmp_path / "m")
    assert not [f for f in (tmp_path / "m").rglob("*") if f.suffix in (".bin", ".pt")]
    again = DiGSegPipeline.from_pretrained(tmp_path / "m")
    rng = np.random.default_rng(3)
    picture = Image.fromarray(rng.integers(0, 255, (128, 64, 3), dtype=np.uint8))
    first = pipeline(picture, ["water", ["building", "roof"]]).masks
    second = again(picture, ["water", ["building", "roof"]]).masks
    assert first.shape == (1, 2, 128, 64)
    assert first.dtype == np.float32
    assert 0 <= first.min() <= first.max() <= 1
    np.testing.assert_array_equal(first, second)
    assert first.std() > 0
    # And as the engine is handed it, by the folder's name.
    tiles = np.moveaxis(np.asarray(picture, np.float32) / 255, -1, 0)[None]
    prompts = [Prompt("water"), Prompt("building", ("roof",))]
    third = load(tmp_path / "m", device="cpu")(tiles, prompts)
    np.testing.assert_allclose(third, first, atol=0.01)


def test_same_seed_same_pathway(checkpoints: dict[str, Path]) -> None:
    one, two, other = (
        DiGSegPipeline.from_stable_diffusion(checkpoints["1.5"], seed=seed).text_pathway
        for seed in (0, 0, 1)
    )
    assert torch.equal(one.shared[0].weight, two.shared[0].weight)
    assert not torch.equal(one.shared[0].weight, other.shared[0].weight)


def test_half_precision_files_and_weights(tmp_path: Path) -> None:
    folder = sd.save(tmp_path / "half", "2.1", variant="fp16")
    assert list((folder / "unet").glob("*.fp16.safetensors"))
    pipeline = DiGSegPipeline.from_stable_diffusion(folder, dtype="bfloat16")
    assert {p.dtype for p in pipeline.unet.parameters()} == {torch.bfloat16}


def test_pickles_are_refused_by_name(tmp_path: Path) -> None:
    folder = sd.save(tmp_path / "m", "1.5")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(ModelError, match=r"diffusion_pytorch_model\.bin is a pickle"):
        DiGSegPipeline.from_stable_diffusion(folder)


def test_code_is_refused(tmp_path: Path) -> None:
    folder = sd.save(tmp_path / "m", "1.5")
    (folder / "unet" / "my_unet.py").write_text("raise SystemExit", encoding="utf-8")
    with pytest.raises(ModelError, match="code"):
        DiGSegPipeline.from_stable_diffusion(folder)


@pytest.mark.parametrize("part", ["unet", "tokenizer", "scheduler", "text_encoder"])
def test_a_missing_part_is_named(tmp_path: Path, part: str) -> None:
    folder = sd.save(tmp_path / "m", "1.5")
    (folder / part).rename(tmp_path / "away")
    with pytest.raises(ModelError, match=part):
        DiGSegPipeline.from_stable_diffusion(folder)


def test_inpainting_and_sdxl_are_refused(tmp_path: Path) -> None:
    folder = sd.save(tmp_path / "m", "1.5")
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    unet.conv_in = torch.nn.Conv2d(9, 8, 3, padding=1)
    unet.register_to_config(in_channels=9)
    unet.save_pretrained(folder / "unet")
    with pytest.raises(ModelError, match="inpainting"):
        DiGSegPipeline.from_stable_diffusion(folder)
    other = sd.save(tmp_path / "xl", "1.5")
    unet = UNet2DConditionModel.from_pretrained(other / "unet")
    unet.register_to_config(addition_embed_type="text_time")
    sd.edit(other / "unet" / "config.json", num_class_embeds=3, class_embed_type="timestep")
    with pytest.raises(ModelError):
        DiGSegPipeline.from_stable_diffusion(other)


def test_truncated_weights_are_an_error_of_ours(tmp_path: Path) -> None:
    folder = sd.save(tmp_path / "m", "1.5")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelError, match="can't be loaded"):
        DiGSegPipeline.from_stable_diffusion(folder)


def test_no_such_folder_and_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(ModelNotFoundError, match="no folder"):
        DiGSegPipeline.from_stable_diffusion(tmp_path / "nowhere")
    with pytest.raises(ModelNotFoundError, match="network"):
        DiGSegPipeline.from_stable_diffusion("nobody/no-such-checkpoint")


def test_unknown_choices(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(UsageError):
        DiGSegPipeline.from_stable_diffusion(checkpoints["1.5"], dtype="int3")
    with pytest.raises(UsageError):
        DiGSegPipeline.from_stable_diffusion(
            checkpoints["1.5"],
            prediction="x0",  # type: ignore[arg-type]
        )
