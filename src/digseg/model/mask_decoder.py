"""The one-channel mask decoder: mask latents to logits, at a fraction of a full decoder.

A decoder that paints three channels at full resolution is most of the work of one step; this
one paints one channel at half resolution, helped by the image's own features at 1/4 and 1/2
where the pipeline has an image encoder, and by the text.
"""

from __future__ import annotations

from collections.abc import Mapping

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional

from digseg.model.match_neck import Residual
from digseg.model.text_pathway import TextPathway


class MaskDecoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Mask latents ``[B, L, H/8, W/8]`` to logits ``[B, 1, H, W]``.

    Parameters
    ----------
    latent_channels
        Channels of the mask latents.
    channels
        Width at 1/4 and at 1/2.
    detail_channels
        Channels of the image features at 1/2 and 1/4 that are added; zeros where there are none.
    """

    config_name = "config.json"

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        latent_channels: int = 16,
        channels: tuple[int, int] = (32, 16),
        detail_channels: tuple[int, int] = (16, 32),
    ) -> None:
        super().__init__()
        quarter, half = channels
        detail_half, detail_quarter = detail_channels
        self.enter = nn.Conv2d(latent_channels, quarter, 3, padding=1)
        self.add_quarter = nn.Conv2d(detail_quarter, quarter, 1) if detail_quarter else None
        self.at_quarter = Residual(quarter)
        self.narrow = nn.Conv2d(quarter, half, 1)
        self.add_half = nn.Conv2d(detail_half, half, 1) if detail_half else None
        self.at_half = nn.Conv2d(half, half, 3, padding=1)
        self.exit = nn.Conv2d(half, 1, 3, padding=1)

    def forward(
        self,
        latents: Tensor,
        details: Mapping[str, Tensor],
        rows: Tensor,
        pathway: TextPathway | None = None,
        text: Tensor | None = None,
    ) -> Tensor:
        """Decode.

        Parameters
        ----------
        latents
            Mask latents ``[B, L, H/8, W/8]``.
        details
            The image encoder's features, ``[N, C, ...]`` each; empty without one.
        rows
            For each of the B latents the picture (0 to N - 1) it belongs to.
        pathway, text
            Text pathway and its embeddings ``[B, hidden]``.
        """
        inject = list(pathway.details) if pathway is not None and text is not None else []
        x = functional.interpolate(self.enter(latents), scale_factor=2.0, mode="nearest")
        if self.add_quarter is not None:
            x = x + self.add_quarter(details["quarter"])[rows]  # [B,32,H/4,W/4]
        if inject:
            x = inject[0](x, text)
        x = self.at_quarter(x)
        x = functional.interpolate(self.narrow(x), scale_factor=2.0, mode="nearest")
        if self.add_half is not None:
            x = x + self.add_half(details["half"])[rows]  # [B,16,H/2,W/2]
        if len(inject) > 1:
            x = inject[1](x, text)
        x = functional.silu(self.at_half(functional.silu(x)))
        x = self.exit(x)  # [B,1,H/2,W/2]
        if pathway is not None and text is not None:
            matched = pathway.match(details, text, rows)
            x = x if matched is None else x + matched
        return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
