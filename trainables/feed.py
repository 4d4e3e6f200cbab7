"""Transfer of training images to the device. Images that fit a share of its memory are copied once; others stay on
the host, in memory or in a mapped file, and batches are gathered and copied ahead of the training.

The batches are the same in both cases, and so are the results.

B batch, C H W image, N images.
"""

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

DEVICE_SHARE = 0.25  # of a GPU's memory, at most, for the images of one process
AHEAD = 3  # batches copied in advance
ENCODE_BATCH = 500  # images per batch when a whole data set is encoded


def shared(images: np.ndarray) -> Tensor:
    """Returns the array as a tensor without a copy, so all processes of a machine share its memory or mapped file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # it is only read
        return torch.from_numpy(images)


def placed(images: Tensor, device: torch.device | str, share: float = DEVICE_SHARE) -> Tensor:
    """Copies the images to the device if they fit in `share` of its memory, else returns them unchanged."""
    device = torch.device(device)
    if device.type == "cuda" and images.nbytes > share * torch.cuda.mem_get_info(device)[1]:
        return images
    return images.to(device)


def in_order(images: Tensor, device: torch.device) -> Iterator[Tensor]:
    """Yields a whole data set in batches on the device, (B, C, H, W) in the stored dtype."""
    return (some.to(device) for some in images.split(ENCODE_BATCH))


def batches(images: Tensor, order: Tensor, size: int, device: torch.device) -> Iterator[Tensor]:
    """Yields images[order] in batches of `size` on the device, (B, C, H, W) in the stored dtype.

    order: (n,), on the device.
    """
    if not len(order):  # split would return one empty batch
        return iter(())
    if images.device == device:
        return (images[some] for some in order.split(size))
    return ahead(order.cpu().split(size), lambda some: _to_device(images, some, device))


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
