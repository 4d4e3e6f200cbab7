"""CIFAR-10 after JPEG compression of quality 75, which the two-stage VAE codes use for training and evaluation.

Its FIDs differ from those of CIFAR-10, so it has a separate name. It is read from the image folder
`<root>/cifar10-jpeg/{train,test}/<class>` if that exists, else computed from CIFAR-10.
"""

from io import BytesIO
from pathlib import Path

from PIL import Image

from . import _folder, cifar10
from ._source import Part, Pictures, Source

NAME = "cifar10-jpeg"
QUALITY = 75


def read(root: Path, download: bool) -> Source:
    """Reads 50 000 training and 10 000 test pictures, 32x32 colour. Raises `ValueError` as `cifar10` does."""
    if (root / NAME).is_dir():
        return _folder.read(root / NAME, name=NAME, like="cifar10")
    raw = cifar10.read(root, download)
    train, test = (
        Part(Pictures.of(part.images).then(_through_jpeg, f"JPEG {QUALITY}", (3, 32, 32)), part.labels)
        for part in (raw.train, raw.test)
    )
    return Source(NAME, train, test, like="cifar10")


def _through_jpeg(image: Image.Image) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return Image.open(file)
