"""Checks of the machine that drives a sweep."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from sweep import tracking
from sweep.checks.finding import Finding, attempt
from sweep.checks.storage import room, writable
from sweep.config import SweepConfig
from sweep.driver import local_ray, provenance
from sweep.driver.job import default_tracking
from sweep.driver.mirror import require_usable
from sweep.driver.shares import choose_share, needs_of, own_gpus
from sweep.search.plan import plan
from trainables.credentials import redact
from trainables.datasets import Absent, load
from trainables.memory import readable
from trainables.metrics import needs_inception
from trainables.metrics.inception import WEIGHTS


def this_machine(config: SweepConfig) -> Iterator[Finding]:
    where = "this machine"
    versions = ", ".join(f"{name} {version}" for name, version in provenance.versions().items())
    yield Finding("ok", where, f"code {provenance.code_hash()}; {versions}")
    yield attempt(where, lambda: writable(config.out))
    yield room(where, config.out)
    if config.address is None:
        yield attempt(where, own_ray)
        yield from other_ray(where)
        gpus = torch.cuda.device_count()
        yield graphics(where, gpus, gpus, graphics_cards())
        yield from weights(where, config, weights_here(config))
    for name in config.datasets:
        yield data_set(where, name, config)
    yield attempt(where, lambda: tracked(default_tracking(config)))
    if (address := config.mirror) is not None:
        yield attempt(where, lambda: mirrored(address))
    if config.address is None:
        try:
            gpus_here = own_gpus()
        except ValueError as error:
            yield Finding("bad", where, str(error))
        else:
            yield from memory(where, config, gpus_here)


def memory(where: str, config: SweepConfig, gpus: Sequence[int]) -> Iterator[Finding]:
    """Check the memory of a trial of each study against the bytes of the smallest GPU of each node; yields nothing if
    the sweep cannot be planned."""
    try:
        planned = plan(config.model_copy(update={"present_only": True}))  # without a download
    except ValueError:  # the other findings, or the sweep, give the reason
        return
    for need in needs_of(planned):
        yield Finding("ok", where, f"{need.study}: {need}")
    warnings: list[str] = []
    try:
        share = choose_share(planned, gpus, warnings.append)
    except ValueError as error:
        yield Finding("bad", where, str(error))
        return
    for line in warnings:
        yield Finding("warn", where, line)
    if gpus and config.gpus_per_trial != 0:
        sizes = ", ".join(map(readable, sorted(set(gpus))))
        yield Finding("ok", where, f"a trial gets {share:g} of a GPU; the smallest GPU of each node has {sizes}")
        step = max(need.step for need in planned.footprints.values())
        if small := [readable(size) for size in sorted(set(gpus)) if size < step]:
            words = f"nodes whose smallest GPU has {', '.join(small)} will be excluded: a training step takes"
            yield Finding("warn", where, f"{words} {readable(step)}")


def own_ray() -> str:
    local_ray.check()
    return f"the sweep starts a local Ray with sockets in {local_ray.folder()}"


def other_ray(where: str) -> Iterator[Finding]:
    """Check the cluster that Ray's own programs would join here."""
    if (address := local_ray.last_head()) is None:
        return
    try:
        local_ray.knock(address)
    except (OSError, OverflowError) as error:
        words = f"the Ray last started here, {address}, does not answer ({error}); `ray stop` removes its address"
        yield Finding("warn", where, f"{words}, and this sweep does not use it")
    else:
        yield Finding("ok", where, f"this sweep does not use the Ray at {address}; give --address {address} to use it")


def data_set(where: str, name: str, config: SweepConfig) -> Finding:
    try:
        splits = load(name, config.data_root, size=config.image_size, channels=config.channels, download=False)
    except Absent as error:
        if config.present_only:
            return Finding("warn", where, f"{name} is absent and will be skipped")
        return Finding("bad", where, f"{error}; or download it with python -m sweep prefetch")
    except ValueError as error:
        return Finding("bad", where, str(error))
    sizes = " + ".join(str(len(part)) for part in (splits.train, splits.valid, splits.test))
    return Finding("ok", where, f"data set {splits.name}: {sizes} of {' x '.join(map(str, splits.shape))}")


def mirrored(address: str) -> str:
    require_usable(address)
    return f"sweeps are copied to {address}, where objects can be created only once"


def tracked(uri: str) -> str:
    tracking.check(uri)
    return f"tracking at {redact(uri)}"


def weights_here(config: SweepConfig) -> Path | None:
    """Return the file of the Inception weights that this process would use, None if there is none."""
    file = config.fid_weights or Path(torch.hub.get_dir(), "checkpoints", WEIGHTS)
    return file if file.is_file() else None


def weights(where: str, config: SweepConfig, file: Path | None) -> Iterator[Finding]:
    if needs_inception(config.metric):
        if file is None:
            yield Finding("bad", where, "no Inception weights; download them: python -m sweep prefetch --metric fid")
        else:
            yield Finding("ok", where, f"Inception weights in {file}")


def graphics_cards() -> int:
    """Return the number of NVIDIA devices, regardless of their driver."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def graphics(where: str, expected: int, seen: int, cards: int) -> Finding:
    if seen < expected or (cards and not seen):
        return Finding(
            "bad", where, f"torch sees {seen} of {max(expected, cards)} GPUs; check that its CUDA matches the driver"
        )
    if seen > expected:
        return Finding("warn", where, f"Ray has {expected} GPUs, but torch sees {seen}")
    return Finding("ok", where, f"{seen} GPUs" if seen else "no GPU expected or found")
