"""A file as a data set: arrays, tables with pictures in them, archives; and a stranger's reader."""

import io
import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from trainables.datasets import load

N = 40
IMAGES = np.random.default_rng(0).integers(0, 256, (N, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(N) % 3 + 5


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))


def everything(splits):
    """All images and labels of the three splits, sorted by the images' bytes."""
    parts = (splits.train, splits.valid, splits.test)
    images = np.concatenate([part.images for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    order = sorted(range(len(images)), key=lambda i: images[i].tobytes())
    return images[order], labels[order]


def expected():
    images = IMAGES.transpose(0, 3, 1, 2)
    order = sorted(range(N), key=lambda i: images[i].tobytes())
    return images[order], (LABELS - 5)[order]


def encoded(image, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def table(images, labels):
    cells = pa.array([{"bytes": encoded(image), "path": None} for image in images])
    return pa.table({"image": cells, "label": labels})


def as_npz(folder):
    np.savez(folder / "leaves.npz", images=IMAGES, labels=LABELS)
    return folder / "leaves.npz"


def as_floats(folder):
    np.savez(folder / "leaves.npz", x=IMAGES.transpose(0, 3, 1, 2) / 255, y=LABELS[:, None])
    return folder / "leaves.npz"


def as_tensors(folder):
    torch.save((torch.tensor(IMAGES), torch.tensor(LABELS)), folder / "leaves.pt")
    return folder / "leaves.pt"


def as_parquet(folder):
    pq.write_table(table(IMAGES, LABELS), folder / "leaves.parquet")
    return folder / "leaves.parquet"


def as_saved_by_hugging_face(folder):
    for split, part in (("train", slice(10, None)), ("test", slice(10))):
        (folder / "leaves" / split).mkdir(parents=True)
        rows = table(IMAGES[part], LABELS[part])
        path = folder / "leaves" / split / "data-00000-of-00001.arrow"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, rows.schema) as writer:
            writer.write_table(rows)
    return folder / "leaves"


def as_zip(folder):
    with zipfile.ZipFile(folder / "leaves.zip", "w") as archive:
        for i, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
            archive.writestr(f"leaves/{label}/{i}.png", encoded(image))
    return folder / "leaves.zip"


def as_tar(folder):
    with tarfile.open(folder / "leaves.tar.gz", "w:gz") as archive:
        for i, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
            content = encoded(image)
            entry = tarfile.TarInfo(f"{label}/{i}.png")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return folder / "leaves.tar.gz"


WAYS = [as_npz, as_floats, as_tensors, as_parquet, as_saved_by_hugging_face, as_zip, as_tar]


@pytest.mark.parametrize("write", WAYS, ids=lambda way: way.__name__)
def test_every_kind_of_file_gives_the_same_images_and_labels(write, tmp_path):
    splits = load(f"file:{write(tmp_path)}", tmp_path)
    assert splits.name == "leaves" and len(splits.test) in (4, 10)
    for found, wanted in zip(everything(splits), expected(), strict=True):
        assert np.array_equal(found, wanted)


def test_official_splits_are_found_by_the_names_of_arrays(tmp_path):
    np.savez(
        tmp_path / "blood.npz", train_images=IMAGES[:20], val_images=IMAGES[20:30], test_images=IMAGES[30:],
        train_labels=LABELS[:20], val_labels=LABELS[20:30], test_labels=LABELS[30:],
    )  # fmt: skip
    splits = load(f"file:{tmp_path / 'blood.npz'}", tmp_path)
    assert [len(part) for part in (splits.train, splits.valid, splits.test)] == [20, 10, 10]
    assert np.array_equal(splits.test.images, IMAGES[30:].transpose(0, 3, 1, 2))
    assert splits.valid.labels.tolist() == (LABELS[20:30] - 5).tolist()


def as_arrays_of_splits(folder, images, labels):
    arrays = {f"{split}_{kind}": part for split in images for kind, part in
              (("images", images[split]), ("labels", labels[split]))}  # fmt: skip
    np.savez(folder / "leaves.npz", **arrays)
    return folder / "leaves.npz"


def as_tables_of_splits(folder, images, labels, suffix="parquet"):
    for split in images:
        tables = table(images[split], labels[split])
        pq.write_table(tables, folder / f"{split}.parquet") if suffix == "parquet" else as_arrow(folder, split, tables)
    return folder


def as_arrow(folder, split, table):
    with pa.ipc.new_stream(folder / f"{split}.arrow", table.schema) as file:
        file.write_table(table)


def as_arrow_of_splits(folder, images, labels):
    return as_tables_of_splits(folder, images, labels, "arrow")


@pytest.mark.parametrize("write", [as_arrays_of_splits, as_tables_of_splits, as_arrow_of_splits])
@pytest.mark.parametrize("names", [(3, 5, 9), ("ash", "elm", "oak"), (0.0, 1.0, 2.0), (False, True)])
def test_labels_are_numbered_over_all_splits(write, names, tmp_path):
    """The test split lacks the first class, so numbers of its own would be other ones."""
    truth = {"train": np.arange(20) % len(names), "test": np.full(4, len(names) - 1)}
    images = {split: random_images(own) for split, own in truth.items()}
    labels = {split: [names[i] for i in own] for split, own in truth.items()}
    folder = tmp_path / "leaves"
    folder.mkdir()
    splits = load(f"file:{write(folder, images, labels)}", tmp_path)
    for part in (splits.train, splits.valid, splits.test):
        assert part.labels.tolist() == part.images[:, 0, 0, 0].tolist()
    assert splits.reading.classes == tuple(name if isinstance(name, str) else f"{name:.0f}" for name in names)


@pytest.mark.parametrize("write", [as_arrays_of_splits, as_tables_of_splits])
def test_a_single_class_is_none(write, tmp_path):
    """As in a folder with one class: a classifier of one class has no gradient and keeps its random features."""
    images = {"train": IMAGES[:30], "test": IMAGES[30:]}
    folder = tmp_path / "leaves"
    folder.mkdir()
    labels = {split: [7] * len(own) for split, own in images.items()}
    splits = load(f"file:{write(folder, images, labels)}", tmp_path)
    assert splits.train.labels is None and splits.reading.classes == ()


@pytest.mark.parametrize("channels", [1, 3])
def test_splits_of_different_shapes_are_refused(channels, tmp_path):
    np.savez(tmp_path / "a.npz", x_train=IMAGES, x_test=IMAGES[:, :, 1:, :channels])
    with pytest.raises(ValueError, match=f"different shapes, .*{channels}x6x4.*give --image-size and --channels"):
        load(f"file:{tmp_path}/a.npz", tmp_path)
    splits = load(f"file:{tmp_path}/a.npz", tmp_path, size=4, channels=3)
    assert splits.test.images.shape == (N, 3, 4, 4)


def random_images(labels):
    """Grey images whose first pixel is the label."""
    images = np.random.default_rng(1).integers(0, 256, (len(labels), 6, 5), np.uint8)
    images[:, 0, 0] = labels
    return images


@pytest.mark.parametrize("labels", [[None, 1], [[1], [1, 2]], [{"x": 1}, {"x": 2}], [0.25, 1.0]])
def test_a_column_that_names_no_classes_is_refused(labels, tmp_path):
    pq.write_table(table(IMAGES, labels * (N // 2)), tmp_path / "leaves.parquet")
    with pytest.raises(ValueError, match=r"leaves.parquet, label: .*labels are .*; (remove|give each)"):
        load(f"file:{tmp_path}/leaves.parquet", tmp_path)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array(5), "40 images and labels of shape ()"),
        (np.arange(7), "40 images and labels of shape (7,)"),
        (np.linspace(0, 1, N), "labels are float64, such as 0.0256"),
        (np.full(N, np.nan), "labels are float64, such as nan"),
        (np.full(N, np.inf), "labels are float64, such as inf"),
        (np.zeros(N, "datetime64[D]"), "labels are datetime64[D], such as 1970-01-01"),
    ],
)
@pytest.mark.parametrize("images", [IMAGES, IMAGES[:, 0, :2, 0].astype(np.float32)], ids=["images", "points"])
def test_labels_that_name_no_classes_are_refused(images, labels, words, tmp_path):
    np.savez(tmp_path / "leaves.npz", images=images, labels=labels)
    with pytest.raises(ValueError, match=re.escape(words)):
        load(f"file:{tmp_path}/leaves.npz", tmp_path)


def test_labels_of_two_kinds_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=IMAGES, y_train=LABELS, x_test=IMAGES, y_test=LABELS.astype(str))
    with pytest.raises(ValueError, match="labels of train are numbers and those of test text; give one kind"):
        load(f"file:{tmp_path}/a.npz", tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_points_that_are_not_finite_are_refused(bad, tmp_path):
    points = np.zeros((N, 2), np.float32)
    points[3, 1] = bad
    np.save(tmp_path / "points.npy", points)
    with pytest.raises(ValueError, match="1 of 40 points are not finite; remove or correct them"):
        load(f"file:{tmp_path}/points.npy", tmp_path)


@pytest.mark.parametrize(
    "tensor",
    [
        lambda x: x.bfloat16(),
        lambda x: x.clone().requires_grad_(),
        lambda x: x.to_sparse(),
        lambda x: list(x.clone().requires_grad_()),
    ],
    ids=["bfloat16", "requires_grad", "sparse", "list"],
)
def test_tensors_that_numpy_lacks(tensor, tmp_path):
    images = torch.tensor(random_images(np.zeros(N)) // 128).float()  # 0 and 1 are exact as bfloat16
    torch.save({"images": tensor(images), "labels": torch.tensor(LABELS)}, tmp_path / "leaves.pt")
    found, _ = everything(load(f"file:{tmp_path}/leaves.pt", tmp_path))
    assert sorted(image.tobytes() for image in found) == sorted(
        image.tobytes() for image in (255 * images).numpy().astype(np.uint8)
    )


@pytest.mark.parametrize(
    "content",
    [
        {"images": torch.zeros(N, 4, 4), "labels": 5},
        {"images": [torch.zeros(4, 4), torch.zeros(4, 3)]},
        None,
        "images",
        torch.nn.Linear(2, 2),
    ],
    ids=["scalar", "ragged", "none", "text", "module"],
)
def test_tensors_that_are_no_images_are_refused(content, tmp_path):
    torch.save(content, tmp_path / "leaves.pt")
    with pytest.raises(ValueError, match=r"leaves.pt") as error:
        load(f"file:{tmp_path}/leaves.pt", tmp_path)
    assert str(error.value).isprintable()  # one line, without the colours of torch.load


def overwritten(data: bytes) -> bytes:
    """Damages the middle of a file."""
    middle = len(data) // 2
    return data[:middle] + b"\xff" * 60 + data[middle + 60 :]


def encrypted(data: bytes) -> bytes:
    """Sets the flag of an encrypted member in all headers of a .zip."""
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        first, *rest = data.split(mark)
        data = first + b"".join(
            mark + part[: flags - 4] + bytes([part[flags - 4] | 1]) + part[flags - 3 :] for part in rest
        )
    return data


def member(data: bytes) -> tarfile.TarInfo:
    """Returns a member of a .tar from the middle."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getmembers()[N // 2]


def as_archive(folder, suffix, images=IMAGES):
    kinds = {"zip": "zip", "tar": "tar", "tar.gz": "gztar", "tar.bz2": "bztar", "tar.xz": "xztar"}
    for i, image in enumerate(images):
        (folder / "pictures" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "pictures" / "ab"[i % 2] / f"{i}.png")
    return Path(shutil.make_archive(str(folder / "leaves"), kinds[suffix], folder / "pictures"))


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        ("zip", overwritten),
        ("zip", encrypted),
        ("zip", lambda data: data[: len(data) // 2]),
        *((f"tar.{kind}", overwritten) for kind in ("gz", "bz2", "xz")),
        *((f"tar.{kind}", lambda data: data[: len(data) // 2]) for kind in ("gz", "bz2", "xz")),
        ("tar", lambda data: data[: member(data).offset]),
        ("tar", lambda data: data[: member(data).offset + 200]),  # within a header
        ("tar", lambda data: data[: member(data).offset_data + 20]),  # within a picture
    ],
)
def test_a_damaged_archive_is_refused(suffix, damage, tmp_path):
    archive = as_archive(tmp_path, suffix)
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(ValueError, match=r"leaves\.\S+ cannot be read \(") as error:
        load(f"file:{archive}", tmp_path)
    assert "\n" not in str(error.value) and not list((tmp_path / "cache").rglob("*.png"))


@pytest.mark.parametrize("compressed", [np.savez, np.savez_compressed])
def test_a_damaged_file_of_arrays_is_refused(compressed, tmp_path):
    compressed(tmp_path / "leaves.npz", images=IMAGES)
    data = (tmp_path / "leaves.npz").read_bytes()
    for damaged in (overwritten(data), data[: len(data) // 2], data[:40] + b"\xff" * 40 + data[80:], b""):
        (tmp_path / "leaves.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"leaves.npz cannot be read as an array of numbers \("):
            load(f"file:{tmp_path}/leaves.npz", tmp_path)


def test_grey_arrays_without_labels(tmp_path):
    np.save(tmp_path / "grey.npy", IMAGES[..., 0])
    splits = load(f"file:{tmp_path / 'grey.npy'}", tmp_path)
    assert splits.shape == (1, 6, 5) and splits.train.labels is None and splits.like == "mnist"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.npy", lambda: np.zeros((N, 6, 5, 4), np.uint8), r"shape \(40, 6, 5, 4\); allowed are"),
        ("a.npy", lambda: np.zeros((N, 784)), r"shape \(40, 784\); allowed are .* and for points float32 \(N, P\)"),
        ("a.npy", lambda: np.full((N, 6, 5), 2.0), "floats go from 0 to 1, got 2 to 2"),
        ("a.npy", lambda: np.zeros((N, 6, 5), np.int32), "images are int32; give uint8"),
        ("a.npy", lambda: np.zeros((5, 6, 5), np.uint8), "has 5 train images; at least 10"),
        ("a.npy", lambda: None, "cannot be read"),
        ("a.csv", lambda: None, "a file of images ends in .npy"),
    ],
)
def test_what_holds_no_images_is_refused_in_one_line(name, content, words, tmp_path):
    array = content()
    if array is None:
        (tmp_path / name).write_bytes(b"nothing")
    else:
        np.save(tmp_path / name, array)
    with pytest.raises(ValueError, match=words) as error:
        load(f"file:{tmp_path / name}", tmp_path)
    assert "\n" not in str(error.value)


def test_an_archive_writes_nothing_outside_its_folder(tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        entry = tarfile.TarInfo("../../stolen.png")
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    with pytest.raises(ValueError, match=r"evil.tar cannot be read"):
        load(f"file:{tmp_path / 'evil.tar'}", tmp_path)
    assert not list(tmp_path.rglob("stolen.png"))


LAB = """
import numpy as np
from trainables.datasets import Part, Source

def read(root, download):
    images = (np.arange(20 * 4 * 4).reshape(20, 4, 4) % 256).astype(np.uint8)
    return Source("leaves", Part(images, np.arange(20) % 2), Part(images[:4], np.zeros(4)))


def wrong(root, download):
    return [1]

def broken(root, download):
    return root.nothing
"""


def test_a_strangers_reader(tmp_path, monkeypatch):
    (tmp_path / "my_leaves.py").write_text(LAB)
    monkeypatch.syspath_prepend(tmp_path)
    splits = load("my_leaves:read", tmp_path)
    assert (splits.name, splits.shape, len(splits.test)) == ("leaves", (1, 4, 4), 4)
    assert set(splits.train.labels) == {0, 1}
    for name, words in {
        "my_leaves:wrong": "must return a trainables.datasets.Source, got list",
        "my_leaves:broken": r"my_leaves.py:14: AttributeError",
        "my_leaves:reed": "my_leaves has no 'reed'; did you mean 'read'",
        "my_trees:read": "there is no module 'my_trees' to import",
    }.items():
        with pytest.raises(ValueError, match=words) as error:
            load(name, tmp_path)
        assert "\n" not in str(error.value)


def test_how_a_file_was_read_is_said(tmp_path):
    """Also that copies of a picture lie in two splits, as in a set that was doubled."""
    np.savez(tmp_path / "leaves.npz", x_train=IMAGES[4:], x_test=IMAGES[:6], y_train=LABELS[4:], y_test=LABELS[:6], w=0)
    reading = load(f"file:{tmp_path}/leaves.npz", tmp_path).reading
    assert reading.words() == (
        "42 pictures: 33 train (x_train), 3 valid (set aside), 6 test (x_test); 3 classes (5, 6, 7); "
        "left out: 1 array called w; WARNING: 2 pictures of the validation or test split also in an earlier split"
    )


def test_how_tables_were_read_is_said(tmp_path):
    reading = load(f"file:{as_parquet(tmp_path)}", tmp_path).reading
    assert reading.words().startswith("40 pictures: 33 train (leaves.parquet), 3 valid (set aside), 4 test")


def test_of_two_columns_of_pictures_the_one_called_image_is_read(tmp_path):
    pictures = table(IMAGES, LABELS)
    columns = {"mask": table(255 - IMAGES, LABELS)["image"], "Image": pictures["image"], "Label": pictures["label"]}
    pq.write_table(pa.table({**columns, "fine_label": LABELS}), tmp_path / "leaves.parquet")
    splits = load(f"file:{tmp_path}/leaves.parquet", tmp_path)
    for found, wanted in zip(everything(splits), expected(), strict=True):
        assert np.array_equal(found, wanted)
    assert splits.reading.words().endswith("left out: 1 column called fine_label, 1 column called mask")


def test_labels_that_only_one_split_has_are_warned_of(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=IMAGES[:30], y_train=LABELS[:30], x_test=IMAGES[30:])
    assert load(f"file:{tmp_path}/a.npz", tmp_path).reading.doubts() == ["no labels, because test has none"]


@pytest.mark.parametrize(
    ("numbers", "low", "doubts"),
    [
        (2, 0.0, []),
        (784, -0.1, []),  # an embedding, whose numbers have both signs
        (64, 0.0, ["(N, 8, 8)"]),
        (784, 0.0, ["(N, 28, 28)"]),
        (3072, 0.0, ["(N, 3, 32, 32) or (N, 32, 32, 3)"]),
    ],
)
def test_points_are_not_called_pictures(numbers, low, doubts, tmp_path):
    points = np.random.default_rng(0).uniform(low, 1, (40, numbers)).astype(np.float32)
    np.savez(tmp_path / "points.npz", x=points, names=np.arange(40))
    reading = load(f"file:{tmp_path}/points.npz", tmp_path).reading
    words = f"40 points of {numbers} numbers: 33 train (x), 3 valid (set aside), 4 test (set aside); no classes; "
    assert (
        reading.words().startswith(f"{words}left out: 1 array called names") and reading.record()["numbers"] == numbers
    )
    flat = "points are not images; if these numbers are the pixels of images, store them as "
    assert reading.doubts() == [flat + layout for layout in doubts]


def test_images_whose_number_may_be_the_last_axis_are_doubted(tmp_path):
    np.save(tmp_path / "last.npy", np.random.default_rng(0).integers(0, 256, (10, 10, 80), np.uint8))
    doubt = "read as 10 images of 80x10; if N is the last axis, store them as (N, H, W)"
    assert load(f"file:{tmp_path}/last.npy", tmp_path).reading.doubts() == [doubt]
