"""Transfer of training images to the device. Images that fit a share of its memory are copied once; others stay on
the host, in memory or in a mapped file, and batches are gathered and copied ahead of the training.

The batches are the same in all cases, and so are the results.

B batch, C H W image, N images.
"""

import mmap
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

DEVICE_SHARE = 0.25  # of a GPU's memory, at most, for the images of one process
AHEAD = 3  # batches copied in advance
ENCODE_BATCH = 500  # images per batch when a whole data set is encoded


def shared(images: np.ndarray) -> Tensor:
    """Returns the array as a tensor without a copy, so all processes of a machine share its memory or mapped file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # it is only read
        return torch.from_numpy(images)


def placed(images: np.ndarray, device: torch.device | str, share: float = DEVICE_SHARE) -> Tensor:
    """Copies training images to the device if they fit in `share` of its memory, else leaves them where they are."""
    device, held = torch.device(device), shared(images)
    if device.type != "cuda" or images.nbytes <= share * torch.cuda.mem_get_info(device)[1]:
        held = held.to(device)
    on_host = held.device.type == "cpu"
    if on_host and isinstance(images, np.memmap) and isinstance(images.base, mmap.mmap) and len(images):
        # Around a page that is missing the system reads megabytes, which an image at random does not need.
        images.base.madvise(mmap.MADV_RANDOM)
        _maps[held] = Map(images.base, images.offset % mmap.ALLOCATIONGRANULARITY, images[0].nbytes)
    return held


class Map(NamedTuple):
    """The mapped file of images that are trained on."""

    file: mmap.mmap
    first: int  # place of the first image, in bytes
    size: int  # of an image, in bytes

    def fetch(self, start: int, stop: int) -> None:
        """Begins to read the images from start to stop, and does not wait for them."""
        begin, end = self.first + start * self.size, self.first + stop * self.size
        page = begin - begin % mmap.PAGESIZE
        self.file.madvise(mmap.MADV_WILLNEED, page, end - page)


_maps = WeakTensorKeyDictionary()  # Map of a tensor


def in_order(images: Tensor, device: torch.device) -> Iterator[Tensor]:
    """Yields a whole data set in batches on the device, (B, C, H, W) in the stored dtype."""
    behind = _maps.get(images)
    for start in range(0, len(images), ENCODE_BATCH):
        if behind is not None:  # this batch and the next one
            behind.fetch(start, min(start + 2 * ENCODE_BATCH, len(images)))
        yield images[start : start + ENCODE_BATCH].to(device)


def batches(images: Tensor, order: Tensor, size: int, device: torch.device) -> Iterator[Tensor]:
    """Yields images[order] in batches of `size` on the device, (B, C, H, W) in the stored dtype.

    order: (n,), on the device.
    """
    if not len(order):  # split would return one empty batch
        return iter(())
    if images.device == device:
        return (images[some] for some in _fetched(images, order.split(size)))
    return ahead(_fetched(images, order.cpu().split(size)), lambda some: _to_device(images, some, device))


def _fetched(images: Tensor, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yields the chunks; the images of the next few are being read if they are in a mapped file."""
    behind = _maps.get(images)
    if behind is None:
        yield from chunks
        return
    coming: deque[Tensor] = deque()
    for chunk in chunks:
        for image in chunk.tolist():
            behind.fetch(image, image + 1)
        coming.append(chunk)
        if len(coming) > AHEAD:
            yield coming.popleft()
    yield from coming


def ahead(chunks: Iterable[Tensor], bring: Callable[[Tensor], Callable[[], Tensor]]) -> Iterator[Tensor]:
    """Yields the result of `bring` for each chunk in order, while a thread prepares the next few.

    `bring` runs in the thread; the function it returns is called in the thread that uses the batch.
    """
    with ThreadPoolExecutor(1, "feed") as pool:
        coming: deque[Future[Callable[[], Tensor]]] = deque()
        for chunk in chunks:
            coming.append(pool.submit(bring, chunk))
            if len(coming) > AHEAD:
                yield coming.popleft().result()()
        while coming:
            yield coming.popleft().result()()


def _to_device(images: Tensor, some: Tensor, device: torch.device) -> Callable[[], Tensor]:
    """Starts the copy of images[some] to a GPU, on a separate stream."""
    host = torch.empty((len(some), *images.shape[1:]), dtype=images.dtype, pin_memory=True)
    torch.index_select(images, 0, some, out=host)
    stream = _side_stream(device)
    with torch.cuda.stream(stream):
        batch = host.to(device, non_blocking=True)
        done = stream.record_event()

    def arrived() -> Tensor:
        training = torch.cuda.current_stream(device)
        training.wait_event(done)
        batch.record_stream(training)
        return batch

    return arrived


_streams: dict[torch.device, torch.cuda.Stream] = {}


def _side_stream(device: torch.device) -> torch.cuda.Stream:
    if device not in _streams:
        _streams[device] = torch.cuda.Stream(device)
    return _streams[device]
