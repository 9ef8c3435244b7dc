"""The distilled mask decoder answers as the full decoder it was made from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.evaluate.labelled_sets import write_set
from tests.model import stable_diffusion as sd
from tests.train.tiny import save_tiny

from digseg.errors import OutputExistsError, UsageError
from digseg.model import DiGSegPipeline, load, network
from digseg.prompts import Prompt
from digseg.train.distil import DistilSettings, compare, distil_mask_decoder, distil_pipeline
from digseg.train.distil_job import distil_model
from digseg.train.run import prepare
from digseg.train.shapes import draw_shapes, masks_of

FEW = DistilSettings(steps=3, batch=2, size=64, channels=(8, 4))


class Folded(torch.nn.Module):
    """A VAE that loses nothing: each latent holds the 64 pixels below it, times ten."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(10.0))
        self.config = SimpleNamespace(scaling_factor=0.5, shift_factor=None)

    def encode(self, pixels: torch.Tensor) -> SimpleNamespace:
        grey = pixels.mean(1, keepdim=True)
        return SimpleNamespace(latents=torch.nn.functional.pixel_unshuffle(grey, 8) * self.weight)

    def decode(self, latents: torch.Tensor) -> SimpleNamespace:
        grey = torch.nn.functional.pixel_shuffle(latents / self.weight, 8)
        return SimpleNamespace(sample=grey.expand(-1, 3, -1, -1))


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sd")
    folder = sd.save(root / "turbo", "turbo")
    DiGSegPipeline.from_stable_diffusion(folder).save_pretrained(root / "converted")
    return root / "converted"


def test_it_learns_what_the_full_decoder_says() -> None:
    torch.set_num_threads(1)
    vae = Folded()
    settings = DistilSettings(steps=160, batch=4, size=64, channels=(48, 24), rate=4e-3)
    _, found = distil_mask_decoder(vae, draw_shapes, settings)
    assert found["full_iou"] == 1.0  # nothing is lost on the way through this one
    assert found["steps"] == 160
    # Half resolution and a few seconds: most of it, and not by saying yes everywhere.
    assert found["distilled_iou"] > 0.75
    assert found["agreement"] == found["distilled_iou"]


def test_the_vae_is_left_as_it_is_and_the_seed_decides(converted: Path) -> None:
    pipeline = DiGSegPipeline.from_pretrained(converted)
    vae = pipeline.vae.train()
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    one, _ = distil_mask_decoder(vae, settings=FEW)
    two, _ = distil_mask_decoder(vae, settings=FEW)
    other, _ = distil_mask_decoder(vae, settings=DistilSettings(**(vars(FEW) | {"seed": 1})))
    assert vae.training
    assert all(parameter.requires_grad for parameter in vae.parameters())
    for name, value in vae.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name]), name
    assert not torch.equal(one.exit.weight, other.exit.weight)
    assert one.config.latent_channels == 4
    assert one.add_half is None
    assert one.add_quarter is None


def test_compare_counts_as_numpy_does() -> None:
    rng = np.random.default_rng(4)
    masks = draw_shapes(rng, 6, 40)
    moved = np.roll(masks, 3, axis=2)

    def student(latents: torch.Tensor, details: object, rows: torch.Tensor) -> torch.Tensor:
        grey = torch.nn.functional.pixel_shuffle(latents / 0.5 / 10, 8)
        return grey.roll(3, dims=3)  # the mask three pixels to the right

    parts = network.Parts(unet=None, vae=Folded())
    given = torch.from_numpy(masks[:, None]).float()
    found = compare(parts, student, given, at_once=4)  # type: ignore[arg-type]
    expected = (masks & moved).sum() / (masks | moved).sum()
    assert found["full_iou"] == 1.0
    assert found["distilled_iou"] == pytest.approx(expected, abs=1e-12)
    assert 0.1 < expected < 0.999


