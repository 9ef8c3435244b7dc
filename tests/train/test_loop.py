"""The loop: a killed run that goes on is the run that was never killed."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.train.test_sampler import LAND, SCAN, picture
from tests.train.tiny import save_tiny

from digseg.errors import ResumeError, UsageError
from digseg.model.adapter import quiet
from digseg.model.pipeline import DiGSegPipeline
from digseg.train.augment import AugmentSettings
from digseg.train.batch import TextCache, collate
from digseg.train.loop import Progress, factor_of, kind_of, train
from digseg.train.mix import Share
from digseg.train.sampler import Sampler
from digseg.train.settings import TrainSettings
from digseg.train.stages import Trainee
from digseg.train.state import FILE

QUICK = TrainSettings(
    steps=4, batch=2, warmup=1, log_every=1, diffusion_share=0.4, latent_weight=0.1, ema=0.5
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model") / "tiny")


def fresh(folder: Path) -> DiGSegPipeline:
    with quiet():
        return DiGSegPipeline.from_pretrained(folder)


def sampler_of(texts: TextCache) -> Sampler:
    small = AugmentSettings(size=64)
    return Sampler(
        [LAND, SCAN],
        {"land": [picture()], "scan": [picture("scan")]},
        {
            "land": Share(region="earth", augment=small),
            "scan": Share(region="torso", prompts=2, augment=small),
        },
        texts.aligned,
    )


def weights(pipeline: DiGSegPipeline) -> dict[str, torch.Tensor]:
    parts = ("unet", "text_pathway", "image_encoder", "mask_decoder")
    return {
        f"{part}.{name}": value.clone()
        for part in parts
        for name, value in getattr(pipeline, part).state_dict().items()
    }


@pytest.mark.parametrize(("stage", "encoder_rate"), [(1, 0.0), (2, 0.0), (2, 1e-4)])
def test_a_resumed_run_is_the_uninterrupted_one(
    folder: Path, tmp_path: Path, stage: int, encoder_rate: float
) -> None:
    settings = replace(QUICK, stage=stage, encoder_rate=encoder_rate)
    whole = train(fresh(folder), sampler_of, settings, tmp_path / "whole")
    train(fresh(folder), sampler_of, settings, tmp_path / "parts", stop_at=2)
    torch.rand(7)  # the state of the process must not matter
    resumed = train(fresh(folder), sampler_of, settings, tmp_path / "parts")
    expected, found = weights(whole), weights(resumed)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    start = weights(fresh(folder))
    assert any(not torch.equal(start[name], expected[name]) for name in expected)
    logs = []
    for run in ("whole", "parts"):
        with (tmp_path / run / "loss.csv").open(newline="") as opened:
            logs.append([(r["step"], r["loss"]) for r in csv.DictReader(opened)])
    assert logs[0] == logs[1]
    assert [step for step, _ in logs[0]] == ["1", "2", "3", "4"]


def test_the_saved_pipeline_is_the_running_mean(folder: Path, tmp_path: Path) -> None:
    done = train(fresh(folder), sampler_of, QUICK, tmp_path)
    saved = weights(fresh(tmp_path / "pipeline"))
    assert all(torch.equal(saved[name], value) for name, value in weights(done).items())
    state = load_file(tmp_path / FILE)
    name = "unet.conv_in.weight"
    assert torch.equal(saved[name], state[f"mean/{name}"])
    assert not torch.equal(saved[name], state[f"model/{name}"])


def test_a_checkpoint_of_something_else_is_refused(folder: Path, tmp_path: Path) -> None:
    train(fresh(folder), sampler_of, replace(QUICK, steps=1), tmp_path)
    with pytest.raises(ResumeError, match="stage 2"):
        train(fresh(folder), sampler_of, replace(QUICK, stage=1), tmp_path)
    with pytest.raises(ResumeError, match="another network"):
        train(fresh(folder), sampler_of, replace(QUICK, encoder_rate=1e-4), tmp_path)
    (tmp_path / FILE).write_bytes(b"half a file")
    with pytest.raises(ResumeError, match="can't be read"):
        train(fresh(folder), sampler_of, QUICK, tmp_path)


def test_what_learns_in_which_stage(folder: Path) -> None:
    def learning(**more: object) -> set[str]:
        settings = replace(QUICK, **more)  # type: ignore[arg-type]
        return {name for name, _ in Trainee(fresh(folder), settings).learning()}

    second = learning()
    assert not any(name.startswith(("vae", "text_encoder")) for name in second)
    assert not any(name.startswith("text_pathway.projection") for name in second)
    assert any(name.startswith("mask_decoder") for name in second)
    assert not any(name.startswith("image_encoder.st") for name in second)
    assert any(name.startswith("image_encoder.lateral") for name in second)
    tuned = learning(encoder_rate=1e-4)
    assert {n.split(".")[2] for n in tuned if n.startswith("image_encoder.stages")} == {
        "4", "5", "6",
    }  # fmt: skip
    first = learning(stage=1)
    assert not any(n.startswith(("mask_decoder", "image_encoder.stages")) for n in first)
    whole = learning(encoder_rate=1e-4, encoder_from=0)
    assert any(n.startswith("image_encoder.stem") for n in whole)
    assert not any(n.startswith("text_pathway") for n in learning(freeze_text_pathway=True))
    adapted = learning(lora_rank=2)
    of_unet = {n for n in adapted if n.startswith("unet.")}
    assert any("lora_A" in n for n in of_unet)
    assert all("lora" in n or n.startswith(("unet.conv_in", "unet.conv_out")) for n in of_unet)


def test_norms_follow_the_weights_that_learn_and_no_others(folder: Path, tmp_path: Path) -> None:
    def norms(pipeline: DiGSegPipeline, first: int) -> tuple[list[bool], list[bool]]:
        now, start = weights(pipeline), weights(fresh(folder))
        before: list[bool] = []
        behind: list[bool] = []
        for name in (n for n in now if n.endswith(("running_mean", "running_var"))):
            stage = -1 if "stem" in name else int(name.split(".")[2])
            moved = not torch.equal(now[name], start[name])
            (behind if stage >= first else before).append(moved)
        return before, behind

    for first in (5, 0):
        settings = replace(QUICK, encoder_rate=1e-4, encoder_from=first, diffusion_share=0.0)
        done = train(fresh(folder), sampler_of, settings, tmp_path / str(first))
        before, behind = norms(done, first or -1)
        assert not any(before)
        assert behind
        assert all(behind)
    frozen = train(fresh(folder), sampler_of, QUICK, tmp_path / "frozen")
    assert not any(norms(frozen, 0)[1])


def test_it_learns(folder: Path, tmp_path: Path) -> None:
    """Forty steps on one picture bring what its masks are judged by down by a third."""
    told: list[Progress] = []
    settings = replace(QUICK, steps=40, rate=5e-3, diffusion_share=0.0, latent_weight=0.0)

    def easy(texts: TextCache) -> Sampler:
        still = AugmentSettings(size=64, scales=(1, 1), turn=0, quarter_turns=False, light=0)
        share = Share(region="earth", prompts=2, augment=still)
        return Sampler([LAND], {"land": [picture()]}, {"land": share}, texts.aligned)

    train(fresh(folder), easy, settings, tmp_path, told.append)
    losses = [done.losses["loss"] for done in told]
    assert np.mean(losses[-5:]) < 0.67 * np.mean(losses[:3])
    assert told[-1].pictures_per_second > 0


def test_half_precision_follows_single_in_one_process(folder: Path, tmp_path: Path) -> None:
    """Close to single precision after two steps, and the weights stay single."""
    settings = replace(QUICK, steps=2, rate=1e-4)
    single = weights(train(fresh(folder), sampler_of, settings, tmp_path / "single"))
    half = weights(
        train(
            fresh(folder), sampler_of, replace(settings, mixed_precision="bf16"), tmp_path / "half"
        )
    )
    assert torch.bfloat16 not in {value.dtype for value in half.values()}
    assert any(not torch.equal(half[name], value) for name, value in single.items())
    for name, value in single.items():
        torch.testing.assert_close(half[name], value, rtol=0, atol=1e-3)


def test_restarts_teach_every_part(folder: Path) -> None:
    """From another mask, part-noised: U-Net, text and mask decoder all get a gradient."""
    torch.manual_seed(0)
    pipeline = fresh(folder)
    trainee = Trainee(pipeline, QUICK).train()
    texts = TextCache(pipeline.tokenizer, pipeline.text_encoder, pipeline.text_pathway)
    drawn = sampler_of(texts).draw(np.random.default_rng(0))
    loss, told = trainee(collate([drawn], texts, torch.device("cpu")), "diffusion")
    loss.backward()
    assert set(told) == {"diffusion", "restart"}
    for part in ("unet", "text_pathway", "mask_decoder", "image_encoder"):
        moved = [
            p.grad.abs().sum() for p in getattr(trainee, part).parameters() if p.grad is not None
        ]
        assert torch.stack(moved).sum() > 0, part


def test_steps_are_shared_out_as_asked() -> None:
    settings = TrainSettings(match_batch=2, match_weight=1.0, match_share=0.6, diffusion_share=0.1)
    rng = np.random.default_rng(0)
    kinds = [kind_of(settings, rng) for _ in range(2000)]
    assert kinds.count("match") / 2000 == pytest.approx(0.6, abs=0.04)
    assert kinds.count("diffusion") / 2000 == pytest.approx(0.1, abs=0.03)
    assert {kind_of(replace(settings, stage=1), rng) for _ in range(20)} == {"diffusion"}
    with pytest.raises(UsageError, match="needs pictures"):
        replace(settings, match_batch=0)


def test_matches_alone_leave_the_unet_in_peace(folder: Path) -> None:
    pipeline = fresh(folder)
    settings = replace(QUICK, batch=1, match_batch=2, match_weight=1.0, match_share=0.5)
    trainee = Trainee(pipeline, settings).train()
    texts = TextCache(*_text_of(pipeline))
    drawn = [sampler_of(texts).draw(np.random.default_rng(n)) for n in range(2)]
    loss, told = trainee(collate(drawn, texts, torch.device("cpu")), "match")
    loss.backward()
    assert set(told) == {"match"}
    assert loss.item() == pytest.approx(told["match"], rel=1e-5)
    assert all(p.grad is None for p in trainee.unet.parameters())
    assert trainee.text_pathway.matches[-1].key.weight.grad.abs().sum() > 0


def test_direct_matches_are_judged_over_all_pictures_and_the_unet_over_the_first(
    folder: Path,
) -> None:
    """More pictures change the loss of the direct matches and no gradient of the U-Net."""
    drawer = sampler_of(TextCache(*_text_of(fresh(folder))))
    rng = np.random.default_rng(0)
    drawn = [drawer.draw(rng) for _ in range(4)]
    gradients, losses = [], []
    for further in (0, 3):
        pipeline = fresh(folder)
        settings = replace(QUICK, batch=1, match_batch=further, match_weight=0.5)
        trainee = Trainee(pipeline, settings).train()
        texts = TextCache(*_text_of(pipeline))
        loss, told = trainee(collate(drawn[: 1 + further], texts, torch.device("cpu")), "mask")
        loss.backward()
        losses.append(told)
        gradients.append([p.grad for p in trainee.unet.parameters() if p.grad is not None])
        key = trainee.text_pathway.matches[-1].key.weight
        assert key.grad is not None
        assert key.grad.abs().sum() > 0
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
    assert losses[0]["entropy"] == pytest.approx(losses[1]["entropy"], rel=1e-5)
    assert losses[0]["match"] != pytest.approx(losses[1]["match"], rel=1e-3)


def _text_of(pipeline: DiGSegPipeline) -> tuple[object, object, object]:
    return pipeline.tokenizer, pipeline.text_encoder, pipeline.text_pathway


def test_gradient_checkpointing_changes_no_gradient(folder: Path) -> None:
    gradients = []
    for saving in (False, True):
        pipeline = fresh(folder)
        trainee = Trainee(pipeline, replace(QUICK, gradient_checkpointing=saving)).train()
        texts = TextCache(pipeline.tokenizer, pipeline.text_encoder, pipeline.text_pathway)
        rng = np.random.default_rng(0)
        batch = collate([sampler_of(texts).draw(rng)], texts, torch.device("cpu"))
        loss, _ = trainee(batch, "mask")
        loss.backward()
        gradients.append({n: p.grad for n, p in trainee.learning() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_the_rate_warms_up_stays_and_falls() -> None:
    settings = replace(QUICK, warmup=10, decay=0.5)
    assert factor_of(0, 0.0, settings) == pytest.approx(0.1)
    assert factor_of(50, 0.4, settings) == 1
    assert factor_of(75, 0.75, settings) == pytest.approx(0.5)
    assert factor_of(100, 1.0, settings) == pytest.approx(0)


def test_settings_refuse_nonsense() -> None:
    with pytest.raises(UsageError, match="stage"):
        TrainSettings(stage=3)
    with pytest.raises(UsageError, match="weight"):
        TrainSettings(match_batch=2)
    with pytest.raises(UsageError, match="precision"):
        TrainSettings(mixed_precision="fp8")
    with pytest.raises(UsageError, match="colour"):
        TrainSettings.from_dict({"colour": 1})
    assert TrainSettings.from_dict(QUICK.to_dict()) == QUICK
