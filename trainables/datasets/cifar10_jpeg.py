"""CIFAR-10 after a trip through JPEG of quality 75, on which the two-stage VAE codes train and measure.

It is another data set than CIFAR-10, with other FIDs, so it has another name. The image folder
`<root>/cifar10-jpeg/{train,test}/<class>` is taken where there is one; otherwise the pictures are made from
CIFAR-10.
"""

from io import BytesIO
from pathlib import Path

from PIL import Image

from . import _folder, cifar10
from ._source import Part, Pictures, Source, digest

NAME = "cifar10-jpeg"
QUALITY = 75


def read(root: Path, download: bool) -> Source:
    """50 000 training and 10 000 test pictures, 32x32 colour. Raises `ValueError` as `cifar10` does."""
    if (root / NAME).is_dir():
        return _folder.read(root / NAME, name=NAME, like="cifar10")
    raw = cifar10.read(root, download)
    return Source(NAME, _through_jpeg(raw.train), _through_jpeg(raw.test), like="cifar10")


def _through_jpeg(part: Part) -> Part:
    raw = Pictures.of(part.images)

    def picture(i: int) -> Image.Image:
        file = BytesIO()
        raw.open(i).save(file, "JPEG", quality=QUALITY)
        return Image.open(file)

    return Part(Pictures(raw.names, digest(raw.stamp, b"jpeg %d" % QUALITY), picture), part.labels)
