"""The shape all extractors share, and what they refuse, each in one line."""

import pytest
import torch
from torch import nn

from trainables.metrics.extractors import Extractor, fingerprint


def pixels(channels=3):
    """An extractor whose features are the pixels it was shown."""
    return Extractor("pixels", "fd_pixels", channels * 4, channels, "none", "0", nn.Flatten(), torch.device("cpu"))


def test_images_are_quantised_to_8_bit_before_the_network_sees_them():
    images = torch.tensor([0.0, 0.499 / 255, 0.501 / 255, 1.0]).reshape(1, 1, 2, 2)
    torch.testing.assert_close(pixels(1)(images), torch.tensor([[0.0, 0.0, 1 / 255, 1.0]]))


def test_grey_is_replicated_to_three_channels():
    grey = torch.rand(2, 1, 2, 2)
    assert torch.equal(pixels()(grey), pixels()(grey.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.full((2, 3, 2, 2), 1.01), r"got values from 1.01 to 1.01"),
        (torch.full((2, 3, 2, 2), -0.5), r"got values from -0.5 to -0.5"),
        (torch.full((2, 3, 2, 2), float("nan")), r"without NaN, got values from nan"),
        (torch.rand(2, 4, 2, 2), "takes images of 3 channels, got 4"),
        (torch.rand(3, 2, 2), r"\(B, C, H, W\), got torch.float32 \(3, 2, 2\)"),
        (torch.zeros(2, 3, 2, 2, dtype=torch.uint8), "divide 8-bit images by 255"),
    ],
)
def test_bad_images_are_refused_in_one_line(images, message):
    with pytest.raises(ValueError, match=message) as error:
        pixels()(images)
    assert "\n" not in str(error.value)


def test_colour_is_refused_by_a_grey_extractor():
    with pytest.raises(ValueError, match="takes images of 1 channels, got 3"):
        pixels(1)(torch.rand(2, 3, 2, 2))


def test_fingerprint_depends_on_values_and_not_on_order():
    a, b = torch.ones(2), torch.zeros(2)
    assert fingerprint({"a": a, "b": b}) == fingerprint({"b": b, "a": a}) != fingerprint({"a": b, "b": a})
    assert fingerprint({"a": a}) != fingerprint({"a": a.reshape(1, 2)})
