"""Draw images from a study's winner."""

from collections.abc import Sequence
from pathlib import Path

import torch

from sweep.commands._arguments import SWEEP, argument, parse
from sweep.commands._ending import say
from sweep.driver.winners import load_winner
from trainables.datasets import expanded
from trainables.flags import output_file
from trainables.saved import save_grid

ARGUMENTS = (
    SWEEP,
    argument("method"),
    argument("--dataset", help="needed when the sweep had several"),
    argument("-n", type=int, default=64, help="number of images"),
    argument("--density", help="the method's own sampler unless given"),
    argument("--seed", type=int, default=0),
    argument("--out", type=expanded, default=Path("samples.png")),
)


def main(argv: Sequence[str]) -> None:
    flags = parse("sample", __doc__, argv, *ARGUMENTS)
    if flags.n < 1:
        raise ValueError(f"-n {flags.n}: draw at least 1 image")
    output_file(flags.out, "--out")
    method = load_winner(flags.sweep, flags.method, flags.dataset)
    if flags.density not in (None, *method.densities):
        raise ValueError(f"--density {flags.density} is not known; {flags.method} has {', '.join(method.densities)}")
    torch.manual_seed(flags.seed)
    save_grid(method.sample(flags.n, flags.density), flags.out)
    say(f"{flags.n} images in {flags.out}")