def test_a_model_folder_gets_its_decoder_and_nothing_else_changes(
    converted: Path, tmp_path: Path
) -> None:
    (converted / "LICENSE").write_text("theirs", encoding="utf-8")
    info, found = distil_model(converted, tmp_path / "out", settings=FEW)
    assert info.components["mask_decoder"] == "MaskDecoder"
    assert (tmp_path / "out" / "LICENSE").read_text(encoding="utf-8") == "theirs"
    assert f"{found['distilled_iou']:.4f}" in info.card
    for part in ("unet", "vae"):
        name = "diffusion_pytorch_model.safetensors"
        old, new = (load_file(root / part / name) for root in (converted, tmp_path / "out"))
        assert set(old) == set(new)
        assert all(torch.equal(old[key], new[key]) for key in old)
    # In use it is the small decoder that answers.
    tiles = np.random.default_rng(0).random((1, 3, 64, 128), dtype=np.float32)
    model = load(tmp_path / "out", device="cpu")
    maps = model(tiles, [Prompt("water")])
    parts = model.pipeline.parts
    with torch.inference_mode():
        encoded = model.pipeline.encode_image(torch.from_numpy(tiles))
        text = model.pipeline.encode_prompts([["water"]])
        rows = torch.zeros(1, dtype=torch.long)
        _, z_0 = network.one_step(parts, model.pipeline.scheduler, encoded, rows, text)
        expected = model.pipeline.mask_decoder(z_0, {}, rows).sigmoid().numpy()
    np.testing.assert_allclose(maps, expected, atol=1e-6)


def test_half_precision_stays_half(converted: Path, tmp_path: Path) -> None:
    pipeline = DiGSegPipeline.from_pretrained(converted)
    pipeline.to(torch.float16).save_pretrained(tmp_path / "half")
    distil_model(tmp_path / "half", tmp_path / "out", settings=FEW)
    for file in (tmp_path / "out").rglob("*.safetensors"):
        kinds = {value.dtype for value in load_file(file).values() if value.is_floating_point()}
        assert kinds == {torch.float16}, file


def test_refusals(converted: Path, tmp_path: Path) -> None:
    own = DiGSegPipeline.from_pretrained(save_tiny(tmp_path / "tiny"))
    with pytest.raises(UsageError, match="mask decoder already"):
        distil_pipeline(own, settings=FEW)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(OutputExistsError):
        distil_model(converted, tmp_path / "full", settings=FEW)
    with pytest.raises(UsageError):
        DistilSettings(minutes=0)
    with pytest.raises(UsageError):
        DistilSettings(size=50)


def test_crops_of_labels(tmp_path: Path) -> None:
    labels = np.zeros((90, 120), np.uint8)
    labels[20:60, 30:80] = 2
    labels[70:, :] = 255
    write_set(tmp_path / "s", {"train": {"a": labels}}, [(2, "roof", ())])
    draw = masks_of(prepare(tmp_path / "s"))
    drawn = draw(np.random.default_rng(0), 40, 32)
    windows = np.lib.stride_tricks.sliding_window_view(labels == 2, (32, 32)).reshape(-1, 32 * 32)
    double = (labels == 2).repeat(2, 0).repeat(2, 1)
    larger = np.lib.stride_tricks.sliding_window_view(double, (32, 32)).reshape(-1, 32 * 32)
    known = {window.tobytes() for window in np.concatenate([windows, larger])}
    assert {mask.tobytes() for mask in drawn.reshape(40, -1)} <= known
    assert drawn.any(axis=(1, 2)).mean() > 0.5
    only = np.full((64, 64), 255, np.uint8)
    write_set(tmp_path / "t", {"train": {"a": only}}, [(1, "roof", ())])
    assert not masks_of(prepare(tmp_path / "t"))(np.random.default_rng(0), 5, 32).any()


def test_shapes_are_drawn_from_the_generator_alone() -> None:
    one, two = (draw_shapes(np.random.default_rng(7), 60, 48) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert one.shape == (60, 48, 48)
    share = one.mean(axis=(1, 2))
    assert (share == 0).any()
    assert ((share > 0.05) & (share < 0.6)).sum() > 20
