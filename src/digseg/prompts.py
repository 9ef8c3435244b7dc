"""What a person types, as values. Level 2.

A prompt is written ``name``, or ``name=synonym,synonym``. Label ids follow the order of the
prompts, 1 first; negative prompts take part in the arg-max, and where one wins the pixel is
background.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

from digseg.errors import PromptError

Color = tuple[int, int, int]

# Colours people expect for common land cover and anatomy; everything else is drawn from _PALETTE.
_KNOWN: dict[str, Color] = {
    "water": (38, 120, 214),
    "river": (38, 120, 214),
    "lake": (38, 120, 214),
    "flooded fields": (64, 170, 230),
    "vegetation": (86, 170, 62),
    "trees": (34, 120, 50),
    "forest": (24, 104, 46),
    "grass": (150, 204, 90),
    "crop": (222, 196, 66),
    "crops": (222, 196, 66),
    "cropland": (222, 196, 66),
    "weed": (206, 62, 160),
    "road": (128, 128, 128),
    "building": (214, 64, 54),
    "built-up area": (214, 84, 74),
    "bare land": (196, 156, 108),
    "snow": (222, 240, 250),
    "liver": (170, 74, 48),
    "spleen": (150, 86, 176),
    "left kidney": (236, 150, 60),
    "right kidney": (244, 190, 84),
    "aorta": (224, 40, 60),
    "vertebrae": (232, 220, 184),
}

# Twelve well-separated hues that stay apart for the common colour-vision deficiencies
# (after Paul Tol's "muted" and "bright" schemes), then varied in lightness.
_PALETTE: tuple[Color, ...] = (
    (68, 119, 170),
    (238, 102, 119),
    (34, 136, 51),
    (204, 187, 68),
    (102, 204, 238),
    (170, 51, 119),
    (221, 119, 51),
    (136, 34, 85),
    (68, 170, 153),
    (153, 153, 51),
    (51, 34, 136),
    (187, 187, 187),
)

_SPACE = re.compile(r"\s+")


def normalise(text: str) -> str:
    """Lower case, single spaces: two prompts that normalise alike are the same prompt."""
    return _SPACE.sub(" ", text).strip().casefold()


@dataclass(frozen=True)
class Prompt:
    """One phrase to segment.

    Parameters
    ----------
    name
        The class name that every output carries.
    synonyms
        Other words for the same thing; the model reads name and synonyms together.
    negative
        Competes with the others but never gets a label.
    color
        Red, green, blue, each 0 to 255.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    negative: bool = False
    color: Color = (255, 0, 0)

    @property
    def texts(self) -> tuple[str, ...]:
        """Name and synonyms, the name first."""
        return (self.name, *self.synonyms)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "synonyms": list(self.synonyms),
            "negative": self.negative,
            "color": list(self.color),
        }


@dataclass(frozen=True)
class PromptSet:
    """Positive prompts in the order of their label ids, then the negative ones.

    Raises
    ------
    PromptError
        No positive prompt, an empty one, or two equal ones.
    """

    prompts: tuple[Prompt, ...]

    def __post_init__(self) -> None:
        if not any(not prompt.negative for prompt in self.prompts):
            raise PromptError("No prompt was given: name at least one thing to segment.")
        seen: set[str] = set()
        for prompt in self.prompts:
            for text in prompt.texts:
                _check_text(text)
            key = normalise(prompt.name)
            if not key or any(not normalise(text) for text in prompt.synonyms):
                raise PromptError("A prompt is empty: give each prompt at least one word.")
            if key in seen:
                raise PromptError(f"The prompt {prompt.name!r} is given twice: keep one of them.")
            seen.add(key)
        flags = [prompt.negative for prompt in self.prompts]
        if flags != sorted(flags):
            ordered = tuple(sorted(self.prompts, key=lambda prompt: prompt.negative))
            object.__setattr__(self, "prompts", ordered)

    @classmethod
    def parse(
        cls,
        prompts: str | Prompt | Mapping[str, Sequence[str] | str] | Iterable[str | Prompt],
        negatives: Iterable[str] = (),
    ) -> PromptSet:
        """Prompts from text (``"building=roof,house"``), a mapping name to synonyms, or values."""
        if isinstance(prompts, (str, Prompt)):
            prompts = [prompts]
        if isinstance(prompts, Mapping):
            parsed = [
                Prompt(name.strip(), (words,) if isinstance(words, str) else tuple(words))
                for name, words in prompts.items()
            ]
        else:
            parsed = [p if isinstance(p, Prompt) else parse_prompt(p) for p in prompts]
        parsed += [replace(parse_prompt(text), negative=True) for text in negatives]
        default = Prompt("").color
        colored = [
            replace(prompt, color=color_of(prompt.name, index))
            if prompt.color == default
            else prompt
            for index, prompt in enumerate(parsed)
        ]
        return cls(tuple(colored))

    def __iter__(self) -> Iterator[Prompt]:
        return iter(self.prompts)

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def positive(self) -> tuple[Prompt, ...]:
        return tuple(prompt for prompt in self.prompts if not prompt.negative)

    @property
    def negative(self) -> tuple[Prompt, ...]:
        return tuple(prompt for prompt in self.prompts if prompt.negative)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the positive prompts; the name at index ``i`` has label id ``i + 1``."""
        return tuple(prompt.name for prompt in self.positive)

    def to_list(self) -> list[dict[str, Any]]:
        return [prompt.to_dict() for prompt in self.prompts]

    @classmethod
    def from_list(cls, items: Iterable[Mapping[str, Any]]) -> PromptSet:
        """Inverse of `to_list`."""
        return cls(
            tuple(
                Prompt(
                    str(item["name"]),
                    tuple(str(text) for text in item.get("synonyms", ())),
                    bool(item.get("negative", False)),
                    _color(item.get("color", (255, 0, 0))),
                )
                for item in items
            )
        )


def parse_prompt(text: str) -> Prompt:
    """One prompt from ``name`` or ``name=synonym,synonym``.

    Raises
    ------
    PromptError
        The name, or one of the synonyms, is empty, or it is no text.
    """
    _check_text(text)
    name, equals, rest = text.partition("=")
    words = tuple(_SPACE.sub(" ", word).strip() for word in rest.split(",")) if equals else ()
    name = _SPACE.sub(" ", name).strip()
    if not name or any(not word for word in words):
        raise PromptError(
            f"The prompt {text!r} is empty or has an empty synonym: "
            "write NAME or NAME=synonym,synonym."
        )
    return Prompt(name, words)


def color_of(name: str, index: int) -> Color:
    """Colour for the prompt at ``index``: the expected one for known names, else the palette's."""
    known = _KNOWN.get(normalise(name))
    if known is not None:
        return known
    base = _PALETTE[index % len(_PALETTE)]
    turn = index // len(_PALETTE)
    if not turn:
        return base
    factor = (0.7, 1.25, 0.5, 1.45)[(turn - 1) % 4]
    red, green, blue = (min(255, round(value * factor)) for value in base)
    return red, green, blue


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        # A command line gives such halves of characters for bytes that are no UTF-8.
        raise PromptError(
            f"The prompt {text!a} holds bytes that are no text: type it in UTF-8."
        ) from None


def _color(values: Iterable[int]) -> Color:
    parts: tuple[Any, ...] = tuple(values)
    good = [int(v) for v in parts if isinstance(v, Integral) and 0 <= int(v) <= 255]
    if len(parts) != 3 or len(good) != 3:
        told = list(parts)
        raise PromptError(f"A colour is three whole numbers from 0 to 255, not {told}.")
    red, green, blue = good
    return red, green, blue
