"""`python -m trainables.reproductions.regularization`: Tables 1 and 2 of the Regularization paper and their curves.

Table 1 sweeps the latent size kappa of a VAE with learned gamma on MNIST for each network: residual decoders as in
print, plain ones as the negative control of the text. Table 2 learns gamma, then trains again from the same
initialisation with gamma fixed at the learned value gamma*. Both use the first [[paper]] point of the data set.

The models are trained on training and validation images together and evaluated on the 10,000 test images: the squared
error per image of one draw z ~ q(z|x), the likelihood bound at the current gamma, active dimensions, variance law and
inactive variables in both readings (methods.md 7.4, 7.5, 7.8), |dL/dz| (7.9), and after the last epoch
MMD(q(z), N(0, I)) of all codes, IMQ (7.6).

Writes rows as soon as they are measured, with the columns of `analysis/published` and the recipe;
`analysis.papers.regularization` compares the last ones with the print. `--latents FILE` adds E sigma^2 and Var mu of
each latent at each evaluation, and with `--latent-steps N` also every N steps of the first epoch, which
`analysis.papers.balancing` draws (methods.md 7.4).

N images, C H W image, D latent.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from trainables.config import Config, Device, ImageSize, Seed, UserPath
from trainables.datasets import load
from trainables.evaluate import latent
from trainables.evaluate.findings import finite
from trainables.evaluate.gradient import gradient_at_codes
from trainables.families.gaussian import GaussianDecoderVAE
from trainables.fit import fit
from trainables.flags import read_flags, run, scalar
from trainables.method import as_images
from trainables.paper import paper_point
from trainables.reproductions.rows import COLUMNS, add, recipe
from trainables.strict import StrictModel
from trainables.training import Training

KAPPAS = [50, 100, 200, 400, 784]
BATCH, GRADIENTS_OF = 500, 200
PositiveInt = Annotated[int, Field(ge=1)]
ERROR, BOUND, ACTIVE, MMD = "Rec. Err. (test)", "NLL (test)", "# Active", "MMD"
PRINTED = {(2, ERROR): "Rec. Err."}  # other names of a metric, by table
RULES = {"learned": "learnable", "computed": "computed", "fixed": "fixed"}
LATENTS = ("table", "dataset", "method", "variant", "epoch", "latent", "posterior_variance", "code_variance")


class Settings(StrictModel):
    """The flags of this program."""

    out: UserPath = Field(description="CSV file to append to")
    table: Annotated[int, Field(ge=1, le=2)] = Field(1, description="1: kappa sweep; 2: learned against fixed gamma")
    networks: list[str] = Field(
        ["residual_mlp_512_3", "plain_mlp_512_3"],
        min_length=1,
        description="of Table 1; Table 2 uses its point's",
    )
    kappas: list[PositiveInt] = Field(KAPPAS, min_length=1, description="latent sizes of Table 1")
    dataset: str = Field("mnist", description="data set: Table 1 uses mnist, Table 2 celeba64 and celeba128")
    epochs: PositiveInt = Field(400, description="the print states none; 400 is the default of the two-stage code")
    every: PositiveInt = Field(1, description="epochs between evaluations on the test images")
    set: dict[str, Any] = Field({}, description="hyperparameters that override the paper's point")
    data_root: UserPath = Field(Path("data"), description="folder of the data sets, and for downloads")
    image_size: ImageSize | None = Field(None, description="side in pixels to resize images to")
    seed: Seed = Field(0, description="seed of the initialisation and the order of images")
    device: Device = Field("auto", description="auto, cpu, cuda, ...")
    latents: UserPath | None = Field(None, description="CSV file for the variances of each latent at each evaluation")
    latent_steps: PositiveInt | None = Field(None, description="steps between further rows of --latents in epoch 1")


@torch.no_grad()
def measured(
    method: GaussianDecoderVAE, images: Tensor, seed: int, last: bool
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Returns the metrics of both tables on test images uint8 (N, C, H, W), by printed name, and vectors of D numbers.

    Raises FloatingPointError if codes or reconstructions are not finite.
    """
    torch.manual_seed(seed)
    squared, posteriors, rates = 0.0, [], []
    for batch in images.split(BATCH):
        x = as_images(batch)  # (B, C, H, W)
        q = method.encode(x)
        z = q.draw()  # (B, D)
        rate = method.rate(x, q, z)
        assert rate is not None  # q is a Gaussian
        rates.append(rate)
        squared += (finite(method.decode(z), "reconstructions") - x).double().square().sum().item()
        posteriors.append(q)
    mean = finite(torch.cat([q.mean for q in posteriors]), "codes")  # (N, D)
    log_var = torch.cat([q.log_var for q in posteriors])  # (N, D)
    glance, vectors = latent.at_a_glance(mean, log_var, torch.cat(rates))
    full = latent.in_full(mean, log_var)
    gamma = method.decoder_variance()
    row = {ERROR: squared / len(images), ACTIVE: glance["active_dims"], "KL": glance["kl"], "gamma": gamma}
    row |= {"variance law": full["var_law"], "variance law, as coded": full["var_law_sd"]}
    row |= {"inactive variables": full["inactive"], "inactive variables, as coded": full["inactive_sd"]}
    mse = squared / images.numel()
    bound = latent.likelihood_bound(method, glance["kl"], gamma, mse)["nll_bound"]
    pull = gradient_at_codes(method, as_images(images[:GRADIENTS_OF]))["gradient_at_codes"]
    row |= {BOUND: bound, "|dL/dz|": pull}
    if last:
        pairs = latent.between_pairs(method, mean, log_var, seed)  # of all 10,000 (methods.md 7.6)
        row |= {MMD: pairs["mmd_imq"], "MMD, noise floor": pairs["mmd_imq_floor"], "MMD, RBF": pairs["mmd_rbf"]}
    return row, vectors


