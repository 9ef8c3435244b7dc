"""A whole pipeline of a few thousand parameters, saved as a model folder."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from tests.model.stable_diffusion import tokenizer
from transformers import CLIPTextConfig, CLIPTextModel

from digseg.model.fresh import Layout, new_pipeline

LAYOUT = Layout(
    channels=(8, 8, 8),
    latents=4,
    detail=(4, 4),
    decoder=(8, 4),
    neck=8,
    encoder_width=0.25,
    match=(16, 8, 8, 8, 4),
    heads=2,
    groups=4,
    hidden=8,
)


def save_tiny(folder: Path, seed: int = 0) -> Path:
    """Save a pipeline with random weights, in the layout of the default model."""
    torch.manual_seed(seed)
    words = tokenizer()
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=77,
            projection_dim=8,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    vae = AutoencoderTiny(
        encoder_block_out_channels=(4, 4, 4, 4),
        decoder_block_out_channels=(4, 4, 4, 4),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
        latent_channels=4,
    )
    new_pipeline(LAYOUT, vae, text, words, seed).save_pretrained(folder)
    return folder
