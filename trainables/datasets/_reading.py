"""A description of how a folder of pictures was read, so that users can check it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from trainables.words import readable

from ._pictures import BACKGROUND

SET_ASIDE = "set aside"  # the origin of a split without a folder
NAMED = 5  # classes or kinds of files to list


@dataclass(frozen=True)
class Pixels:
    """Numbers of pictures by their properties before the conversion to uint8.

    deep: of more than 8 bits; white: their value that became 255. transparent: blended with white. paged: with further
    pages, which were ignored. repeated: pictures of the validation and test splits that are also in an earlier split,
    pixel for pixel. sizes: two pictures of different sizes; side: that of the squares to which all were then resized.
    """

    deep: int = 0
    white: float | None = None
    transparent: int = 0
    paged: int = 0
    repeated: int = 0
    sizes: str = ""
    side: int = 0

    def words(self) -> list[str]:
        """Returns one clause for each conversion that was applied."""
        clauses = []
        if self.sizes:
            size = f"{self.side}x{self.side} pixels (--image-size N for others)"
            clauses.append(f"of different sizes, so cropped to squares and resized to {size}")
        if self.deep:
            clauses.append(f"{_many(self.deep, 'picture')} of more than 8 bits, 0 to {self.white:g} scaled to 0 to 255")
        if self.transparent:
            clauses.append(f"{_many(self.transparent, 'picture')} with transparent pixels, blended with {BACKGROUND}")
        if self.paged:
            clauses.append(f"only the first page of {_many(self.paged, 'file')} with several")
        return clauses


@dataclass(frozen=True)
class Reading:
    """How a folder or a file was read. Splits are train, valid and test.

    pictures: their number in each split; origins: the folder, array or files of each split, or SET_ASIDE; classes:
    names, sorted; left_out: numbers of files or folders that were not read, by reason; warnings: probable mistakes;
    numbers: per point, if the data set holds points in place of pictures.
    """

    pictures: Mapping[str, int]
    origins: Mapping[str, str]
    classes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    pixels: Pixels = Pixels()
    numbers: int | None = None

    def words(self) -> str:
        """Returns the description in one line."""
        splits = ", ".join(f"{n} {split} ({self.origins[split]})" for split, n in self.pictures.items())
        named = ", ".join(self.classes[:NAMED]) + (", ..." if len(self.classes) > NAMED else "")
        of = "" if self.numbers is None else f" of {self.numbers} numbers"
        clauses = [
            f"{_many(sum(self.pictures.values()), self._noun)}{of}: {splits}",
            f"{len(self.classes)} classes ({named})" if self.classes else "no classes",
            *self.pixels.words(),
            *left_out_words(self.left_out),
            *(f"WARNING: {doubt}" for doubt in self.doubts()),
        ]
        return "; ".join(clauses)

    def doubts(self) -> list[str]:
        """Returns probable mistakes."""
        n = self.pixels.repeated
        copies = f"{_many(n, self._noun)} of the validation or test split also in an earlier split"
        return [*self.warnings, *([copies] if n else [])]

    @property
    def _noun(self) -> str:
        return "picture" if self.numbers is None else "point"

    def record(self) -> dict[str, Any]:
        """Returns the fields and the description as JSON types; names of files need not be UTF-8."""
        fields = {**asdict(self), "words": self.words(), "doubts": self.doubts()}
        found: dict[str, Any] = json.loads(readable(json.dumps(fields, ensure_ascii=False)))
        return found


def left_out_words(left_out: Mapping[str, int]) -> list[str]:
    """Returns at most one clause about what was not read and why."""
    counted = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
    if not counted:
        return []
    named = ", ".join(f"{n} {why}" for why, n in counted[:NAMED])
    rest = sum(n for _, n in counted[NAMED:])
    return [f"left out: {named}" + (f", {rest} others" if rest else "")]


def _many(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
