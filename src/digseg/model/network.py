"""What one pass computes, shared by the pipeline and by training. Tensors in, tensors out.

z_x: image latents; z_t: noisy mask latents; z_0: clean mask latents, all at 1/8 and scaled to
about unit variance. The U-Net reads concat(z_x, z_t) and the text and predicts
v = sqrt(abar) eps - sqrt(1 - abar) z_0, so z_0 = sqrt(abar) z_t - sqrt(1 - abar) v. At t = 999
of a zero-terminal-SNR schedule abar = 0: the one-step answer is -v of z_t = 0, and the way down
is then the same for every prompt of a picture, so it runs once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from digseg.model.image_encoder import ADDED, ImageEncoder
from digseg.model.mask_decoder import MaskDecoder
from digseg.model.text_pathway import TextPathway
from digseg.model.unet_split import DownState, needs_text_down, unet_down, unet_up


@dataclass(frozen=True)
class Text:
    """Prompts as the network reads them, one row for each.

    Parameters
    ----------
    tokens
        Token states ``[B, T, d]`` for cross-attention.
    mask
        Which tokens count, bool ``[B, T]``; `None` for all.
    aligned
        Unit embeddings ``[B, embed_dim]`` for the text pathway; `None` without one.
    """

    tokens: Tensor
    mask: Tensor | None
    aligned: Tensor | None

    def take(self, rows: Tensor) -> Text:
        """The prompts ``rows`` of these."""
        return Text(
            self.tokens[rows],
            None if self.mask is None else self.mask[rows],
            None if self.aligned is None else self.aligned[rows],
        )


@dataclass(frozen=True)
class Parts:
    """The networks of a pipeline; an absent one is `None`."""

    unet: Any
    vae: Any
    text_pathway: TextPathway | None = None
    image_encoder: ImageEncoder | None = None
    mask_decoder: MaskDecoder | None = None

    @property
    def mask_channels(self) -> int:
        """Channels of the mask latents."""
        return int(self.unet.config.out_channels)


def encode_text(
    tokenizer: Any,
    text_encoder: Any,
    pathway: TextPathway | None,
    prompts: Sequence[Sequence[str]],
) -> Text:
    """Prompts, each a phrase and its synonyms, to what the network reads.

    The aligned embeddings of a prompt's phrases are averaged. For cross-attention their tokens
    stand one after the other where padding is masked, and are averaged where it is not (Stable
    Diffusion pads each phrase to 77 tokens and attends to all of them).
    """
    phrases = [phrase for prompt in prompts for phrase in prompt]
    masked = pathway is not None and bool(pathway.config.mask_padding)
    coded = tokenizer(
        phrases,
        padding="longest" if masked else "max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    device = next(text_encoder.parameters()).device
    given = text_encoder(input_ids=coded["input_ids"].to(device))
    states, pooled = given.last_hidden_state, given.pooler_output  # [F,T,d], [F,d]
    aligned = None if pathway is None else pathway.align(pooled)  # [F,embed]
    valid = coded["attention_mask"].to(device).bool()  # [F,T]

    tokens, masks, units, start = [], [], [], 0
    for prompt in prompts:
        mine = slice(start, start + len(prompt))
        start += len(prompt)
        if masked:
            tokens.append(states[mine][valid[mine]])  # [t,d]
        else:
            tokens.append(states[mine].mean(0))
        masks.append(torch.ones(len(tokens[-1]), dtype=torch.bool, device=device))
        if aligned is not None:
            units.append(functional.normalize(aligned[mine].mean(0), dim=-1))
    padded = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)  # [B,T,d]
    mask = torch.nn.utils.rnn.pad_sequence(masks, batch_first=True) if masked else None
    return Text(padded, mask, torch.stack(units) if units else None)


def encode_image(parts: Parts, pixels: Tensor) -> dict[str, Tensor]:
    """Pixels ``[N, 3, H, W]`` in [0, 1] to image latents (and features), once a picture."""
    signed = pixels * 2 - 1
    if parts.image_encoder is not None:
        return parts.image_encoder(signed)  # type: ignore[no-any-return]
    posterior = parts.vae.encode(signed)
    latents = (
        posterior.latent_dist.mode() if hasattr(posterior, "latent_dist") else posterior.latents
    )
    shift = getattr(parts.vae.config, "shift_factor", None) or 0.0
    return {"latents": (latents - shift) * parts.vae.config.scaling_factor}


def encode_mask(parts: Parts, mask: Tensor) -> Tensor:
    """Masks ``[B, 1, H, W]`` in [0, 1] to clean mask latents ``[B, L, H/8, W/8]``."""
    painted = (mask * 2 - 1).expand(-1, 3, -1, -1)
    posterior = parts.vae.encode(painted)
    latents = (
        posterior.latent_dist.mode() if hasattr(posterior, "latent_dist") else posterior.latents
    )
    shift = getattr(parts.vae.config, "shift_factor", None) or 0.0
    return torch.as_tensor((latents - shift) * parts.vae.config.scaling_factor)


def decode_mask(
    parts: Parts, latents: Tensor, encoded: Mapping[str, Tensor], rows: Tensor, text: Text
) -> Tensor:
    """Clean mask latents ``[B, L, h, w]`` to logits ``[B, 1, 8 h, 8 w]``.

    Through the mask decoder where there is one, else through the VAE's own decoder, whose mean
    over channels, clamped to [-1, 1] and mapped to [0, 1], is turned into a logit.
    """
    if parts.mask_decoder is not None:
        return parts.mask_decoder(  # type: ignore[no-any-return]
            latents, encoded, rows, parts.text_pathway, embed(parts, text)
        )
    shift = getattr(parts.vae.config, "shift_factor", None) or 0.0
    painted = parts.vae.decode(latents / parts.vae.config.scaling_factor + shift).sample
    soft = painted.mean(1, keepdim=True).clamp(-1, 1) / 2 + 0.5  # [B,1,H,W]
    return torch.logit(soft, eps=1e-4)


def match(parts: Parts, encoded: Mapping[str, Tensor], rows: Tensor, text: Text) -> Tensor | None:
    """Logits ``[B, 1, H/2, W/2]`` of the direct matches alone, without the U-Net."""
    e = embed(parts, text)
    if parts.text_pathway is None or e is None:
        return None
    return parts.text_pathway.match(encoded, e, rows)


def embed(parts: Parts, text: Text) -> Tensor | None:
    """What each injection of the text pathway reads, ``[B, hidden]``."""
    if parts.text_pathway is None or text.aligned is None:
        return None
    return parts.text_pathway(text.aligned)  # type: ignore[no-any-return]


def way_down(
    parts: Parts, encoded: Mapping[str, Tensor], timestep: int | Tensor, noisy: Tensor | None = None
) -> DownState:
    """The way down of the pictures themselves (``noisy`` = `None` means z_t = 0)."""
    z_x = encoded["latents"]
    if noisy is None:
        noisy = z_x.new_zeros(len(z_x), parts.mask_channels, *z_x.shape[-2:])
    return unet_down(parts.unet, torch.cat([z_x, noisy], 1), timestep, features_of(encoded))


def features_of(encoded: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
    """The image encoder's features for the U-Net's way down; empty without one."""
    return tuple(encoded[name] for name in ADDED if name in encoded)


def predict(
    parts: Parts,
    encoded: Mapping[str, Tensor],
    rows: Tensor,
    text: Text,
    timestep: int | Tensor,
    noisy: Tensor | None = None,
    down: DownState | None = None,
) -> Tensor:
    """The U-Net's prediction ``[B, L, h, w]`` for B prompts of N pictures.

    Parameters
    ----------
    rows
        For each prompt the picture (0 to N - 1) it is asked of.
    timestep
        One for all, or ``[B]``.
    noisy
        Noisy mask latents ``[B, L, h, w]``; `None` means zeros, and lets the way down run once
        a picture where it holds no text.
    down
        The way down of the pictures at this timestep with zeros, where it was kept.
    """
    if noisy is None and not needs_text_down(parts.unet):
        state = (down or way_down(parts, encoded, timestep)).take(rows)
    else:
        z_x = encoded["latents"][rows]
        if noisy is None:
            noisy = z_x.new_zeros(len(z_x), parts.mask_channels, *z_x.shape[-2:])
        features = tuple(feature[rows] for feature in features_of(encoded))
        state = unet_down(
            parts.unet, torch.cat([z_x, noisy], 1), timestep, features, text.tokens, text.mask
        )
    return unet_up(
        parts.unet, state, text.tokens, text.mask, parts.text_pathway, embed(parts, text)
    )


def clean(scheduler: Any, prediction: Tensor, timestep: int, noisy: Tensor | None) -> Tensor:
    """z_0 from the U-Net's prediction at ``timestep`` (``noisy`` = `None` means zeros).

    Raises
    ------
    ValueError
        The schedule predicts eps, which says nothing at zero signal-to-noise.
    """
    abar = scheduler.alphas_cumprod[timestep].to(prediction)
    z_t = torch.zeros_like(prediction) if noisy is None else noisy
    kind = scheduler.config.prediction_type
    if kind == "v_prediction":
        return torch.as_tensor(abar.sqrt() * z_t - (1 - abar).sqrt() * prediction)
    if kind == "sample":
        return prediction
    if float(abar) < 1e-6:
        raise ValueError("An eps-prediction says nothing at zero signal-to-noise: use v-prediction")
    return torch.as_tensor((z_t - (1 - abar).sqrt() * prediction) / abar.sqrt())


def last_timestep(scheduler: Any) -> int:
    """The timestep of a single trailing step: 999 of 1,000."""
    return int(scheduler.config.num_train_timesteps) - 1


def one_step(
    parts: Parts,
    scheduler: Any,
    encoded: Mapping[str, Tensor],
    rows: Tensor,
    text: Text,
    down: DownState | None = None,
) -> tuple[Tensor, Tensor]:
    """Deterministic one-step answer: logits ``[B, 1, H, W]`` and z_0 ``[B, L, H/8, W/8]``."""
    timestep = last_timestep(scheduler)
    v = predict(parts, encoded, rows, text, timestep, down=down)  # [B,L,h,w]
    z_0 = clean(scheduler, v, timestep, None)  # [B,L,h,w]
    return decode_mask(parts, z_0, encoded, rows, text), z_0