@torch.no_grad()
def variances(method: GaussianDecoderVAE, images: Tensor) -> dict[str, list[float]]:
    """Returns E sigma^2 and Var mu of each latent on images uint8 (N, C, H, W), in the middle of an epoch."""
    method.eval()
    posteriors = [method.encode(as_images(batch)) for batch in images.split(BATCH)]
    method.train()
    mean = torch.cat([q.mean for q in posteriors])  # (N, D)
    return latent.at_a_glance(mean, torch.cat([q.log_var for q in posteriors]), None)[1]


def cases(settings: Settings, values: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields method and variant as printed, and the hyperparameters; Table 2's second case still lacks gamma."""
    if settings.table == 2:
        yield "VAE", "learnable gamma", {**values, "gamma_rule": "learned"}
        yield "VAE", "fixed gamma = gamma*", {**values, "gamma_rule": "fixed"}
        return
    for network in settings.networks:
        form = "residual" if network.startswith("residual") else "plain" if network.startswith("plain") else network
        skip = ", affine skip" if network.endswith("_affine") else ""
        for kappa in settings.kappas:
            method = f"VAE, {form} decoder{skip}, {RULES[values['gamma_rule']]} gamma"
            yield method, f"kappa={kappa}", {**values, "network": network, "latent_dim": kappa}


def looks(
    config: Config, images: Tensor, test: Tensor, every: int, steps: int | None = None
) -> Iterator[tuple[float, dict[str, float], dict[str, list[float]]]]:
    """Trains one model; yields epoch, metrics and vectors every `every` epochs and after the last.

    steps: also yields vectors, without metrics, after each `steps` steps of the first epoch, a fraction of it.
    """
    early: list[tuple[float, dict[str, list[float]]]] = []

    def between(training: Training) -> None:
        assert training.within is not None and steps is not None
        step = training.within.step
        if training.epoch == 0 and step and step % steps == 0:
            assert isinstance(training.method, GaussianDecoderVAE)
            early.append((step * config.hyper.batch_size / len(images), variances(training.method, test)))

    for report in fit(config, images, between=between if steps else None):
        for share, vectors in early:
            yield share, {}, vectors
        early.clear()
        assert isinstance(report.method, GaussianDecoderVAE)
        last = report.epoch == config.epochs
        if last or report.epoch % every == 0:
            row, vectors = measured(report.method, test, config.seed, last)
            yield report.epoch, {**row, "Rec. Err. (train)": report.metrics["train/reconstruction"]}, vectors


def main(argv: Sequence[str]) -> None:
    settings = read_flags(Settings, argv, "python -m trainables.reproductions.regularization", __doc__)
    device = settings.device if settings.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    splits = load(settings.dataset, settings.data_root, size=settings.image_size)
    images = torch.tensor(np.concatenate([splits.train.images, splits.valid.images]), device=device)
    test = torch.tensor(splits.test.images[:10_000], device=device)
    overrides = {key: scalar(value) for key, value in settings.set.items()}
    point = paper_point("gaussian_vae", splits, None) | overrides
    add(settings.out, COLUMNS, [])
    learned = None  # final gamma of the previous case
    for method, variant, values in cases(settings, point):
        if values["gamma_rule"] == "fixed" and learned is not None:
            values = {**values, "gamma": learned}
        config = Config(
            method="gaussian_vae", dataset=splits.name, values=values, epochs=settings.epochs, seed=settings.seed
        )
        steps = settings.latent_steps if settings.latents else None
        for epoch, row, vectors in looks(config, images, test, settings.every, steps):
            if settings.latents is not None:
                pairs = zip(vectors["posterior_variance"], vectors["code_variance"], strict=True)
                which = (settings.table, splits.name, method, variant, f"{epoch:g}")
                latents = [(*which, j, f"{noise:.4g}", f"{spread:.4g}") for j, (noise, spread) in enumerate(pairs)]
                add(settings.latents, LATENTS, latents)
            if not row:  # within the first epoch
                continue
            where = ("Regularization", settings.table, splits.name, method, variant)
            named = {PRINTED.get((settings.table, name), name): f"{value:.6g}" for name, value in row.items()}
            given = recipe(settings.epochs, settings.seed, overrides)
            add(settings.out, COLUMNS, [(*where, name, epoch, value, "", *given) for name, value in named.items()])
            line = f"SSE {row[ERROR]:.2f}  active {row[ACTIVE]:.0f}  KL {row['KL']:.2f}  gamma {row['gamma']:.4f}"
            print(f"{method}, {variant}  epoch {epoch:3d}  {line}", flush=True)
        learned = row["gamma"]


if __name__ == "__main__":
    run("python -m trainables.reproductions.regularization", main)
