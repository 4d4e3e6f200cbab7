"""Tiny data sets in their real layouts, for the tests to read back."""

import pickle
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def write_mnist(root: Path, random: np.random.Generator, folder: str = "MNIST") -> dict[str, np.ndarray]:
    """30 training and 7 test pictures; returns these, (N, 28, 28), and the labels by file name."""
    arrays = {}
    for part, n in (("train", 30), ("t10k", 7)):
        arrays[f"{part}-images-idx3-ubyte"] = random.integers(0, 256, (n, 28, 28), np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = random.integers(0, 10, n)
    for file, array in arrays.items():
        write_idx(root / folder / "raw" / file, array)
    return arrays


def write_emnist(root: Path, random: np.random.Generator) -> np.ndarray:
    """30 training and 7 test pictures, transposed as in the real files; returns the test pictures so."""
    for part, n in (("train", 30), ("test", 7)):
        pictures = random.integers(0, 256, (n, 28, 28), np.uint8)
        write_idx(root / "EMNIST" / "raw" / f"emnist-balanced-{part}-images-idx3-ubyte", pictures)
        write_idx(root / "EMNIST" / "raw" / f"emnist-balanced-{part}-labels-idx1-ubyte", random.integers(0, 47, n))
    return pictures


def write_celeba(root: Path, random: np.random.Generator) -> dict[str, list[np.ndarray]]:
    """12 training, 3 validation and 4 test pictures, each of one colour; returns these colours by split."""
    colours = {}
    lines, number = [], 0
    for part, (split, n) in enumerate((("train", 12), ("valid", 3), ("test", 4))):
        colours[split] = list(random.integers(40, 216, (n, 3), np.uint8))
        for colour in colours[split]:
            number += 1
            picture = np.zeros((218, 178, 3), np.uint8)
            picture[45:173, 25:153] = colour  # what methods cut out
            write_picture(root / "celeba" / "img_align_celeba" / f"{number:06}.jpg", picture)
            lines.append(f"{number:06}.jpg {part}\n")
    (root / "celeba" / "list_eval_partition.txt").write_text("".join(lines))
    return colours


def write_cifar10(root: Path, random: np.random.Generator) -> dict[str, dict]:
    """Five batches of 6 pictures and a test batch of 8; returns the batches under the files' names."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    batches = {}
    for file, n in [*((f"data_batch_{i}", 6) for i in range(1, 6)), ("test_batch", 8)]:
        labels = [int(label) for label in random.integers(0, 10, n)]
        batches[file] = {b"data": random.integers(0, 256, (n, 3072), np.uint8), b"labels": labels}
        (folder / file).write_bytes(pickle.dumps(batches[file], protocol=2))
    return batches


def write_svhn(root: Path, random: np.random.Generator) -> dict[str, dict]:
    """30 training and 7 test pictures; returns each file's X (32, 32, 3, N) and y (N, 1), in 1..10."""
    contents = {}
    for file, n in (("train_32x32.mat", 30), ("test_32x32.mat", 7)):
        x = random.integers(0, 256, (32, 32, 3, n), np.uint8)
        y = random.integers(1, 11, (n, 1), np.uint8)
        y[0] = 10
        contents[file] = {"X": x, "y": y}
        savemat(root / file, contents[file])
    return contents


def write_picture(path: Path, array: np.ndarray) -> None:
    """A picture (H, W) or (H, W, 3) as a file of the kind its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def rows(images: np.ndarray) -> list[bytes]:
    """Each picture's bytes, sorted: the set of pictures, whatever their order."""
    return sorted(image.tobytes() for image in images)
