"""n-iter-IAAE: AAE whose critic has n turns per batch, each with new e and new eps (AAE paper; methods.md 4.3).

    n x critic:   -log D(e) - log(1 - D(z))

n = 1 is AAE.
"""

from trainables.families.aae import AdversarialAutoencoder
from trainables.method import PositiveInt


class NIterIAAE(AdversarialAutoencoder):
    class Hyper(AdversarialAutoencoder.Hyper):
        n: PositiveInt

    hyper: Hyper

    @property
    def critic_turns(self) -> int:
        return self.hyper.n
