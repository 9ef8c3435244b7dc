"""The text pathway: language enters the U-Net at every scale, parallel to cross-attention.

At each place the features ``h`` become ``h (1 + scale(e)) + shift(e) + out(similarity(h, e))``,
where ``e`` is the prompt's embedding and the similarity is the cosine between projected
features and projected text, one map for each head: which pixels look like the words. Every
``scale``, ``shift`` and ``out`` starts at zero, so a converted model starts as the original.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional

from digseg.model.match_neck import MATCH_FEATURES

#: The image encoder's features that are matched with the text directly, coarse to fine.
DIRECT_FEATURES = ("sixteenth", "eighth", "quarter", "half")
#: All that the text pathway may read of a picture.
MATCHED = (*DIRECT_FEATURES, *MATCH_FEATURES)


class Injection(nn.Module):
    """Text into the features of one scale."""

    def __init__(self, channels: int, hidden: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.modulate = nn.Linear(hidden, 2 * channels)
        starts_at_zero: list[nn.Linear | nn.Conv2d] = [self.modulate]
        if heads:
            self.query = nn.Conv2d(channels, heads * head_dim, 1)
            self.key = nn.Linear(hidden, heads * head_dim)
            self.out = nn.Conv2d(heads, channels, 1)
            starts_at_zero.append(self.out)
        for layer in starts_at_zero:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(cast(nn.Parameter, layer.bias))

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """Features ``[B, C, H, W]`` and embeddings ``[B, hidden]`` to ``[B, C, H, W]``."""
        scale, shift = self.modulate(e)[:, :, None, None].chunk(2, dim=1)  # [B,C,1,1] each
        changed = torch.addcmul(shift, h, 1 + scale)  # [B,C,H,W]
        if not self.heads:
            return changed
        query = self.query(h).unflatten(1, (self.heads, -1))  # [B,heads,d,H,W]
        key = self.key(e).unflatten(1, (self.heads, -1))  # [B,heads,d]
        key = functional.normalize(key, dim=2)
        # Dot products first, length after: no normalised copy of the features is made.
        dots = torch.einsum("bndhw,bnd->bnhw", query, key)  # [B,heads,H,W]
        length = query.square().sum(2).add(1e-6).sqrt()  # [B,heads,H,W]
        return changed + torch.as_tensor(self.out(dots / length))


class Match(nn.Module):
    """How well the picture's own features fit the words: a logit for each pixel of one scale.

    A linear classifier whose weights are a function of the text; it starts at zero.
    """

    def __init__(self, channels: int, hidden: int, dim: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, dim, 1)
        self.key = nn.Linear(hidden, dim)
        nn.init.zeros_(self.key.weight)
        nn.init.zeros_(self.key.bias)

    def forward(self, features: Tensor, e: Tensor, rows: Tensor) -> Tensor:
        """Features ``[N, C, h, w]``, embeddings ``[B, hidden]``: logits ``[B, 1, h, w]``."""
        # Key times query weights first: no d channels a pixel are ever made.
        key = self.key(e)  # [B,d]
        weight = key @ self.query.weight[:, :, 0, 0]  # [B,C]
        bias = key @ cast(nn.Parameter, self.query.bias)  # [B]
        # Picture by picture: no copy of the features for each prompt is made.
        mine = [torch.nonzero(rows == n)[:, 0] for n in range(len(features))]
        parts = [
            torch.einsum("chw,bc->bhw", picture, weight[asked])
            for picture, asked in zip(features, mine, strict=True)
        ]
        found = torch.cat(parts)[torch.argsort(torch.cat(mine))]  # [B,h,w]
        return torch.as_tensor((found + bias[:, None, None])[:, None])


class TextPathway(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Language features for every scale of one U-Net and of its mask decoder.

    Parameters
    ----------
    text_dim
        Size of the text encoder's pooled state.
    embed_dim
        Size of the aligned space into which the pooled state is projected.
    channels
        Channels of the U-Net's features at the places of injection: before the middle block,
        then after each up block.
    hidden, heads, head_dim
        Width of the shared text layer; number and size of the similarity heads.
    detail_channels, detail_heads, detail_head_dim
        The same for the mask decoder at 1/4 and 1/2, where every channel is costly (no heads:
        scale and shift alone); empty without a mask decoder.
    direct_channels, direct_dim
        Channels of the image encoder's features at 1/16, 1/8, 1/4 and 1/2 that are matched with
        the text directly, coarse to fine, and added to the mask decoder's logits; empty without
        an image encoder.
    match_channels, match_dim
        The same for the features of `digseg.model.match_neck`, the last at 1/2; empty without.
    mask_padding
        Whether cross-attention leaves out the padding of a prompt. False as in Stable Diffusion.
    """

    config_name = "config.json"

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        text_dim: int = 192,
        embed_dim: int = 384,
        channels: tuple[int, ...] = (160, 160, 96, 48),
        hidden: int = 192,
        heads: int = 4,
        head_dim: int = 16,
        detail_channels: tuple[int, ...] = (32, 16),
        detail_heads: tuple[int, ...] = (2, 0),
        detail_head_dim: int = 8,
        direct_channels: tuple[int, ...] = (),
        direct_dim: int = 32,
        match_channels: tuple[int, ...] = (),
        match_dim: int = 96,
        mask_padding: bool = True,
    ) -> None:
        super().__init__()
        self.projection = nn.Linear(text_dim, embed_dim)
        self.shared = nn.Sequential(
            nn.Linear(embed_dim, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        self.scales = nn.ModuleList(Injection(c, hidden, heads, head_dim) for c in channels)
        self.details = nn.ModuleList(
            Injection(c, hidden, n, detail_head_dim)
            for c, n in zip(detail_channels, detail_heads, strict=True)
        )

        self.direct = nn.ModuleList(Match(c, hidden, direct_dim) for c in direct_channels)
        self.matches = nn.ModuleList(Match(c, hidden, match_dim) for c in match_channels)

    def match(self, features: Mapping[str, Tensor], e: Tensor, rows: Tensor) -> Tensor | None:
        """How well pictures fit the words, without the U-Net.

        Parameters
        ----------
        features
            Of N pictures, by name: `DIRECT_FEATURES` and `MATCH_FEATURES`.
        e, rows
            Embeddings ``[B, hidden]``; for each the picture (0 to N - 1) that it is asked of.

        Returns
        -------
        Logits ``[B, 1, H/2, W/2]``; `None` where nothing is matched.
        """
        last = len(MATCH_FEATURES) - len(self.matches)
        found = [
            _coarse_to_fine(layers, [features[name] for name in names], e, rows)
            for layers, names in (
                (self.direct, DIRECT_FEATURES),
                (self.matches, MATCH_FEATURES[last:]),
            )
            if len(layers)
        ]
        return torch.stack(found).sum(0) if found else None

    def align(self, pooled: Tensor) -> Tensor:
        """Pooled states ``[B, text_dim]`` to unit vectors ``[B, embed_dim]`` that compare."""
        return functional.normalize(self.projection(pooled), dim=-1)

    def forward(self, aligned: Tensor) -> Tensor:
        """Aligned embeddings ``[B, embed_dim]`` to what each injection reads, ``[B, hidden]``."""
        # Unit vectors have entries near 1/sqrt(d): bring them to about unit variance.
        return torch.as_tensor(self.shared(aligned * aligned.shape[-1] ** 0.5))


def _coarse_to_fine(
    layers: nn.ModuleList, features: Sequence[Tensor], e: Tensor, rows: Tensor
) -> Tensor:
    """The sum of matches at several scales, each twice as fine as the one before it."""
    logits: Tensor | None = None
    for layer, found in zip(layers, features, strict=True):
        here = layer(found, e, rows)
        if logits is not None:
            here = here + functional.interpolate(
                logits, scale_factor=2.0, mode="bilinear", align_corners=False
            )
        logits = here
    return cast(Tensor, logits)
