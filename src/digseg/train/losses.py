"""What the masks are judged by. Logits and targets in, one number out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean binary cross-entropy over valid pixels.

    Parameters
    ----------
    logits, target, valid
        ``[B, H, W]``; target and valid are 0 or 1.
    """
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (loss * valid).sum() / valid.sum().clamp(min=1)


def dice_loss(logits: Tensor, target: Tensor, valid: Tensor, smooth: float = 50.0) -> Tensor:
    """1 - Dice of each mask over its valid pixels, averaged over B.

    ``smooth`` pixels are added above and below, so that an absent prompt with an empty answer
    counts as right and a few stray pixels cost little.
    """
    soft = logits.sigmoid() * valid
    truth = target * valid
    both = (soft * truth).sum((1, 2))
    return (1 - (2 * both + smooth) / (soft.sum((1, 2)) + truth.sum((1, 2)) + smooth)).mean()


def choice_loss(logits: Tensor, target: Tensor, valid: Tensor, smooth: float = 1.0) -> Tensor:
    """Cross-entropy and Dice over one picture's prompts and a background of logit 0.

    The arg-max over prompts against a threshold of one half is judged by exactly this. Pixels
    are weighted by the inverse square root of their class's share (eight times at most), so that
    small things count; Dice is that of the prompts that are there, which keeps them small.

    Parameters
    ----------
    logits, target
        ``[K, H, W]``, targets without overlap.
    valid
        ``[H, W]``.
    smooth
        Pixels that are added above and below in Dice.
    """
    background = torch.zeros_like(logits[:1])
    scores = torch.cat([background, logits])[None]  # [1,K+1,H,W]
    # Without overlap the sum of class numbers is the class; arg-max over few planes is slow.
    numbers = torch.arange(1, len(target) + 1, device=target.device, dtype=target.dtype)
    index = torch.einsum("khw,k->hw", target, numbers).long()[None]  # [1,H,W]
    index = torch.where(valid[None] > 0, index, torch.full_like(index, -100))
    counts = torch.bincount(index[index >= 0].flatten(), minlength=len(logits) + 1).float()
    if not bool((counts > 0).any()):
        return logits.sum() * 0
    shares = counts / counts.sum()
    weight = torch.where(counts > 0, shares.clamp(min=1e-6).rsqrt(), 0.0).clamp(max=8.0)
    entropy = functional.cross_entropy(scores, index, weight=weight, ignore_index=-100)
    there = counts[1:] > 0  # [K]
    if not bool(there.any()):
        return entropy
    soft = scores.softmax(1)[0, 1:][there] * valid  # [present,H,W]
    truth = target[there] * valid
    both = (soft * truth).sum((1, 2))
    whole = soft.sum((1, 2)) + truth.sum((1, 2))
    return entropy + (1 - (2 * both + smooth) / (whole + smooth)).mean()


def mask_loss(
    logits: Tensor,
    target: Tensor,
    valid: Tensor,
    rows: Tensor,
    exclusive: Tensor,
    weights: tuple[float, float, float] = (0.5, 0.5, 1.0),
) -> tuple[Tensor, dict[str, float]]:
    """The sum of the three.

    `choice_loss` tells the classes of a picture apart; the other two judge each prompt by itself,
    as somebody may ask for it alone, and absent ones, too.

    Parameters
    ----------
    logits, target
        ``[B, H, W]`` for B prompts.
    valid
        ``[N, H, W]`` for N pictures.
    rows
        ``[B]``: the picture of each prompt.
    exclusive
        ``[N]``: whether the picture's masks don't overlap.
    weights
        Of cross-entropy, Dice and choice.
    """
    mine = valid[rows]
    entropy = cross_entropy(logits, target, mine)
    dice = dice_loss(logits, target, mine)
    choices = []
    for picture in range(len(valid)):
        of_picture = rows == picture
        if bool(exclusive[picture]):
            choices.append(choice_loss(logits[of_picture], target[of_picture], valid[picture]))
    choice = torch.stack(choices).mean() if choices else logits.sum() * 0
    total = weights[0] * entropy + weights[1] * dice + weights[2] * choice
    parts = {"entropy": entropy.item(), "dice": dice.item(), "choice": choice.item()}
    return total, parts
