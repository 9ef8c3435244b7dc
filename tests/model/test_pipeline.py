"""The pipeline: real classes at a tiny size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from digseg.errors import ModelError, UsageError
from digseg.model import network
from digseg.model.adapter import load, quiet
from digseg.model.pipeline import DiGSegPipeline
from digseg.model.text_pathway import TextPathway
from digseg.model.unet_split import unet_down, unet_up
from digseg.types import Float32Array


@pytest.fixture
def pipeline(tiny_folder: Path) -> DiGSegPipeline:
    with quiet():
        return DiGSegPipeline.from_pretrained(tiny_folder)


def test_saved_and_loaded_it_answers_the_same(
    pipeline: DiGSegPipeline, tiles: Float32Array, tmp_path: Path
) -> None:
    before = pipeline(tiles, ["water", ["road", "street"]]).masks
    pipeline.save_pretrained(tmp_path / "copy")
    with quiet():
        again = DiGSegPipeline.from_pretrained(tmp_path / "copy")
    np.testing.assert_array_equal(again(tiles, ["water", ["road", "street"]]).masks, before)
    assert before.shape == (2, 2, 64, 96)
    assert before.min() >= 0
    assert before.max() <= 1
    assert not np.allclose(before[:, 0], before[:, 1]), "the prompt changes nothing"


def test_every_component_is_the_real_class(pipeline: DiGSegPipeline) -> None:
    from diffusers import AutoencoderTiny, DDIMScheduler, DiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    assert isinstance(pipeline, DiffusionPipeline)
    assert isinstance(pipeline.unet, UNet2DConditionModel)
    assert isinstance(pipeline.vae, AutoencoderTiny)
    assert isinstance(pipeline.text_encoder, CLIPTextModel)
    assert isinstance(pipeline.tokenizer, CLIPTokenizer)
    assert isinstance(pipeline.scheduler, DDIMScheduler)
    channels = pipeline.image_encoder.config.latent_channels
    assert pipeline.unet.config.in_channels == channels + pipeline.unet.config.out_channels


def test_one_step_is_minus_the_prediction(pipeline: DiGSegPipeline, tiles: Float32Array) -> None:
    """abar = 0 at t = 999, so z_0 = -v, whatever v is."""
    assert float(pipeline.scheduler.alphas_cumprod[999]) == 0
    pipeline.scheduler.set_timesteps(1)
    assert pipeline.scheduler.timesteps.tolist() == [999]
    text = pipeline.encode_prompts([["water"]])
    with torch.no_grad():
        encoded = network.encode_image(pipeline.parts, torch.from_numpy(tiles))
        rows = torch.tensor([0, 1])
        both = text.take(torch.tensor([0, 0]))
        v = network.predict(pipeline.parts, encoded, rows, both, 999)
        logits, z_0 = network.one_step(pipeline.parts, pipeline.scheduler, encoded, rows, both)
    assert torch.equal(z_0, -v)
    stepped = pipeline.scheduler.step(v, 999, torch.zeros_like(v)).pred_original_sample
    torch.testing.assert_close(z_0, stepped)
    np.testing.assert_allclose(
        logits.sigmoid().numpy()[:, 0], pipeline(tiles, "water").masks[:, 0], atol=1e-6
    )


def test_split_unet_equals_forward_where_nothing_is_injected(pipeline: DiGSegPipeline) -> None:
    torch.manual_seed(0)
    unet = pipeline.unet.eval()
    sample = torch.randn(3, unet.config.in_channels, 12, 20)
    tokens = torch.randn(3, 5, unet.config.cross_attention_dim)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]).bool()
    times = torch.tensor([999, 500, 3])
    with torch.no_grad():
        whole = unet(sample, times, tokens, encoder_attention_mask=mask).sample
        split = unet_up(unet, unet_down(unet, sample, times), tokens, mask)
    torch.testing.assert_close(split, whole)


def test_split_unet_equals_forward_with_text_on_the_way_down() -> None:
    """Stable Diffusion's layout: cross-attention in the down blocks too."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 16),
        layers_per_block=2,
        cross_attention_dim=6,
        attention_head_dim=2,
        norm_num_groups=4,
    ).eval()
    sample, tokens = torch.randn(2, 8, 8, 8), torch.randn(2, 4, 6)
    with torch.no_grad():
        whole = unet(sample, 999, tokens).sample
        down = unet_down(unet, sample, 999, tokens=tokens)
        split = unet_up(unet, down, tokens)
    torch.testing.assert_close(split, whole)


def test_a_new_text_pathway_changes_nothing(pipeline: DiGSegPipeline, tiles: Float32Array) -> None:
    pipeline.text_pathway = TextPathway.from_config(pipeline.text_pathway.config)
    text = pipeline.encode_prompts([["water"]])
    silent = network.Text(text.tokens, text.mask, None)
    with torch.no_grad():
        encoded = network.encode_image(pipeline.parts, torch.from_numpy(tiles))
        rows = torch.tensor([0])
        with_pathway, _ = network.one_step(pipeline.parts, pipeline.scheduler, encoded, rows, text)
        without, _ = network.one_step(pipeline.parts, pipeline.scheduler, encoded, rows, silent)
    assert torch.equal(with_pathway, without)


def test_synonyms_are_read_together(pipeline: DiGSegPipeline) -> None:
    single = pipeline.encode_prompts([["water"], ["lake"]])
    together = pipeline.encode_prompts([["water", "lake"]])
    assert single.aligned is not None
    assert together.aligned is not None
    mean = torch.nn.functional.normalize(single.aligned.mean(0), dim=0)
    torch.testing.assert_close(together.aligned[0], mean)
    assert together.mask is not None
    assert single.mask is not None
    assert together.mask.sum() == single.mask.sum()


