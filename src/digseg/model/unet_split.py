"""The U-Net in two halves: down (once a picture where it may) and up (once a prompt).

Both call the modules of diffusers' own ``UNet2DConditionModel``; with nothing injected and the
same text on both sides, down then up equals ``unet.forward`` (tested).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from digseg.model.text_pathway import TextPathway


@dataclass(frozen=True)
class DownState:
    """What the way down leaves: the deepest features, the skips, the time embedding."""

    sample: Tensor
    skips: tuple[Tensor, ...]
    time: Tensor

    def take(self, rows: Tensor) -> DownState:
        """The same for the pictures ``rows``, one entry for each prompt."""
        return DownState(
            self.sample[rows], tuple(skip[rows] for skip in self.skips), self.time[rows]
        )


def needs_text_down(unet: Any) -> bool:
    """Whether the way down holds cross-attention (Stable Diffusion does, the default does not)."""
    return any(getattr(block, "has_cross_attention", False) for block in unet.down_blocks)


def attention_bias(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Bool mask ``[B, T]`` of tokens to the additive bias ``[B, 1, T]`` that diffusers uses."""
    if mask is None:
        return None
    return ((1 - mask.to(dtype)) * -10000.0).unsqueeze(1)


def unet_down(
    unet: Any,
    sample: Tensor,
    timestep: Tensor | int,
    features: tuple[Tensor, ...] = (),
    tokens: Tensor | None = None,
    mask: Tensor | None = None,
) -> DownState:
    """The way down.

    Parameters
    ----------
    sample
        Image and mask latents ``[B, C, h, w]``.
    timestep
        One for all, or ``[B]``.
    features
        Added to the outcome of ``conv_in`` and of each down block, as a T2I-Adapter's are.
    tokens, mask
        Token states ``[B, T, d]`` and their mask, for down blocks with cross-attention.
    """
    time = unet.time_embedding(unet.get_time_embed(sample=sample, timestep=timestep))
    bias = attention_bias(mask, sample.dtype)
    sample = unet.conv_in(sample)  # [B,c0,h,w]
    if features:
        sample = sample + features[0]
    skips: tuple[Tensor, ...] = (sample,)
    for level, block in enumerate(unet.down_blocks):
        if getattr(block, "has_cross_attention", False):
            sample, more = block(
                hidden_states=sample,
                temb=time,
                encoder_hidden_states=tokens,
                encoder_attention_mask=bias,
            )
        else:
            sample, more = block(hidden_states=sample, temb=time)
        if level + 1 < len(features):
            sample = sample + features[level + 1]
            more = (*more[:-1], sample)
        skips += tuple(more)
    return DownState(sample, skips, time)


def unet_up(
    unet: Any,
    state: DownState,
    tokens: Tensor,
    mask: Tensor | None = None,
    pathway: TextPathway | None = None,
    text: Tensor | None = None,
) -> Tensor:
    """The middle and the way up.

    Parameters
    ----------
    state
        What `unet_down` gave, one row for each prompt.
    tokens, mask
        Token states ``[B, T, d]`` and their mask, for cross-attention.
    pathway, text
        Text pathway and its embeddings ``[B, hidden]``; `None` leaves the U-Net as it is.

    Returns
    -------
    The U-Net's prediction ``[B, L, h, w]``.
    """
    sample, skips, time = state.sample, state.skips, state.time
    bias = attention_bias(mask, sample.dtype)
    inject = list(pathway.scales) if pathway is not None and text is not None else []
    if inject:
        sample = inject[0](sample, text)
    sample = unet.mid_block(sample, time, encoder_hidden_states=tokens, encoder_attention_mask=bias)
    for index, block in enumerate(unet.up_blocks):
        count = len(block.resnets)
        taken, skips = skips[-count:], skips[:-count]
        # Forced output size, so that odd latents meet their skips (diffusers does the same).
        size = tuple(skips[-1].shape[-2:]) if skips else None
        call: dict[str, Any] = {
            "hidden_states": sample,
            "temb": time,
            "res_hidden_states_tuple": taken,
            "upsample_size": size,
        }
        if getattr(block, "has_cross_attention", False):
            call |= {"encoder_hidden_states": tokens, "encoder_attention_mask": bias}
        sample = block(**call)
        if inject:
            sample = inject[index + 1](sample, text)
    if unet.conv_norm_out is not None:
        sample = unet.conv_act(unet.conv_norm_out(sample))
    return torch.as_tensor(unet.conv_out(sample))
