"""Small Stable Diffusion folders with random weights, saved by diffusers and transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

Kind = Literal["1.5", "2.1", "turbo"]


def tokenizer() -> Any:
    """A byte-level BPE of single letters: any word has tokens."""
    letters = [chr(code) for code in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{a}</w>" for a in letters)]
    vocab = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)


def save(folder: Path, kind: Kind = "1.5", seed: int = 0, **options: Any) -> Path:
    """Save a checkpoint of the layout of ``kind`` at a tiny width."""
    torch.manual_seed(seed)
    words = tokenizer()
    width = 16 if kind == "1.5" else 24
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=width,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=77,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
            hidden_act="quick_gelu" if kind == "1.5" else "gelu",
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16, 16, 16),
        layers_per_block=1,
        cross_attention_dim=width,
        norm_num_groups=4,
        # As in the originals: a fixed number of heads in 1.5, linear projections in 2.1.
        attention_head_dim=2 if kind == "1.5" else (1, 2, 2, 2),
        use_linear_projection=kind != "1.5",
    )
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 4, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=2,
        scaling_factor=0.18215,
    )
    StableDiffusionPipeline(
        vae=vae,
        unet=unet,
        text_encoder=text,
        tokenizer=words,
        scheduler=_scheduler(kind),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, **options)
    return folder


def _scheduler(kind: Kind) -> Any:
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    if kind == "1.5":
        return PNDMScheduler(**betas, skip_prk_steps=True, steps_offset=1)
    if kind == "2.1":
        return DDIMScheduler(
            **betas, prediction_type="v_prediction", clip_sample=False, steps_offset=1
        )
    return EulerDiscreteScheduler(**betas, timestep_spacing="trailing", steps_offset=1)


def edit(file: Path, **changes: Any) -> None:
    """Change entries of a JSON file."""
    values = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(values | changes), encoding="utf-8")
