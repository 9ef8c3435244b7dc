"""Questions to tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from digseg.model.network import Text, encode_text
from digseg.model.text_pathway import TextPathway
from digseg.train.sampler import Question


class TextCache:
    """Texts of a frozen tower, encoded once.

    Parameters
    ----------
    limit
        Prompts kept; the cache starts anew when it is full.
    """

    def __init__(
        self, tokenizer: Any, text_encoder: Any, pathway: TextPathway | None, limit: int = 8192
    ) -> None:
        self.tokenizer, self.text_encoder, self.pathway = tokenizer, text_encoder, pathway
        self.limit = limit
        self.kept: dict[tuple[str, ...], Text] = {}

    @torch.no_grad()
    def __call__(self, prompts: Sequence[tuple[str, ...]]) -> Text:
        """One row for each prompt, padded to the longest of them."""
        if len(self.kept) + len(prompts) > self.limit:
            self.kept.clear()
        for prompt in prompts:
            if prompt not in self.kept:
                self.kept[prompt] = encode_text(
                    self.tokenizer, self.text_encoder, self.pathway, [prompt]
                )
        found = [self.kept[prompt] for prompt in prompts]
        tokens = pad_sequence([text.tokens[0] for text in found], batch_first=True)
        masks = [text.mask[0] for text in found if text.mask is not None]
        aligned = [text.aligned[0] for text in found if text.aligned is not None]
        return Text(
            tokens,
            pad_sequence(masks, batch_first=True) if masks else None,
            torch.stack(aligned) if aligned else None,
        )

    def aligned(self, phrases: Sequence[str]) -> np.ndarray:
        """Unit embeddings ``float32 [n, d]`` of single phrases: what `Sampler` compares."""
        text = self([(phrase,) for phrase in phrases])
        if text.aligned is None:
            pooled = text.tokens.mean(1)
            return torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
        return text.aligned.cpu().numpy()


@dataclass(frozen=True)
class Batch:
    """N pictures and B prompts of them.

    Parameters
    ----------
    pixels
        ``[N, 3, H, W]`` in [0, 1].
    text
        B rows.
    rows
        ``[B]``: the picture of each prompt.
    masks
        ``[B, H, W]``, 0 or 1.
    valid
        ``[N, H, W]``, 0 or 1.
    exclusive
        ``[N]`` bool: the picture's masks don't overlap.
    """

    pixels: Tensor
    text: Text
    rows: Tensor
    masks: Tensor
    valid: Tensor
    exclusive: Tensor

    def head(self, count: int) -> Batch:
        """The first ``count`` pictures and their prompts."""
        mine = torch.nonzero(self.rows < count)[:, 0]
        return Batch(
            self.pixels[:count],
            self.text.take(mine),
            self.rows[mine],
            self.masks[mine],
            self.valid[:count],
            self.exclusive[:count],
        )


def collate(questions: Sequence[Question], texts: TextCache, device: torch.device) -> Batch:
    """Stack pictures, and the prompts of all of them one after the other."""
    rows = [n for n, question in enumerate(questions) for _ in question.prompts]
    prompts = [prompt for question in questions for prompt in question.prompts]
    pixels = torch.from_numpy(np.stack([q.image for q in questions])).to(device)
    return Batch(
        pixels=pixels.contiguous(memory_format=torch.channels_last),
        text=texts(prompts),
        rows=torch.tensor(rows, device=device),
        masks=torch.from_numpy(np.concatenate([q.masks for q in questions])).float().to(device),
        valid=torch.from_numpy(np.stack([q.valid for q in questions])).float().to(device),
        exclusive=torch.tensor([q.exclusive for q in questions], device=device),
    )
