"""Losses against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from digseg.train.losses import choice_loss, cross_entropy, dice_loss, mask_loss


def test_cross_entropy_reads_valid_pixels_only() -> None:
    logits = torch.tensor([[[0.0, 2.0], [50.0, -3.0]]])
    target = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    valid = torch.tensor([[[1.0, 1.0], [0.0, 1.0]]])
    expected = (math.log(2) + math.log1p(math.exp(-2)) + math.log1p(math.exp(-3))) / 3
    assert cross_entropy(logits, target, valid).item() == pytest.approx(expected)


def test_dice_of_a_half_right_answer() -> None:
    big = 100.0
    logits = torch.tensor([[[big, big], [-big, -big]]])
    target = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    valid = torch.ones(1, 2, 2)
    # One pixel shared; two answered, two true.
    assert dice_loss(logits, target, valid, smooth=0.0).item() == pytest.approx(0.5)
    assert dice_loss(logits, target, valid, smooth=2.0).item() == pytest.approx(1 - 4 / 6)


def test_an_absent_prompt_with_an_empty_answer_costs_nothing() -> None:
    logits = torch.full((1, 4, 4), -100.0)
    nothing = torch.zeros(1, 4, 4)
    assert dice_loss(logits, nothing, torch.ones(1, 4, 4)).item() == pytest.approx(0)
    wrong = dice_loss(-logits, nothing, torch.ones(1, 4, 4), smooth=50.0).item()
    assert wrong == pytest.approx(1 - 50 / 66)


def _dice(logp: torch.Tensor, target: torch.Tensor) -> float:
    """Of each prompt's chance and truth ``[K, H, W]``, one pixel added above and below."""
    soft = logp[1:].exp()
    both = (soft * target).sum((1, 2))
    return float((1 - (2 * both + 1) / (soft.sum((1, 2)) + target.sum((1, 2)) + 1)).mean())


def test_choice_is_a_softmax_against_a_background_of_zero() -> None:
    logits = torch.tensor([[[1.0, -2.0, 0.5]], [[0.0, 3.0, -1.0]]])  # [2,1,3]
    target = torch.tensor([[[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]])  # third pixel: background
    scores = torch.cat([torch.zeros(1, 1, 3), logits])
    logp = torch.log_softmax(scores, 0)
    expected = -(logp[1, 0, 0] + logp[2, 0, 1] + logp[0, 0, 2]) / 3  # equal shares: equal weights
    total = float(expected) + _dice(logp, target)
    assert choice_loss(logits, target, torch.ones(1, 3)).item() == pytest.approx(total)


def test_choice_weighs_by_the_inverse_root_of_the_share() -> None:
    logits = torch.tensor([[[2.0, 1.0, 0.0, 0.0, 0.0]]])
    target = torch.tensor([[[1.0, 0.0, 0.0, 0.0, 0.0]]])
    logp = torch.log_softmax(torch.cat([torch.zeros(1, 1, 5), logits]), 0)
    rare, common = (1 / 5) ** -0.5, (4 / 5) ** -0.5
    total = rare * logp[1, 0, 0] + common * logp[0, 0, 1:].sum()
    expected = -total / (rare + 4 * common)
    assert choice_loss(logits, target, torch.ones(1, 5)).item() == pytest.approx(
        expected.item() + _dice(logp, target)
    )


def test_choice_among_absent_prompts_is_cross_entropy_alone() -> None:
    logits = torch.tensor([[[1.0, -1.0]]])
    expected = (math.log1p(math.exp(1)) + math.log1p(math.exp(-1))) / 2
    found = choice_loss(logits, torch.zeros(1, 1, 2), torch.ones(1, 2))
    assert found.item() == pytest.approx(expected)


def test_choice_without_a_valid_pixel_is_zero_and_differentiable() -> None:
    logits = torch.zeros(2, 1, 3, requires_grad=True)
    loss = choice_loss(logits, torch.zeros(2, 1, 3), torch.zeros(1, 3))
    loss.backward()
    assert loss.item() == 0


def test_overlapping_masks_are_left_out_of_the_choice() -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 3, 3)
    target = torch.zeros(4, 3, 3)
    target[0, 0] = target[2, 0] = target[3, 0] = 1  # the second picture's masks are the same
    valid, rows = torch.ones(2, 3, 3), torch.tensor([0, 0, 1, 1])
    both, told = mask_loss(logits, target, valid, rows, torch.tensor([True, False]))
    first = choice_loss(logits[:2], target[:2], valid[0])
    assert told["choice"] == pytest.approx(first.item())
    parts = 0.5 * told["entropy"] + 0.5 * told["dice"] + told["choice"]
    assert both.item() == pytest.approx(parts, rel=1e-5)
