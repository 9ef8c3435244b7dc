"""The two stages: what is trained in each, and its loss.

Stage 1 learns v-prediction over all timesteps on the mask latents: a diffusion model of masks
given the picture and the text. Stage 2 asks for the one-step answer (t = 999, z_t = 0) and judges
the mask itself, through the mask decoder; a small share of its steps repeats stage 1's loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from digseg.errors import UsageError
from digseg.model import network
from digseg.model.image_encoder import FrozenNorm
from digseg.model.pipeline import DiGSegPipeline
from digseg.train.batch import Batch
from digseg.train.losses import mask_loss
from digseg.train.settings import TrainSettings

#: What a step is judged by: the mask, the direct matches alone, or the diffusion of mask latents.
Step = Literal["mask", "match", "diffusion"]

#: Share of the way to a batch's statistics that a norm goes in a step: some hundred pictures count.
TRACKED = 0.01

#: Pixels by which a neighbouring slice's mask may be off, in training.
NEIGHBOUR_SHIFT = 8


class Trainee(nn.Module):
    """The networks of a pipeline that learn, with the loss as their forward pass."""

    def __init__(self, pipeline: DiGSegPipeline, settings: TrainSettings) -> None:
        super().__init__()
        self.settings = settings
        self.scheduler = pipeline.scheduler
        self.unet = pipeline.unet
        self.text_pathway = pipeline.text_pathway
        self.image_encoder = pipeline.image_encoder
        self.mask_decoder = pipeline.mask_decoder
        # The frozen VAE is no child: it neither learns nor is it saved in a checkpoint.
        self._frozen = {"vae": pipeline.vae.requires_grad_(False).eval()}
        self._choose_what_learns()
        if self.image_encoder is not None:
            # Depthwise convolutions: half the time on a CPU with channels last.
            self.image_encoder.to(memory_format=torch.channels_last)
        if settings.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
            if self.image_encoder is not None:
                self.image_encoder.enable_gradient_checkpointing()

    def _choose_what_learns(self) -> None:
        settings = self.settings
        if settings.lora_rank:
            from peft import LoraConfig

            self.unet.requires_grad_(False)
            self.unet.add_adapter(
                LoraConfig(
                    r=settings.lora_rank,
                    lora_alpha=settings.lora_rank,
                    target_modules=["to_q", "to_k", "to_v", "to_out.0"],
                )
            )
            # conv_in reads new channels and conv_out writes masks: small, and trained whole.
            self.unet.conv_in.requires_grad_(True)
            self.unet.conv_out.requires_grad_(True)
        if self.text_pathway is not None:
            self.text_pathway.projection.requires_grad_(False)
            if settings.freeze_text_pathway:
                self.text_pathway.requires_grad_(False)
        if self.image_encoder is not None:
            frozen = settings.encoder_from
            if settings.encoder_rate <= 0 or settings.stage == 1:
                frozen = len(self.image_encoder.stages)
            for stage in self.image_encoder.stages[:frozen]:
                stage.requires_grad_(False)
            if frozen:
                self.image_encoder.stem.requires_grad_(False)
                self.image_encoder.stem_norm.requires_grad_(False)
            for norm in self.image_encoder.modules():
                if isinstance(norm, FrozenNorm):
                    norm.tracking = bool(norm.weight.requires_grad)
        if self.mask_decoder is not None and settings.stage == 1:
            self.mask_decoder.requires_grad_(False)

    @property
    def parts(self) -> network.Parts:
        """The networks as `digseg.model.network` takes them."""
        return network.Parts(
            self.unet,
            self._frozen["vae"],
            self.text_pathway,
            self.image_encoder,
            self.mask_decoder,
        )

    def to(self, *args: Any, **kwargs: Any) -> Trainee:
        """Also move what is frozen."""
        self._frozen["vae"].to(*args, **kwargs)
        return super().to(*args, **kwargs)

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups: the image encoder's trunk learns slower; no decay on vectors."""
        settings = self.settings
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.learning():
            trunk = name.startswith(("image_encoder.stem", "image_encoder.stages"))
            flat = parameter.ndim < 2
            rate = settings.encoder_rate if trunk else settings.rate
            key = (rate, 0.0 if flat else settings.weight_decay)
            groups.setdefault(key, []).append(parameter)
        return [
            {"params": params, "lr": rate, "initial_lr": rate, "weight_decay": decay}
            for (rate, decay), params in groups.items()
        ]

    def learning(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters that learn."""
        return ((n, p) for n, p in self.named_parameters() if p.requires_grad)

    def changing(self) -> Iterator[tuple[str, Tensor]]:
        """What learns, and the statistics that follow it."""
        yield from self.learning()
        for name, norm in self._tracked():
            yield f"{name}.running_mean", norm.running_mean
            yield f"{name}.running_var", norm.running_var

    def _tracked(self) -> Iterator[tuple[str, FrozenNorm]]:
        for name, module in self.named_modules():
            if isinstance(module, FrozenNorm) and module.tracking:
                yield name, module

    def track(self) -> None:
        """After a step: the norms whose weights learn follow what they were given."""
        for _, norm in self._tracked():
            norm.track(TRACKED)

    def forward(self, batch: Batch, kind: Step) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch, and its parts for the log."""
        if kind == "match":
            encoded = network.encode_image(self.parts, batch.pixels)
            loss, told = self.match_loss(batch, encoded)
            return self.settings.match_weight * loss, told
        if kind == "mask":
            return self.mask_loss(batch)
        if self.settings.stage == 2 and self.mask_decoder is not None:
            return self.restart_loss(batch)
        loss = self.diffusion_loss(batch)
        return loss, {"diffusion": loss.item()}

    def mask_loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Stage 2: one step, judged by the mask."""
        parts = self.parts
        encoded = network.encode_image(parts, batch.pixels)
        matches: Tensor | None = None
        if self.settings.match_weight:
            matches, named = self.match_loss(batch, encoded)
            batch = batch.head(self.settings.batch)
            encoded = {name: value[: self.settings.batch] for name, value in encoded.items()}
        logits, z_0 = network.one_step(parts, self.scheduler, encoded, batch.rows, batch.text)
        loss, told = mask_loss(
            logits[:, 0].float(), batch.masks, batch.valid, batch.rows, batch.exclusive
        )
        if matches is not None:
            told |= named
            loss = loss + self.settings.match_weight * matches
        if self.settings.latent_weight:
            with torch.no_grad():
                truth = network.encode_mask(parts, batch.masks[:, None])  # [B,L,h,w]
            sure = functional.avg_pool2d(batch.valid[:, None], 8)[batch.rows]  # [B,1,h,w]
            latent = ((z_0 - truth).square() * sure).mean()
            told["latent"] = latent.item()
            loss = loss + self.settings.latent_weight * latent
        return loss, told

    def match_loss(
        self, batch: Batch, encoded: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, float]]:
        """The direct matches judged by themselves, on every second pixel.

        Raises
        ------
        UsageError
            The pipeline matches nothing directly.
        """
        logits = network.match(self.parts, encoded, batch.rows, batch.text)  # [B,1,H/2,W/2]
        if logits is None:
            raise UsageError("This model has no direct matches: leave match_weight at 0.")
        loss, _ = mask_loss(
            logits[:, 0].float(),
            batch.masks[:, ::2, ::2],
            batch.valid[:, ::2, ::2],
            batch.rows,
            batch.exclusive,
        )
        return loss, {"match": loss.item()}

    def restart_loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Stage 2, now and then: from another mask, part-noised, to this one.

        What several steps and propagation over slices do in use: z_t comes from a mask that is
        shifted a little, as a neighbouring slice's is, and the answer is judged as mask latents
        and, through the mask decoder, as a mask.
        """
        parts, abars = self.parts, self.scheduler.alphas_cumprod
        encoded = network.encode_image(parts, batch.pixels)
        count, reach = len(batch.masks), NEIGHBOUR_SHIFT
        with torch.no_grad():
            truth = network.encode_mask(parts, batch.masks[:, None]).float()  # [B,L,h,w]
            down, right = torch.randint(-reach, reach + 1, (2,)).tolist()
            moved = functional.pad(
                batch.masks[:, None], (reach + right, reach - right, reach + down, reach - down)
            )[:, :, reach:-reach, reach:-reach]  # [B,1,H,W]
            neighbour = network.encode_mask(parts, moved).float()  # [B,L,h,w]
        steps = int(self.scheduler.config.num_train_timesteps)
        t = torch.randint(steps // 5, steps, (count,)).to(truth.device)  # [B]
        eps = torch.randn(truth.shape).to(truth)
        abar = abars.to(truth)[t][:, None, None, None]  # [B,1,1,1]
        z_t = abar.sqrt() * neighbour + (1 - abar).sqrt() * eps
        v = network.predict(parts, encoded, batch.rows, batch.text, t, noisy=z_t).float()
        z_0 = abar.sqrt() * z_t - (1 - abar).sqrt() * v
        logits = network.decode_mask(parts, z_0, encoded, batch.rows, batch.text)
        loss, _ = mask_loss(
            logits[:, 0].float(), batch.masks, batch.valid, batch.rows, batch.exclusive
        )
        sure = functional.avg_pool2d(batch.valid[:, None], 8)[batch.rows]  # [B,1,h,w]
        latent = ((z_0 - truth).square() * sure).sum() / (sure.sum() * truth.shape[1]).clamp(min=1)
        return loss + latent, {"diffusion": latent.item(), "restart": loss.item()}

    def diffusion_loss(self, batch: Batch) -> Tensor:
        """Stage 1: mean squared error on v over all timesteps."""
        parts, abars = self.parts, self.scheduler.alphas_cumprod
        encoded = network.encode_image(parts, batch.pixels)
        with torch.no_grad():
            z_0 = network.encode_mask(parts, batch.masks[:, None])  # [B,L,h,w]
        steps = int(self.scheduler.config.num_train_timesteps)
        t = torch.randint(0, steps, (len(z_0),)).to(z_0.device)  # [B]
        eps = torch.randn(z_0.shape).to(z_0)
        abar = abars.to(z_0)[t][:, None, None, None]  # [B,1,1,1]
        z_t = abar.sqrt() * z_0 + (1 - abar).sqrt() * eps
        v = abar.sqrt() * eps - (1 - abar).sqrt() * z_0
        got = network.predict(parts, encoded, batch.rows, batch.text, t, noisy=z_t)
        sure = functional.avg_pool2d(batch.valid[:, None], 8)[batch.rows]  # [B,1,h,w]
        error = ((got.float() - v).square() * sure).sum()
        return torch.as_tensor(error / (sure.sum() * z_0.shape[1]).clamp(min=1))
