"""Machine-readable description of how a value was measured. Values are comparable if their recipes are equal."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

from pydantic import BaseModel, ConfigDict

from trainables.metrics.extractors import Extractor

# Protocols for the FID (methods.md 7.1): number of generated images, split, and number of real images if fixed.
PROTOCOLS = {"std": (10_000, "test", 10_000), "std-5k-val": (5000, "valid", None)}


class Recipe(BaseModel):
    """The recipe of one value; `model_dump()` is JSON-able.

    n: number of generated images; reference_n: number of real images, all of `split`; None if a file of statistics
    does not contain it; sampler: the density of the latents.
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
        """The name of the protocol that the recipe matches, else "". Printed FIDs follow `std`."""
        for name, (n, split, reference_n) in PROTOCOLS.items():
            if (self.metric, self.n, self.split) == ("fid", n, split) and reference_n in (None, self.reference_n):
                return name
        return ""

    @classmethod
    def of(
        cls,
        extractor: Extractor,
        *,
        n: int,
        split: str,
        reference_n: int | None,
        sampler: str,
        fingerprint: str | None = None,
    ) -> Recipe:
        """Returns the recipe of a value computed with `extractor` in this process; fingerprint: by default its own."""
        return cls(
            metric=extractor.metric,
            extractor=extractor.name,
            fingerprint=extractor.fingerprint if fingerprint is None else fingerprint,
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
        """Returns the recipe of values that need no features: errors of pixels and metrics of codes of n real images.

        metric: the group of the values, "pixels", "codes", ...
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
    """Returns the versions of the libraries that features depend on. Cached, because the look-up reads files."""
    return {name: version(name) for name in ("torch", "torchvision", "pytorch-fid")}
