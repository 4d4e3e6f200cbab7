"""`python -m trainables METHOD`: trains one model without Ray and shows its progress.

The exit code is 1 if the training diverged, as that of a sweep without a complete trial; nothing is saved then.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from rich.columns import Columns
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trainables import feed, outside
from trainables.catalog import find, names
from trainables.config import Config, Device, ImageSize, Metric, Seed, UserPath
from trainables.datasets import load
from trainables.evaluate import evaluator_for
from trainables.fit import Report, fit
from trainables.flags import output_folder, read_flags, run, scalar
from trainables.memory import of_this_machine, require_memory
from trainables.metrics import CHOICES, default_metric, to_be_trained
from trainables.networks import FAMILIES, Networks
from trainables.paper import paper_point
from trainables.saved import save, save_grid
from trainables.strict import StrictModel
from trainables.training import Diverged

LOSS = "train/loss"  # prefix: with several players, each has its own
PositiveInt = Annotated[int, Field(ge=1)]


class Settings(StrictModel):
    """The flags of this program."""

    method: str = Field(
        description=f"one of {', '.join(names())}, or package.module:Class; --networks in its place lists the networks"
    )
    dataset: str = Field("digits", description="digits, mnist, fashion_mnist, cifar10, svhn, ..., or folder:PATH")
    values: UserPath | None = Field(
        None, description="search space to take the [[paper]] point from, by default that of the method"
    )
    set: dict[str, Any] = Field({}, description="hyperparameters that override the paper's point")
    epochs: PositiveInt = Field(27, description="passes over the training split, all stages together")
    seed: Seed = Field(0, description="seed of the initialisation and the order of images")
    metric: Metric | None = Field(
        None, description=f"{CHOICES}; by default fcd for data sets with labels, fsd without, mse for points"
    )
    samples: Annotated[int, Field(ge=2)] = Field(5000, description="images drawn for the distance")
    data_root: UserPath = Field(Path("data"), description="folder of the data sets, and for downloads")
    image_size: ImageSize | None = Field(None, description="side in pixels to resize images to")
    channels: Literal[1, 3] | None = Field(None, description="1 grey, 3 colour")
    fid_weights: UserPath | None = Field(
        None, description="file of pytorch-fid's Inception weights, instead of a download"
    )
    device: Device = Field("auto", description="auto, cpu, cuda, cuda:1, ...")
    out: UserPath | None = Field(None, description="folder for the trained model and its grids")


def show_networks() -> None:
    """Prints each family of networks: the names of its kinds, a description, and its size for two image shapes."""
    for family in FAMILIES.values():
        example = family.KINDS.rpartition("e.g. ")[2]
        print(family.KINDS)
        print(f"    {(family.__doc__ or '').partition(chr(10) * 2)[0].replace(chr(10), ' ')}")
        sizes = []
        for shape in ((1, 28, 28), (3, 64, 64)):
            with torch.device("meta"):  # counted, not allocated
                nets = Networks(shape, example)
                both = (nets.encoder(20), nets.decoder(10))
            count = sum(p.numel() for network in both for p in network.parameters())
            sizes.append(f"{count / 1e6:.2f} M for {' x '.join(map(str, shape))}")
        print(f"    {example}, parameters of encoder and decoder, 10 latents: {', '.join(sizes)}")


def follow(reports: Iterable[Report], epochs: int, metric: str) -> Report:
    """Shows the progress of a training, one line per epoch and a bar on a terminal. Returns the last report."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("epochs,"), TimeRemainingColumn(), TextColumn("left"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=epochs)
        for report in reports:
            shown = {name.partition("/")[2]: value for name, value in report.metrics.items() if name.startswith(LOSS)}
            if metric in report.metrics:
                shown[metric.partition("/")[2]] = report.metrics[metric]
            words = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
            console.print(f"epoch {report.epoch:3d}  {report.stage}  {words}")
            progress.update(bar, completed=report.epoch)
    return report


def show_metrics(metrics: Mapping[str, float]) -> None:
    """Prints all metrics of a report in columns, one block per split or kind."""
    console = Console(highlight=False, markup=False)
    for kind in dict.fromkeys(name.partition("/")[0] for name in metrics):
        shown = {name.partition("/")[2]: value for name, value in metrics.items() if name.startswith(f"{kind}/")}
        width = max(map(len, shown))
        cells = [f"{name:<{width}}  {value:<10.4g}" for name, value in shown.items()]
        console.print(f"\n{kind}")
        console.print(Padding(Columns(cells, column_first=True, equal=True), (0, 0, 0, 2)))


def main(argv: Sequence[str]) -> None:
    if list(argv) == ["--networks"]:
        return show_networks()
    settings = read_flags(Settings, argv, "python -m trainables", __doc__, positional=["method"])
    find(settings.method)
    if settings.out:
        output_folder(settings.out, "--out")
    device = settings.device if settings.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    splits = load(settings.dataset, settings.data_root, size=settings.image_size, channels=settings.channels)
    if splits.reading is not None:
        print(f"{splits.name}: {splits.reading.words()}", flush=True)
    values = paper_point(settings.method, splits, settings.values)
    values = {**values, **{key: scalar(value) for key, value in settings.set.items()}}
    shared = {name: getattr(settings, name) for name in Config.model_fields if name not in ("values", "dataset")}
    config = Config(dataset=splits.name, values=values, **shared)
    hyper = config.hyper  # raises for an invalid value before the metric's network is downloaded
    try:
        with outside.mistakes("cannot be built"):
            require_memory(find(settings.method), hyper, splits.shape, of_this_machine())
    except ValueError as error:
        raise ValueError(f"{settings.method}: {error}") from None
    if (line := to_be_trained(settings.metric or default_metric(splits), splits)) is not None:
        print(line, flush=True)
    evaluator = evaluator_for(
        splits, settings.metric, samples=settings.samples, fid_weights=settings.fid_weights, device=device
    )
    images = feed.placed(splits.train.images, device)
    with outside.mistakes(settings.method, Diverged):
        reports = fit(config, images, evaluator, evaluate_at=range(9, settings.epochs, 9), device=device)
        report = follow(reports, settings.epochs, f"{evaluator.split}/{evaluator.metric}")
    show_metrics(report.metrics)
    if settings.out:
        assert report.evaluation is not None  # of the last epoch
        save(report.method, config, settings.out)
        for name, picture in report.evaluation.pictures.items():
            save_grid(picture, settings.out / f"{name}.png")
        print(f"saved in {settings.out}")


if __name__ == "__main__":
    run("python -m trainables", main)
