"""CelebA, faces in colour (Liu et al., 2015), three official splits; torchvision's layout: `<root>/celeba`.

The two-stage codes crop aligned pictures of 178x218 to the central 128x128, rows 45 to 173 and columns 25 to 153;
WAE and RAE crop to 140x140, rows 39 to 179 and columns 19 to 159.
"""

from pathlib import Path

from PIL import Image

from ._download import ensure
from ._folder import File, find, read_files
from ._source import Part, Source

ALIGNED = (178, 218)  # width, height
CENTRE = (25, 45, 153, 173)  # left, upper, right, lower
WIDE_CENTRE = (19, 39, 159, 179)
BILINEAR = Image.Resampling.BILINEAR  # Pillow antialiases when it reduces


def read(
    name: str,
    side: int,
    root: Path,
    download: bool,
    *,
    box: tuple[int, int, int, int] = CENTRE,
    resample: Image.Resampling = BILINEAR,
) -> Source:
    """Reads 162 770 training, 19 867 validation and 19 962 test pictures, cropped and resized to `side` pixels.

    Raises a `ValueError` if files are missing.
    """
    folder, partition = root / "celeba" / "img_align_celeba", root / "celeba" / "list_eval_partition.txt"
    ensure(name, root, [partition, folder], _fetch, download)
    files = {file.path: file for file in find(folder).files}
    parts: dict[str, list[File]] = {"0": [], "1": [], "2": []}  # train, valid, test
    for number, line in enumerate(partition.read_text(errors="replace").splitlines(), 1):
        picture, _, part = line.partition(" ")
        if part.strip() not in parts:
            raise ValueError(f"{partition}, line {number}: '{line}' must be a file name and 0, 1 or 2; get it again")
        if picture not in files:
            raise ValueError(f"{folder / picture} is missing, but {partition.name} lists it; unpack CelebA again")
        parts[part.strip()].append(files[picture])
    if not all(parts.values()):
        raise ValueError(f"{partition} lists no pictures for a split; download it again")

    def cut(image: Image.Image) -> Image.Image:
        if image.size != ALIGNED:
            raise ValueError(f"{image.width}x{image.height} is not the size of CelebA's aligned pictures")
        return image.crop(box).resize((side, side), resample)

    called = f"centre {side}" + (f" {box} {resample.name}" if (box, resample) != (CENTRE, BILINEAR) else "")
    train, valid, test = (
        Part(read_files(folder, chosen).then(cut, called, (3, side, side))) for chosen in parts.values()
    )
    return Source(name, train, test, valid, like="cifar10")


def _fetch(root: Path) -> None:
    from torchvision.datasets import CelebA  # slow to import, and rarely needed

    CelebA(root, download=True)
