"""An extractor that takes no time."""

from torch import Tensor, nn


class Pooled(nn.Module):
    """The means of 4 x 4 fields of an image."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)