def test_text_padding_is_not_read(pipeline: DiGSegPipeline, tiles: Float32Array) -> None:
    """A long prompt beside a short one pads the short one; its answer stays."""
    alone = pipeline(tiles, ["water"]).masks
    beside = pipeline(tiles, ["water", "a very long way of saying road indeed"]).masks
    np.testing.assert_allclose(beside[:, :1], alone, atol=1e-6)


def test_steps_and_ensembles(pipeline: DiGSegPipeline, tiles: Float32Array) -> None:
    several = pipeline(tiles, "water", num_inference_steps=3).masks
    np.testing.assert_array_equal(several, pipeline(tiles, "water", num_inference_steps=3).masks)
    found = pipeline(tiles, "water", ensemble_size=3, seed=4)
    members = [
        pipeline.masks_from(
            pipeline.encode_image(torch.from_numpy(tiles)),
            pipeline.encode_prompts([["water"]]),
            1,
            pipeline.noise({"latents": torch.zeros(1, 4, 8, 12)}, 4, member),
        ).numpy()
        for member in range(3)
    ]
    np.testing.assert_allclose(found.masks, np.mean(members, 0), atol=1e-6)
    np.testing.assert_allclose(found.uncertainty, np.std(members, 0), atol=1e-6)
    assert found.uncertainty is not None
    assert found.uncertainty.max() > 0
    other = pipeline(tiles, "water", ensemble_size=3, seed=5)
    assert not np.array_equal(found.masks, other.masks)


def test_pictures_in_many_forms(pipeline: DiGSegPipeline) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    array = np.moveaxis(pixels, -1, 0)[None].astype(np.float32) / np.float32(255)
    picture = Image.fromarray(pixels)
    from_array = pipeline(array, "water").masks
    for same in (picture, [picture], torch.from_numpy(array), pixels, pixels[None]):
        np.testing.assert_allclose(pipeline(same, "water").masks, from_array, atol=1e-5)
    grey = pipeline(pixels[..., 0], "water").masks
    as_picture = pipeline(Image.fromarray(pixels[..., 0]), "water").masks
    np.testing.assert_allclose(grey, as_picture, atol=1e-5)


def test_a_picture_of_any_size_lies_on_black(pipeline: DiGSegPipeline) -> None:
    pixels = np.random.default_rng(0).random((1, 3, 33, 50), np.float32)
    framed = np.zeros((1, 3, 64, 64), np.float32)
    framed[..., :33, :50] = pixels
    masks = pipeline(pixels, "water").masks
    assert masks.shape == (1, 1, 33, 50)
    np.testing.assert_array_equal(masks, pipeline(framed, "water").masks[..., :33, :50])


def test_the_shipped_model_answers_by_its_name() -> None:
    """Stored in half precision, it answers in single: a CPU's U-Net can't mix the two."""
    with quiet():
        shipped = DiGSegPipeline.from_pretrained("digseg-tiny")
    dtypes = {p.dtype for part in (shipped.unet, shipped.text_encoder) for p in part.parameters()}
    assert dtypes == {torch.float32}
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    same = load("digseg-tiny").pipeline(picture, ["water", "road"]).masks
    np.testing.assert_allclose(shipped(picture, ["water", "road"]).masks, same, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "prompt", "words"),
    [
        ((1, 4, 32, 32), "water", r"\[N, 3, H, W\]"),
        ((32, 32, 3), "water", r"\[N, 3, H, W\]"),
        ((1, 3, 32, 32), " ", "empty"),
        ((1, 3, 32, 32), [], "empty"),
    ],
)
def test_what_cannot_be_answered(
    pipeline: DiGSegPipeline, shape: tuple[int, ...], prompt: str | list[str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        pipeline(np.zeros(shape, np.float32), prompt)


def test_pixels_out_of_range(pipeline: DiGSegPipeline) -> None:
    with pytest.raises(UsageError, match=r"\[0, 1\]"):
        pipeline(np.full((1, 3, 32, 32), 200, np.float32), "water")


def test_bytes_with_the_channels_first(pipeline: DiGSegPipeline) -> None:
    with pytest.raises(UsageError, match=r"\[H, W, 3\]"):
        pipeline(np.zeros((3, 32, 32), np.uint8), "water")


def test_pickles_and_code_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    import shutil

    pickled = tmp_path / "pickled"
    shutil.copytree(tiny_folder, pickled)
    weights = next((pickled / "unet").glob("*.safetensors"))
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelError, match="pickle"):
        DiGSegPipeline.from_pretrained(pickled)
    coded = tmp_path / "coded"
    shutil.copytree(tiny_folder, coded)
    (coded / "unet" / "evil.py").write_text("raise SystemExit")
    with pytest.raises(ModelError, match="code"):
        DiGSegPipeline.from_pretrained(coded)


def test_an_incomplete_folder_names_what_is_wrong(tiny_folder: Path, tmp_path: Path) -> None:
    import shutil

    with pytest.raises(ModelError, match=r"model_index\.json"):
        DiGSegPipeline.from_pretrained(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(tiny_folder, broken)
    shutil.rmtree(broken / "unet")
    with quiet(), pytest.raises(ModelError, match="broken"):
        DiGSegPipeline.from_pretrained(broken)
