"""`DiGSegPipeline`: text in, soft masks out; a diffusers pipeline in every respect."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from torch import Tensor
from torch.nn import functional

from digseg.errors import ModelError, UsageError
from digseg.model import network
from digseg.model.image_encoder import ImageEncoder
from digseg.model.mask_decoder import MaskDecoder
from digseg.model.pictures import to_pixels
from digseg.model.registry import DEFAULT, folder_of, refuse_code
from digseg.model.text_pathway import TextPathway
from digseg.model.unet_split import DownState, needs_text_down
from digseg.types import Float32Array

#: Prompts that go through the U-Net at once: bounds memory, changes no answer.
PROMPTS_AT_ONCE = 8


@dataclass
class DiGSegOutput(BaseOutput):  # type: ignore[misc]
    """What a call gives.

    Parameters
    ----------
    masks
        Soft masks ``float32 [N, K, H, W]`` in [0, 1], one for each picture and prompt.
    uncertainty
        Standard deviation over the ensemble, of the same shape; `None` for a single member.
    """

    masks: Float32Array
    uncertainty: Float32Array | None = None


class DiGSegPipeline(DiffusionPipeline):  # type: ignore[misc]
    """Segment pictures by text with a latent diffusion model (DiGSeg, arXiv 2604.24575).

    Parameters
    ----------
    vae
        Autoencoder of masks (``AutoencoderTiny`` or ``AutoencoderKL``); of pictures too where
        there is no image encoder.
    unet
        ``UNet2DConditionModel`` on concatenated image and mask latents.
    text_encoder, tokenizer
        ``CLIPTextModel`` and ``CLIPTokenizer``.
    scheduler
        ``DDIMScheduler`` with trailing spacing and zero terminal SNR.
    text_pathway
        Language features for every scale, parallel to cross-attention.
    image_encoder
        Gives image latents and features in the VAE's place; absent in a converted checkpoint.
    mask_decoder
        One-channel decoder in the VAE's place.
    recommended
        What runs do with this model unless they are told otherwise: ``"propagate"`` for
        the second pass over volumes (true, or the modalities that it helps, such as
        ``["CT"]``), ``"canvas"`` for the side of the black canvas on which
        small planes are shown, ``"plane"`` for the longer side at which a scan's planes are
        shown, both in pixels; ``"near_infrared"`` for the least pixel, in metres, from which
        near infrared, red and green are shown in place of natural colour; ``"scales"`` for
        how many times larger pictures without a size on the ground are seen, the answers at
        several being averaged.
    """

    model_cpu_offload_seq = "text_encoder->image_encoder->unet->mask_decoder->vae"
    # A list: diffusers adds it to one.
    _optional_components: ClassVar[list[str]] = ["text_pathway", "image_encoder", "mask_decoder"]

    def __init__(
        self,
        vae: Any,
        unet: Any,
        text_encoder: Any,
        tokenizer: Any,
        scheduler: Any,
        text_pathway: TextPathway | None = None,
        image_encoder: ImageEncoder | None = None,
        mask_decoder: MaskDecoder | None = None,
        recommended: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            unet=unet,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            scheduler=scheduler,
            text_pathway=text_pathway,
            image_encoder=image_encoder,
            mask_decoder=mask_decoder,
        )
        self.register_to_config(recommended=dict(recommended or {}))

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike[str] = DEFAULT, **kwargs: Any
    ) -> DiGSegPipeline:
        """Load a pipeline folder (safetensors only, no remote code, no network for a folder).

        Parameters
        ----------
        folder
            A folder, the name of a model of `digseg.model.registry`, or an id on the hub.
        kwargs
            Those of diffusers. The precision is float32 unless one is given, whatever the weights
            are stored in.

        Raises
        ------
        ModelError
            The folder is no pipeline of this kind, or weights are missing or unreadable.
        """
        path = folder_of(folder)
        if path.is_dir() and not (path / "model_index.json").exists():
            raise ModelError(f"{path} is no model: it has no model_index.json.")
        kwargs.setdefault("use_safetensors", True)
        if path.is_dir():
            kwargs.setdefault("local_files_only", True)
            refuse_code(path)
        try:
            source = path if path.is_dir() else folder
            pipeline: DiGSegPipeline = super().from_pretrained(source, **kwargs)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            if isinstance(error, ModelError):
                raise
            first = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise ModelError(f"The model {folder} can't be loaded: {first}") from error
        if "dtype" not in kwargs and "torch_dtype" not in kwargs:
            # transformers keeps the stored precision, diffusers doesn't: they have to agree.
            for part in pipeline.components.values():
                if isinstance(part, torch.nn.Module):
                    torch.nn.Module.to(part, torch.float32)  # the class's own warns of nothing
        return pipeline

    @classmethod
    def from_stable_diffusion(cls, folder: str | os.PathLike[str], **kwargs: Any) -> DiGSegPipeline:
        """A pipeline made of a Stable Diffusion checkpoint, see `digseg.model.convert`."""
        from digseg.model.convert import from_stable_diffusion

        return from_stable_diffusion(folder, **kwargs)

    @property
    def parts(self) -> network.Parts:
        """The networks, as the functions of `digseg.model.network` take them."""
        return network.Parts(
            self.unet, self.vae, self.text_pathway, self.image_encoder, self.mask_decoder
        )

    @property
    def multiple(self) -> int:
        """The network sees pictures whose sides are multiples of this many pixels."""
        levels = len(self.unet.config.block_out_channels) - 1
        return int(8 * 2**levels)

    def check_inputs(
        self,
        image: Tensor,
        prompt: Sequence[Sequence[str]],
        num_inference_steps: int,
        ensemble_size: int,
    ) -> None:
        """Refuse what can't be answered, in one place.

        Raises
        ------
        UsageError
            A shape, a range or a number is wrong.
        """
        if image.ndim != 4 or image.shape[1] != 3:
            raise UsageError(f"Pictures have the shape [N, 3, H, W], not {list(image.shape)}.")
        low, high = float(image.min()), float(image.max())
        if not (low >= -1e-4 and high <= 1 + 1e-4):
            raise UsageError(f"Pixels lie in [0, 1], not in [{low:.3g}, {high:.3g}].")
        if not prompt or any(not p or any(not t.strip() for t in p) for p in prompt):
            raise UsageError("A prompt is empty: give each prompt at least one word.")
        if num_inference_steps < 1 or ensemble_size < 1:
            raise UsageError("At least one step and one ensemble member are needed.")

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        prompt: str | Sequence[str | Sequence[str]],
        num_inference_steps: int = 1,
        ensemble_size: int = 1,
        seed: int = 0,
        return_dict: bool = True,
    ) -> DiGSegOutput | tuple[Float32Array, Float32Array | None]:
        """Segment.

        Parameters
        ----------
        image
            A PIL picture, several of one size, bytes ``[H, W]``, ``[H, W, 3]`` or
            ``[N, H, W, 3]`` (NumPy), or pixels ``[N, 3, H, W]`` in [0, 1] (NumPy or torch).
            Up to the next multiple of `multiple` the network sees black.
        prompt
            K phrases; a list of phrases in the place of one is read together, as synonyms.
        num_inference_steps
            1 is the deterministic one-step answer, from a mask latent of zeros.
        ensemble_size
            More than 1 starts each member from other noise and takes mean and spread.
        seed
            Seed of the noise. Equal tiles get equal noise, whatever the batch.

        Returns
        -------
        `DiGSegOutput`, or its two entries as a tuple.
        """
        # 0. Inputs
        device = self.unet.device
        pixels = to_pixels(image).to(device=device, dtype=self.unet.dtype)  # [N,3,H,W]
        asked = [prompt] if isinstance(prompt, str) else list(prompt)
        prompts = [[p] if isinstance(p, str) else list(p) for p in asked]
        self.check_inputs(pixels, prompts, num_inference_steps, ensemble_size)
        rows, columns = pixels.shape[-2:]
        beyond = (0, -columns % self.multiple, 0, -rows % self.multiple)
        pixels = functional.pad(pixels, beyond)  # black, as beyond a picture in training

        # 1. Text and picture, each once
        text = self.encode_prompts(prompts)  # K rows
        encoded = self.encode_image(pixels)  # latents [N,C,H/8,W/8], features

        # 2. Denoise and decode, every prompt of every picture
        members = [
            self.masks_from(encoded, text, num_inference_steps, self.noise(encoded, seed, member))
            if ensemble_size > 1
            else self.masks_from(encoded, text, num_inference_steps)
            for member in range(ensemble_size)
        ]  # [N,K,H,W] each

        # 3. Mean and spread of the ensemble
        stacked = torch.stack(members)[..., :rows, :columns]  # [E,N,K,H,W]
        masks = stacked.mean(0).float().cpu().numpy()
        spread = stacked.std(0, correction=0).float().cpu().numpy() if ensemble_size > 1 else None
        return DiGSegOutput(masks, spread) if return_dict else (masks, spread)

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[Sequence[str]]) -> network.Text:
        """Prompts, each a phrase and its synonyms, to K rows of text."""
        return network.encode_text(self.tokenizer, self.text_encoder, self.text_pathway, prompts)

    @torch.no_grad()
    def encode_image(self, pixels: Tensor) -> dict[str, Tensor]:
        """Pixels ``[N, 3, H, W]`` in [0, 1] to latents and features, once a picture."""
        return network.encode_image(self.parts, pixels)

    @torch.no_grad()
    def masks_from(
        self,
        encoded: Mapping[str, Tensor],
        text: network.Text,
        steps: int = 1,
        noise: Tensor | None = None,
        down: DownState | None = None,
    ) -> Tensor:
        """Soft masks ``[N, K, H, W]`` of encoded pictures.

        Parameters
        ----------
        noise
            z_t to begin with, ``[1, L, H/8, W/8]``; `None` begins with zeros.
        down
            The one-step way down of the pictures, where it was kept; then of ``encoded`` only
            the mask decoder's features are read.
        """
        parts, scheduler = self.parts, self.scheduler
        asked = len(text.tokens)
        count = len(encoded["latents"] if down is None else down.sample)
        shared = steps == 1 and noise is None and not needs_text_down(self.unet)
        if down is None and shared:
            down = network.way_down(parts, encoded, network.last_timestep(scheduler))
        picture = torch.arange(count, device=self.unet.device).repeat_interleave(asked)
        phrase = torch.arange(asked, device=self.unet.device).repeat(count)
        masks = []
        for start in range(0, count * asked, PROMPTS_AT_ONCE):
            rows = picture[start : start + PROMPTS_AT_ONCE]
            mine = text.take(phrase[start : start + PROMPTS_AT_ONCE])
            if steps == 1 and noise is None:
                logits, _ = network.one_step(parts, scheduler, encoded, rows, mine, down)
            else:
                z_0 = self._denoise(encoded, rows, mine, steps, noise)  # [B,L,h,w]
                logits = network.decode_mask(parts, z_0, encoded, rows, mine)
            masks.append(logits.sigmoid())  # [B,1,H,W]
        found = torch.cat(masks)  # [N*K,1,H,W]
        return found.reshape(count, asked, *found.shape[-2:])

    def _denoise(
        self,
        encoded: Mapping[str, Tensor],
        rows: Tensor,
        text: network.Text,
        steps: int,
        noise: Tensor | None,
    ) -> Tensor:
        """Clean mask latents after ``steps`` trailing DDIM steps (eta = 0)."""
        latents = encoded["latents"]
        shape = (len(rows), self.parts.mask_channels, *latents.shape[-2:])
        z_t = latents.new_zeros(shape) if noise is None else noise.expand(shape)
        self.scheduler.set_timesteps(steps)
        timesteps = [int(t) for t in self.scheduler.timesteps]
        z_0 = z_t
        for index, timestep in enumerate(timesteps):
            first = index == 0 and noise is None
            prediction = network.predict(
                self.parts, encoded, rows, text, timestep, None if first else z_t
            )  # [B,L,h,w]
            z_0 = network.clean(self.scheduler, prediction, timestep, z_t)
            if index + 1 < len(timesteps):
                z_t = _renoised(self.scheduler, z_t, z_0, timestep, timesteps[index + 1])
        return z_0

    def noise(self, encoded: Mapping[str, Tensor], seed: int, member: int) -> Tensor:
        """Noise ``[1, L, h, w]`` of one ensemble member: drawn on the CPU, the same everywhere."""
        latents = encoded["latents"]
        generator = torch.Generator("cpu").manual_seed(seed * 100_003 + member)
        shape = (1, self.parts.mask_channels, *latents.shape[-2:])
        return torch.randn(shape, generator=generator).to(latents)


def _renoised(scheduler: Any, z_t: Tensor, z_0: Tensor, now: int, after: int) -> Tensor:
    """DDIM with eta = 0: z at the next timestep from z_0 and the noise that z_t holds."""
    abar, abar_next = (scheduler.alphas_cumprod[t].to(z_0) for t in (now, after))
    eps = (z_t - abar.sqrt() * z_0) / (1 - abar).sqrt()
    return torch.as_tensor(abar_next.sqrt() * z_0 + (1 - abar_next).sqrt() * eps)
