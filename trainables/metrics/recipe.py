"""How a value was measured, for a machine to read: values may be compared where their recipes are equal."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

from pydantic import BaseModel, ConfigDict

from trainables.metrics.extractors import Extractor

# The house's protocols for the FID (methods.md 7.1): generated images, split, real images where that is fixed.
PROTOCOLS = {"std": (10_000, "test", 10_000), "std-5k-val": (5000, "valid", None)}


class Recipe(BaseModel):
    """One value's recipe; `model_dump()` is JSON-able.

    n: generated images; reference_n: real images, all of `split`, None where a file of statistics does not say;
    sampler: which density drew the latents.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    extractor: str
    fingerprint: str
    n: int
    split: str
    reference_n: int | None
    resize: str
    dtype: str
    grey: str
    sampler: str
    versions: dict[str, str]

    @property
    def protocol(self) -> str:
        """The name of the house's protocol that was kept, "" where it was none: printed FIDs follow `std`."""
        for name, (n, split, reference_n) in PROTOCOLS.items():
            if (self.metric, self.n, self.split) == ("fid", n, split) and reference_n in (None, self.reference_n):
                return name
        return ""

    @classmethod
    def of(cls, extractor: Extractor, *, n: int, split: str, reference_n: int | None, sampler: str) -> Recipe:
        """The recipe of a value that `extractor` gives in this process."""
        return cls(
            metric=extractor.metric,
            extractor=extractor.name,
            fingerprint=extractor.fingerprint,
            n=n,
            split=split,
            reference_n=reference_n,
            resize=extractor.resize,
            dtype="float32 features of 8-bit images, float64 moments",
            grey="replicated to 3 channels" if extractor.channels == 3 else "as it is",
            sampler=sampler,
            versions=_versions(),
        )

    @classmethod
    def without_extractor(cls, metric: str, *, n: int, split: str, sampler: str) -> Recipe:
        """The recipe of values that need no features: errors of pixels and figures of codes of n real images.

        metric: what the values have in common, "pixels", "codes", ...
        """
        return cls(
            metric=metric,
            extractor="none",
            fingerprint="",
            n=n,
            split=split,
            reference_n=n,
            resize="none",
            dtype="float32 network, float64 sums",
            grey="as it is",
            sampler=sampler,
            versions=_versions(),
        )


@cache
def _versions() -> dict[str, str]:
    """Of what a feature depends on; looked up once, for that reads files."""
    return {name: version(name) for name in ("torch", "torchvision", "pytorch-fid")}
