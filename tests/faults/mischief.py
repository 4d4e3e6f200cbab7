"""A method from outside whose trials fail as their values say; its diary says which epochs were trained where.

MISCHIEF_DIARY=FILE    lines of "mischief process epoch"
MISCHIEF_HOLD=FILE     trials wait at the moment for as long as it exists
"""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from trainables.losses import bce
from trainables.method import Loss, Method, Posterior
from trainables.networks import Networks

MOMENT = 5  # the epoch in which it happens
HERE = Path(__file__).parent
SURROUNDINGS = {"PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parents[1]}"}  # of a process that is to find it


class Mischief(Method):
    class Hyper(Method.Hyper):
        mischief: str  # none, raises, dies_once, dies_always, hungry_once or hungry_always

    hyper: Hyper

    def build(self, nets: Networks) -> None:
        self.encoder = nets.encoder(self.hyper.latent_dim)
        self.decoder = nets.decoder(self.hyper.latent_dim)

    def encode(self, x: Tensor) -> Posterior:
        return Posterior(self.encoder(x))

    def loss(self, x: Tensor) -> Loss:
        return Loss(bce(self.decoder(self.encode(x).mean), x), {})

    def after_epoch(self, terms: Mapping[str, float]) -> Mapping[str, float]:
        while round(self.epoch.item()) >= MOMENT and Path(os.environ.get("MISCHIEF_HOLD", "")).is_file():
            time.sleep(0.05)
        if "MISCHIEF_DIARY" in os.environ:
            self._misbehave(Path(os.environ["MISCHIEF_DIARY"]))
        return {}

    def _misbehave(self, diary: Path) -> None:
        kind = self.hyper.mischief
        before = diary.read_text().splitlines() if diary.exists() else []
        epoch = round(self.epoch.item())
        with diary.open("a") as file:
            file.write(f"{kind} {os.getpid()} {epoch}\n")
        if epoch != MOMENT:
            return
        if kind == "raises":
            raise RuntimeError("the moon is in the wrong quarter")
        died = any(line.startswith(f"{kind} ") and line.endswith(f" {MOMENT}") for line in before)
        if kind == "hungry_always" or (kind == "hungry_once" and not died):
            torch.empty(2**60, dtype=torch.uint8)  # as much as no machine has
        if kind == "dies_always" or (kind == "dies_once" and not died):
            os.kill(os.getpid(), signal.SIGKILL)
