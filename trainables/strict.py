"""The base class of configurations, which refuses what pydantic would accept silently."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class StrictModel(BaseModel):
    """A model for which unknown keys, NaN, infinity, and booleans in place of numbers are errors."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def numbers_are_not_booleans(cls, value: Any, info: ValidationInfo) -> Any:
        """Raises ValueError for True and False, which pydantic reads as 1 and 0."""
        assert info.field_name is not None
        kinds = set(kinds_of(cls.model_fields[info.field_name].annotation))
        given = value if isinstance(value, (list, tuple)) else [value]
        if kinds & {int, float} and bool not in kinds and any(isinstance(each, bool) for each in given):
            raise ValueError("must be a number, got a boolean")
        return value


def kinds_of(annotation: Any) -> Iterator[Any]:
    """Yields a type and the types that it consists of: int for `list[Annotated[int, ...]] | None`."""
    if isinstance(annotation, type):
        yield annotation
    for part in get_args(annotation):
        yield from kinds_of(part)
