"""New pipelines with random weights: the layout of ``digseg-tiny``, at any width."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch

from digseg.model.image_encoder import ImageEncoder
from digseg.model.mask_decoder import MaskDecoder
from digseg.model.pipeline import DiGSegPipeline
from digseg.model.text_pathway import TextPathway


@dataclass(frozen=True)
class Layout:
    """Sizes of a pipeline.

    Parameters
    ----------
    channels
        Of the U-Net's three levels, 1/8, 1/16 and 1/32.
    latents
        Channels of image latents and of mask latents.
    detail
        Channels of the image features at 1/2 and 1/4.
    decoder
        Width of the mask decoder at 1/4 and 1/2.
    neck, encoder_width
        Width of the image encoder's neck; factor on its trunk.
    match
        Channels of the features made for being matched, at 1/32 to 1/2.
    heads, groups
        Attention heads (diffusers calls their number ``attention_head_dim``), norm groups.
    hidden
        Width of the text pathway.
    """

    channels: tuple[int, int, int] = (48, 96, 160)
    latents: int = 16
    detail: tuple[int, int] = (16, 32)
    decoder: tuple[int, int] = (32, 16)
    neck: int = 96
    encoder_width: float = 1.0
    match: tuple[int, ...] = (256, 192, 128, 64, 32)
    heads: int = 4
    groups: int = 16
    hidden: int = 192


def scheduler() -> Any:
    """DDIM, trailing spacing, zero terminal SNR, v-prediction: one step is deterministic."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


def new_unet(layout: Layout, text_dim: int) -> Any:
    """A ``UNet2DConditionModel`` whose way down holds no text, so that it runs once a picture."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=32,
        in_channels=2 * layout.latents,
        out_channels=layout.latents,
        down_block_types=("DownBlock2D",) * 3,
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        block_out_channels=layout.channels,
        layers_per_block=1,
        cross_attention_dim=text_dim,
        attention_head_dim=layout.heads,
        norm_num_groups=layout.groups,
    )


def new_pipeline(
    layout: Layout, vae: Any, text_encoder: Any, tokenizer: Any, seed: int = 0
) -> DiGSegPipeline:
    """A pipeline around a given mask autoencoder and text tower, everything else random."""
    torch.manual_seed(seed)
    text_dim = int(text_encoder.config.hidden_size)
    low, middle, deep = layout.channels
    return DiGSegPipeline(
        vae=vae,
        unet=new_unet(layout, text_dim),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=scheduler(),
        text_pathway=TextPathway(
            text_dim=text_dim,
            embed_dim=int(text_encoder.config.projection_dim),
            channels=(deep, deep, middle, low),
            hidden=layout.hidden,
            detail_channels=layout.decoder,
            direct_channels=(low, low, *reversed(layout.detail)),
            match_channels=layout.match,
        ),
        image_encoder=ImageEncoder(
            latent_channels=layout.latents,
            unet_channels=layout.channels,
            detail_channels=layout.detail,
            neck_channels=layout.neck,
            match_channels=layout.match,
            width=layout.encoder_width,
        ),
        mask_decoder=MaskDecoder(
            latent_channels=layout.latents,
            channels=layout.decoder,
            detail_channels=layout.detail,
        ),
    )


def add_matching(pipeline: DiGSegPipeline, channels: tuple[int, ...] = Layout.match) -> None:
    """Give a pipeline a `MatchNeck`, or the one it has further coarse scales.

    No answer changes at first: what is new is matched with zeros, and adds zeros to what was.

    Parameters
    ----------
    channels
        Coarse to fine, the last at 1/2; they end with those that the pipeline has.

    Raises
    ------
    ValueError
        The pipeline's own neck is another one, or has these scales.
    """
    had = len(pipeline.image_encoder.config.match_channels)
    added = len(channels) - had
    if added < 1:
        raise ValueError(f"{channels} adds no scale to the {had} that there are")
    changed = {}
    for name in ("image_encoder", "text_pathway"):
        old = getattr(pipeline, name)
        # As an argument: diffusers takes what a config had by default for its default again.
        new = type(old).from_config(old.config, match_channels=channels)
        given = {_moved(key, added): value for key, value in old.state_dict().items()}
        if any(new.state_dict()[key].shape != given[key].shape for key in given):
            raise ValueError(f"the weights of {name} don't fit {channels}")
        new.load_state_dict(given, strict=False)
        changed[name] = new.to(old.dtype).train(old.training)
    if had:
        joint = changed["image_encoder"].match_neck.down[added - 1]
        torch.nn.init.zeros_(joint.weight)
        torch.nn.init.zeros_(joint.bias)
    pipeline.register_modules(**changed)


def _moved(key: str, added: int) -> str:
    """The name of a weight where ``added`` scales come before those of the neck."""
    return re.sub(
        r"^(match_neck\.\w+|matches)\.(\d+)", lambda m: f"{m[1]}.{int(m[2]) + added}", key
    )
