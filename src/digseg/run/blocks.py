"""Blocks of a run that somebody watches: small, so that the picture fills piece by piece.

A block is written whole, so a scene smaller than the usual one (2048 pixels) would appear all at
once at the end. The answer does not depend on the block.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from digseg.prompts import PromptSet
from digseg.settings import SegmentSettings
from digseg.types import SegmentationModel

if TYPE_CHECKING:
    from digseg.engine.plan import Plan

#: Smallest side: a block of half a usual tile is done after the first tile.
SMALLEST = 256
#: Most blocks: choosing the next one looks at all that are left, whenever one is done.
MOST = 400


def watched_plan(
    shape: tuple[int, int, int],
    model: SegmentationModel,
    prompts: PromptSet,
    settings: SegmentSettings,
) -> Plan | None:
    """The usual plan with the smallest blocks that are still few; `None` for the usual one.

    Batches of several tiles are cut along blocks: where the model takes some at once, blocks stay
    as they are, so that the batches (and with them the last bit of an answer) do, too.
    """
    from digseg.engine.estimate import fitted_plan

    plan, _, _ = fitted_plan(shape, model, prompts, settings)
    if plan.batch > 1:
        return None
    depth, rows, columns = plan.block
    small = (1, min(rows, SMALLEST), min(columns, SMALLEST))
    while (found := replace(plan, block=small)).block_count > MOST:
        _, high, wide = small
        if high < rows or wide < columns:
            small = (1, min(rows, 2 * high), min(columns, 2 * wide))
        elif small[0] < depth:
            small = (min(depth, 2 * small[0]), high, wide)
        else:
            return None
    return None if small == plan.block else found
