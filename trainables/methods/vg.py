"""VG: an MLP VAE with a critic on its reconstructions, without BatchNorm (VG paper, Tables 1, 2; methods.md 5.1).

    vae:     BCE(x, x_hat) + beta KL(q(z|x) || N(0, I)) - a log D(x_hat)
    critic:  -log D(x) - log(1 - D(x_hat))

`families.vg` defines the turns of the players and the test loss.
"""

from trainables.families.vg import MLPVAEGAN


class VG(MLPVAEGAN):
    """The system of the family without additions."""
