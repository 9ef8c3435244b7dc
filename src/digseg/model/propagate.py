"""Starting from an answer in place of noise, which only a diffusion segmenter can do.

The neighbouring slice's soft masks are painted and encoded as z_0, noised to a timestep t on the
way, z_t = sqrt(abar_t) z_0 + sqrt(1 - abar_t) eps, and denoised from there on this slice's
picture. Little noise keeps the neighbour's shape, much noise forgets it.
"""

from __future__ import annotations

import torch

from digseg.errors import UsageError
from digseg.model import network
from digseg.model.pipeline import PROMPTS_AT_ONCE, DiGSegPipeline
from digseg.types import Float32Array


def continued(
    pipeline: DiGSegPipeline,
    tiles: Float32Array,
    text: network.Text,
    previous: Float32Array,
    strength: float,
    seed: int = 0,
) -> Float32Array:
    """Soft masks of tiles, started from other masks; one step, deterministic.

    Parameters
    ----------
    tiles
        ``float32 [N, 3, H, W]`` in [0, 1].
    text
        K encoded prompts.
    previous
        ``float32 [N, K, H, W]`` in [0, 1].
    strength
        Timestep as a share of all, in (0, 1]; 1 starts from noise alone.

    Returns
    -------
    ``float32 [N, K, H, W]`` in [0, 1].

    Raises
    ------
    UsageError
        The strength is outside its range.
    """
    if not 0 < strength <= 1:
        raise UsageError(f"The strength of propagation lies between 0 and 1, not {strength}.")
    parts, scheduler = pipeline.parts, pipeline.scheduler
    device, dtype = pipeline.unet.device, pipeline.unet.dtype
    timestep = max(0, round(strength * (network.last_timestep(scheduler) + 1)) - 1)
    abar = scheduler.alphas_cumprod[timestep].to(device, dtype)
    count, asked = previous.shape[:2]
    with torch.inference_mode():
        pixels = torch.from_numpy(tiles).to(device, dtype)  # [N,3,H,W]
        encoded = pipeline.encode_image(pixels)
        noise = pipeline.noise(encoded, seed, 0)  # [1,L,h,w]
        painted = torch.from_numpy(previous.reshape(-1, 1, *previous.shape[2:]))
        painted = painted.to(device, dtype)  # [N*K,1,H,W]
        picture = torch.arange(count, device=device).repeat_interleave(asked)
        phrase = torch.arange(asked, device=device).repeat(count)
        masks = []
        for start in range(0, count * asked, PROMPTS_AT_ONCE):
            here = slice(start, start + PROMPTS_AT_ONCE)
            rows, mine = picture[here], text.take(phrase[here])
            z_0 = network.encode_mask(parts, painted[here])  # [B,L,h,w]
            z_t = abar.sqrt() * z_0 + (1 - abar).sqrt() * noise
            prediction = network.predict(parts, encoded, rows, mine, timestep, z_t)
            z_0 = network.clean(scheduler, prediction, timestep, z_t)
            masks.append(network.decode_mask(parts, z_0, encoded, rows, mine).sigmoid())
        found = torch.cat(masks)[:, 0].float().cpu().numpy()  # [N*K,H,W]
    result: Float32Array = found.reshape(count, asked, *found.shape[-2:])
    return result
