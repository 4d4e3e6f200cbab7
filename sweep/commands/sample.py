"""Sample images from a study's winner."""

from pathlib import Path
from typing import Annotated

import torch
from cyclopts import Parameter

from sweep.commands._arguments import SweepFolder
from sweep.commands._ending import say
from sweep.driver.winners import load_winner
from trainables.flags import WHOLE, Place, output_file
from trainables.saved import save_grid

MOST_IMAGES = 10_000


def main(
    folder: SweepFolder,
    method: Annotated[str, Parameter(help="method of the winner")],
    /,
    *,
    dataset: Annotated[str | None, Parameter(help="required if the sweep has several")] = None,
    n: Annotated[int, WHOLE, Parameter("-n", help="number of images")] = 64,
    density: Annotated[str | None, Parameter(help="distribution of the latents; default: the method's sampler")] = None,
    seed: Annotated[int, WHOLE, Parameter(help="random seed")] = 0,
    out: Annotated[Place, Parameter(help="path of the PNG file")] = Path("samples.png"),
) -> None:
    if n < 1:
        raise ValueError(f"-n must be at least 1, got {n}")
    if n > MOST_IMAGES:
        raise ValueError(f"-n must be at most {MOST_IMAGES}, got {n}")
    output_file(out, "--out")
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out must end with .png, got {out}")
    winner = load_winner(folder, method, dataset)
    if density not in (None, *winner.densities):
        raise ValueError(f"--density {density} is not known; {method} has {', '.join(winner.densities)}")
    torch.manual_seed(seed)
    save_grid(winner.sample(n, density), out)
    say(f"{n} images in {out}")
