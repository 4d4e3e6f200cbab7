"""A user's own torch module as the extractor."""

import pytest
import torch

from trainables.datasets import load
from trainables.metrics import extractor, frechet_distance, reference


@pytest.fixture(autouse=True)
def importable(monkeypatch, request):
    monkeypatch.syspath_prepend(request.path.parent)


@pytest.fixture(scope="module")
def digits():
    return load("digits", "unused")


def test_a_class_and_an_instance_are_found_by_their_path(digits):
    halves, pixels = (extractor(f"my_extractors:{name}", digits) for name in ("Halves", "pixels"))
    assert (halves.metric, halves.dims, halves.channels) == ("fd_halves", 2, 1)
    assert (pixels.metric, pixels.dims) == ("fd_pixels", 64)
    assert torch.equal(halves(torch.ones(1, 1, 8, 8)), torch.tensor([[2.0, 2.0]]))
    assert halves.fingerprint != pixels.fingerprint
    train, test = (reference(halves, split.images) for split in (digits.train, digits.test))
    assert 0 <= frechet_distance(train, test) < 0.1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_place:Halves", "no module 'no_such_place'"),
        ("no_such.place:Halves", "no module 'no_such.place'"),
        (":Halves", "no module ''"),
        ("my_extractors:Quarters", "my_extractors has no 'Quarters'"),
        ("my_extractors:number", "'number' must be a torch module"),
        ("my_extractors:colour", r"fails on images of shape \(1, 8, 8\)"),
        ("my_extractors:maps", r"expected features of shape \(B, F\), got \(2, 2, 8, 8\)"),
    ],
)
def test_what_is_not_an_extractor_is_refused_in_one_line(path, message, digits):
    with pytest.raises(ValueError, match=message) as error:
        extractor(path, digits)
    assert "\n" not in str(error.value) and path in str(error.value)
