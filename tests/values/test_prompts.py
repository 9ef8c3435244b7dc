"""Prompts: what is typed, the order of ids, and what is refused."""

from __future__ import annotations

import pytest

from digseg.errors import PromptError
from digseg.prompts import PromptSet, color_of, parse_prompt
from digseg.raster import ClassTable


def test_order_of_prompts_is_the_order_of_ids() -> None:
    prompts = PromptSet.parse(["water", "building = roof,  house"], ["solar panel"])
    assert prompts.names == ("water", "building")
    assert prompts.positive[1].synonyms == ("roof", "house")
    assert [prompt.name for prompt in prompts.negative] == ["solar panel"]
    assert ClassTable.of(prompts).names == {0: "background", 1: "water", 2: "building"}


def test_a_mapping_gives_synonyms() -> None:
    prompts = PromptSet.parse({"building": ["roof", "house"], "road": "street"})
    assert prompts.positive[0].texts == ("building", "roof", "house")
    assert prompts.positive[1].texts == ("road", "street")


def test_values_survive_a_list() -> None:
    prompts = PromptSet.parse(["water", "a=b,c"], ["d"])
    assert PromptSet.from_list(prompts.to_list()) == prompts


@pytest.mark.parametrize("prompts", [[], [""], ["  "], ["="], ["a="], ["a=b,,c"], ["=b"]])
def test_empty_prompts_are_refused(prompts: list[str]) -> None:
    with pytest.raises(PromptError):
        PromptSet.parse(prompts)


@pytest.mark.parametrize("prompts", [["Water", "water"], ["left  kidney", "Left kidney"]])
def test_equal_prompts_are_refused(prompts: list[str]) -> None:
    with pytest.raises(PromptError, match="twice"):
        PromptSet.parse(prompts)


def test_a_negative_may_not_repeat_a_prompt() -> None:
    with pytest.raises(PromptError, match="twice"):
        PromptSet.parse(["water"], ["WATER"])


def test_negatives_alone_are_no_prompts() -> None:
    with pytest.raises(PromptError, match="No prompt"):
        PromptSet.parse([], ["water"])


def test_bytes_that_are_no_text_are_refused() -> None:
    for text in ("\udcff", "water=lake,\udcff"):
        with pytest.raises(PromptError, match=r"udcff.* no text"):
            parse_prompt(text)
    with pytest.raises(PromptError, match="no text"):
        PromptSet.from_list([{"name": "water", "synonyms": ["\ud800"]}])


def test_forty_colors_differ() -> None:
    assert len({color_of(f"class {index}", index) for index in range(40)}) == 40
