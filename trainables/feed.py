"""Training images on their way to the device: all of them lie there if they fit a share of it, else they stay on the
host, in memory or in a mapped file, and are gathered batch by batch, ahead of the training.

Either way a batch holds the same images, so training gives the same numbers.

B batch, C H W image, N images.
"""

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

DEVICE_SHARE = 0.25  # of a GPU's memory that the images of one process may take
AHEAD = 3  # batches under way to the device
ENCODE_BATCH = 500  # images of a data set that is encoded as a whole


def shared(images: np.ndarray) -> Tensor:
    """The array as a tensor without a copy: all processes of a machine train on the same memory, or the same map."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # nobody writes to it
        return torch.from_numpy(images)


def placed(images: Tensor, device: torch.device | str, share: float = DEVICE_SHARE) -> Tensor:
    """The images on the device if they fit `share` of its memory, else where they are."""
    device = torch.device(device)
    if device.type == "cuda" and images.nbytes > share * torch.cuda.mem_get_info(device)[1]:
        return images
    return images.to(device)


def in_order(images: Tensor, device: torch.device) -> Iterator[Tensor]:
    """A whole data set on the device, (B, C, H, W) as it is stored, some images at a time."""
    return (some.to(device) for some in images.split(ENCODE_BATCH))


def batches(images: Tensor, order: Tensor, size: int, device: torch.device) -> Iterator[Tensor]:
    """images[order] on the device, (B, C, H, W) as they are stored, `size` at a time. order (n,) lies on the device."""
    if not len(order):  # which split would make one empty batch of
        return iter(())
    if images.device == device:
        return (images[some] for some in order.split(size))
    return ahead(order.cpu().split(size), lambda some: _to_device(images, some, device))


def ahead(chunks: Iterable[Tensor], bring: Callable[[Tensor], Callable[[], Tensor]]) -> Iterator[Tensor]:
    """What `bring` makes of each chunk, in order; a thread begins with the next few meanwhile.

    `bring` runs in the thread, and what it returns is called where the batch is used.
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
    """Starts the copy of images[some] to a GPU, on a stream beside that of the training."""
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
