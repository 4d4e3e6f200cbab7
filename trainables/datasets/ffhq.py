"""FFHQ, faces, 128x128 colour (Karras et al., 2019), in the owners' layout: `<root>/ffhq/thumbnails128x128`.

There is no official test split; the AAE paper's code trains on the first 60 000 and tests on the last 10 000.
"""

from pathlib import Path

from . import _folder
from ._errors import Absent
from ._source import Part, Source

COUNT = 70_000
TRAIN = 60_000


def read(root: Path, download: bool) -> Source:
    """Reads 60 000 training and 10 000 test pictures, in the order of their numbers.

    A program cannot download them. Raises `Absent` if all are missing, `ValueError` if some are.
    """
    folder = root / "ffhq" / "thumbnails128x128"
    files = _folder.find(folder).files if folder.is_dir() else []
    if len(files) != COUNT:
        fault = ValueError if files else Absent  # a sweep may skip absent data sets, not incomplete ones
        raise fault(
            f"ffhq: {folder} holds {len(files)} pictures instead of {COUNT}; get the thumbnails128x128 of "
            "github.com/NVlabs/ffhq-dataset and put them there"
        )
    files.sort(key=lambda file: Path(file.path).name)  # 00000.png .. 69999.png, in subfolders or not
    train, test = (Part(_folder.read_files(folder, part)) for part in (files[:TRAIN], files[TRAIN:]))
    return Source("ffhq", train, test, like="cifar10")
