"""The mask's autoencoder: a small ``AutoencoderTiny`` fitted to masks of the pictures."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from digseg.train.sampler import Sampler

#: The size shipped with the default model: 16 latent channels at 1/8.
SMALL: dict[str, Any] = {
    "latent_channels": 16,
    # No blocks at full resolution, where they would cost most of the time.
    "encoder_block_out_channels": (20, 20, 20, 20),
    "decoder_block_out_channels": (20, 20, 20, 20),
    "num_encoder_blocks": (0, 1, 1, 2),
    "num_decoder_blocks": (2, 1, 1, 0),
}


def fit_mask_autoencoder(
    sampler: Sampler,
    minutes: float,
    config: dict[str, Any] | None = None,
    seed: int = 0,
    start: Any = None,
) -> tuple[Any, dict[str, float]]:
    """Fit an ``AutoencoderTiny`` to masks painted in [-1, 1] on three channels.

    The latents carry a little noise while fitting, which makes the space smooth, and their
    standard deviation becomes the autoencoder's ``scaling_factor`` (so that scaled latents have
    unit variance).

    Parameters
    ----------
    start
        An autoencoder to go on with.

    Returns
    -------
    The autoencoder, and its mean IoU on fresh masks.
    """
    from diffusers import AutoencoderTiny

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    vae = start if start is not None else AutoencoderTiny(**(config or SMALL))
    vae.train()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, weight_decay=1e-4)
    began, budget, step = time.monotonic(), minutes * 60, 0
    while (spent := time.monotonic() - began) < budget or step < 2:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * max(0.02, 1 - spent / budget) if budget else 2e-3
        masks = _crops(sampler, rng, 24)  # [24,1,64,64]
        painted = (masks * 2 - 1).expand(-1, 3, -1, -1)
        latents = vae.encode(painted).latents  # [8,16,H/8,W/8]
        noisy = latents + 0.1 * latents.detach().std() * torch.randn_like(latents)
        grey = vae.decode(noisy).sample.mean(1, keepdim=True)  # [8,1,H,W]
        entropy = functional.binary_cross_entropy_with_logits(3 * grey, masks)
        loss = entropy + 0.2 * functional.mse_loss(grey, masks * 2 - 1)
        loss = loss + 1e-3 * latents.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 50 == 0:
            print(
                f"mask autoencoder: {spent:.0f} s, step {step}, loss {loss.item():.4f}", flush=True
            )
    vae.eval()
    with torch.no_grad():
        masks = _masks(sampler, rng, 24)
        painted = (masks * 2 - 1).expand(-1, 3, -1, -1)
        latents = torch.cat([vae.encode(part).latents for part in torch.split(painted, 4)])
        vae.register_to_config(scaling_factor=float(1 / latents.std()))
        decoded = torch.cat([vae.decode(part).sample for part in torch.split(latents, 4)])
        back = decoded.mean(1, keepdim=True) > 0
        truth = masks > 0.5
        both, either = (back & truth).sum((1, 2, 3)), (back | truth).sum((1, 2, 3))
        iou = (both / either.clamp(min=1))[truth.sum((1, 2, 3)) > 50].mean()
    return vae, {"iou": float(iou), "steps": float(step)}


def _crops(
    sampler: Sampler, rng: np.random.Generator, count: int, size: int = 64, each: int = 4
) -> torch.Tensor:
    """Crops ``[count, 1, size, size]`` around pixels of masks: small, so many in a short time."""
    crops: list[torch.Tensor] = []
    while len(crops) < count:
        for mask in _masks(sampler, rng, 3):
            edge = (mask[0, 1:, 1:] != mask[0, :-1, :-1]).nonzero()
            for _ in range(each):
                spot = [int(rng.integers(0, n)) for n in mask.shape[1:]]
                if len(edge) and rng.random() < 0.8:
                    spot = edge[int(rng.integers(len(edge)))].tolist()
                top, left = (
                    min(max(0, at - size // 2), n - size)
                    for at, n in zip(spot, mask.shape[1:], strict=True)
                )
                crops.append(mask[:, top : top + size, left : left + size])
    return torch.stack(crops[:count])


def _masks(sampler: Sampler, rng: np.random.Generator, count: int) -> torch.Tensor:
    masks: list[np.ndarray] = []
    while len(masks) < count:
        question = sampler.draw(rng)
        masks += [mask for mask in question.masks if mask.any() or rng.random() < 0.1]
    return torch.from_numpy(np.stack(masks[:count])[:, None]).float()
