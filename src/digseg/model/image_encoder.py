"""Image latents and features of every scale from one pass of an EfficientNet-Lite0.

A representation encoder in the place of a reconstructing one (Zheng et al., arXiv 2510.11690):
the latent that the U-Net reads comes from a network that already knows what things are. The
trunk is EfficientNet-Lite0 (Tan and Le, arXiv 1905.11946; no squeeze-and-excitation, ReLU6),
batch norm always at its stored statistics, and a light top-down neck gives the fine scales the
context of the coarse ones. It runs once a picture, whatever the number of prompts.
"""

from __future__ import annotations

from typing import cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional

from digseg.model.depthwise import depthwise
from digseg.model.match_neck import MatchNeck

#: (repeats, kernel, stride, expansion, channels) of the seven stages of Lite0.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
#: Stages whose output is the finest of its scale: 1/2, 1/4, 1/8, 1/16, 1/32.
TAPS = (0, 1, 2, 4, 6)
SCALES = ("half", "quarter", "eighth", "sixteenth", "thirtysecond")
#: What is added to the U-Net's way down: after ``conv_in``, then after each down block.
ADDED = ("eighth", "sixteenth", "thirtysecond", "deepest")


class SameConv(nn.Conv2d):
    """Convolution padded as TensorFlow does: the odd pixel at the bottom and right."""

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to ``[N, C', ceil(H / stride), ceil(W / stride)]``."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads: list[int] = []
        for size in (x.shape[-1], x.shape[-2]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        even = pads[0] == pads[1] == pads[2] == pads[3]
        if not even:
            x = functional.pad(x, pads)
        padding = pads[0] if even else 0
        if self.groups > 1 and kernel > 3 and torch.is_grad_enabled() and x.device.type == "cpu":
            return depthwise(x, self.weight, stride, padding)
        return functional.conv2d(x, self.weight, self.bias, self.stride, padding, 1, self.groups)


class FrozenNorm(nn.BatchNorm2d):
    """Batch norm that always answers by its stored statistics (scale and shift stay trainable).

    A batch of few pictures of unlike kinds says little, so its own statistics are never used. But
    where the weights before a norm learn, stored ones grow old: with `tracking` each batch is
    looked at, and `track` moves them a little towards it.
    """

    running_mean: Tensor
    running_var: Tensor
    #: Whether what goes through in training is looked at.
    tracking = False

    def __init__(self, channels: int, eps: float = 1e-3) -> None:
        super().__init__(channels, eps=eps)
        self.training = False
        self._seen: tuple[Tensor, Tensor] | None = None

    def train(self, mode: bool = True) -> FrozenNorm:
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` to the same shape."""
        if self.tracking and torch.is_grad_enabled():
            given = x.detach().float()
            mean = given.mean((0, 2, 3))  # [C]
            # Around the stored mean, so that how pictures differ from each other counts, too.
            around = (given - self.running_mean[:, None, None]).square().mean((0, 2, 3))
            self._seen = (mean, around)
        return super().forward(x)

    @torch.no_grad()
    def track(self, share: float) -> None:
        """Move the statistics by a share of the way to those of the last batch."""
        if self._seen is None:
            return
        mean, around = self._seen
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(around.to(self.running_var), share)
        self._seen = None


class InvertedBottleneck(nn.Module):
    """Expand, filter each channel, project; add the input where shapes agree."""

    def __init__(self, inner: int, outer: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inner * expansion
        self.expand = SameConv(inner, wide, 1, bias=False) if expansion > 1 else None
        self.expand_norm = FrozenNorm(wide) if expansion > 1 else None
        self.depthwise = SameConv(wide, wide, kernel, stride, groups=wide, bias=False)
        self.depthwise_norm = FrozenNorm(wide)
        self.project = SameConv(wide, outer, 1, bias=False)
        self.project_norm = FrozenNorm(outer)
        self.residual = stride == 1 and inner == outer

    def forward(self, x: Tensor) -> Tensor:
        """``[N, inner, H, W]`` to ``[N, outer, H / stride, W / stride]``."""
        y = x
        if self.expand is not None and self.expand_norm is not None:
            y = functional.relu6(self.expand_norm(self.expand(y)))
        y = functional.relu6(self.depthwise_norm(self.depthwise(y)))
        y = self.project_norm(self.project(y))
        return torch.add(x, y) if self.residual else torch.as_tensor(y)


def _block(inner: int, outer: int) -> nn.Sequential:
    groups = 8 if outer % 8 == 0 else 1
    return nn.Sequential(
        nn.Conv2d(inner, outer, 3, padding=1), nn.GroupNorm(groups, outer), nn.SiLU()
    )


class ImageEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Picture to image latents and to features that a T2I-Adapter would add.

    Parameters
    ----------
    latent_channels
        Channels of the image latents at 1/8.
    unet_channels
        Channels of the U-Net's three levels (1/8, 1/16, 1/32), to which features are added
        after ``conv_in`` and after each down block.
    detail_channels
        Channels of the features for the mask decoder at 1/2 and 1/4.
    neck_channels
        Width of the top-down neck at 1/8 and coarser.
    match_channels
        Channels of the features that are made for being matched with the text, coarse to fine,
        the last at 1/2 (`digseg.model.match_neck`); empty without them.
    width
        Factor on the trunk's channels; 1.0 is Lite0, less is for tests.
    """

    config_name = "config.json"
    _supports_gradient_checkpointing = True

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        latent_channels: int = 16,
        unet_channels: tuple[int, int, int] = (48, 96, 160),
        detail_channels: tuple[int, int] = (16, 32),
        neck_channels: int = 96,
        match_channels: tuple[int, ...] = (),
        width: float = 1.0,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False

        def scaled(channels: int) -> int:
            return max(8, round(channels * width / 8) * 8)

        stem = scaled(32)
        self.stem = SameConv(3, stem, 3, 2, bias=False)
        self.stem_norm = FrozenNorm(stem)
        stages, inner, tapped = [], stem, []
        for index, (repeats, kernel, stride, expansion, channels) in enumerate(STAGES):
            outer = scaled(channels)
            blocks = [InvertedBottleneck(inner, outer, kernel, stride, expansion)]
            blocks += [
                InvertedBottleneck(outer, outer, kernel, 1, expansion) for _ in range(repeats - 1)
            ]
            stages.append(nn.Sequential(*blocks))
            inner = outer
            if index in TAPS:
                tapped.append(outer)
        self.stages = nn.ModuleList(stages)

        half, quarter = detail_channels
        wide = (half, quarter, neck_channels, neck_channels, neck_channels)
        self.lateral = nn.ModuleList(
            nn.Conv2d(taken, given, 1) for taken, given in zip(tapped, wide, strict=True)
        )
        self.down = nn.ModuleList(
            nn.Conv2d(wide[i + 1], wide[i], 1) if wide[i + 1] != wide[i] else nn.Identity()
            for i in range(4)
        )
        self.smooth = nn.ModuleList(_block(channels, channels) for channels in wide)
        # Thin structures: the trunk's fine stages are costly to train, these few convolutions not.
        self.fine_half = nn.Sequential(
            nn.Conv2d(3, half, 3, 2, 1), nn.SiLU(), nn.Conv2d(half, half, 3, padding=1)
        )
        self.fine_quarter = nn.Sequential(nn.SiLU(), nn.Conv2d(half, quarter, 3, 2, 1))
        self.to_latent = nn.Conv2d(neck_channels, latent_channels, 1)
        low, middle, deep = unet_channels
        # A down block of diffusers halves before the next one widens: 48 channels enter 1/16.
        self.to_unet = nn.ModuleList(
            nn.Conv2d(neck_channels, channels, 1) for channels in (low, low, middle, deep)
        )
        self._matched = tuple(reversed(range(len(match_channels))))
        given = [wide[i] + tapped[i] for i in self._matched]
        self.match_neck = MatchNeck(given, match_channels) if match_channels else None

    def trunk(self, pixels: Tensor) -> list[Tensor]:
        """Features at 1/2 .. 1/32 of pixels ``[N, 3, H, W]`` in [-1, 1]."""
        x = functional.relu6(self.stem_norm(self.stem(pixels)))  # [N,32,H/2,W/2]
        taps = []
        for index, stage in enumerate(self.stages):
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = torch.utils.checkpoint.checkpoint(stage, x, use_reentrant=False)
            else:
                x = stage(x)
            if index in TAPS:
                taps.append(x)
        return taps

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Encode a batch.

        Parameters
        ----------
        pixels
            ``[N, 3, H, W]`` in [-1, 1], H and W multiples of 32.

        Returns
        -------
        ``latents`` at 1/8, ``half`` and ``quarter`` for the mask decoder, one entry for each
        of `ADDED` with the U-Net's channels, and those of `MATCH_FEATURES` where there are any.
        """
        taps = self.trunk(pixels)
        half = self.fine_half(pixels)  # [N,16,H/2,W/2]
        fine = (half, self.fine_quarter(half))
        context: Tensor | None = None
        neck: list[Tensor] = []
        for index in reversed(range(5)):
            x = self.lateral[index](taps[index])
            if index < len(fine):
                x = x + fine[index]
            if context is not None:
                context = functional.interpolate(
                    self.down[index](context), size=x.shape[-2:], mode="nearest"
                )
                x = x + context
            context = self.smooth[index](x)
            neck.insert(0, cast(Tensor, context))
        encoded = {"latents": self.to_latent(neck[2]), "half": neck[0], "quarter": neck[1]}
        for name, layer, x in zip(ADDED, self.to_unet, (*neck[2:], neck[4]), strict=True):
            encoded[name] = layer(x)
        if self.match_neck is not None:
            encoded |= self.match_neck([torch.cat([neck[i], taps[i]], 1) for i in self._matched])
        return encoded
