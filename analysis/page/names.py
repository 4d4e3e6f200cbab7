"""Display names of methods, data sets and metrics, and number formats, shared by all tables and plots."""

import math
from numbers import Real

METHODS = {
    "vae": "VAE",
    "beta_vae": "BetaVAE",
    "factor_vae": "FactorVAE",
    "beta_tcvae": "beta-TCVAE",
    "wae": "WAE-MMD",
    "rae_l2": "RAE-L2",
    "gae": "GAE",
    "info_vae": "InfoVAE",
    "vae_gan": "VAE-GAN",
    "vade": "VaDE",
    "gmvae": "GMVAE",
    "vamp_vae": "VampVAE",
    "gaussian_vae": "VAE, Gaussian decoder",
    "two_stage_vae": "Two-stage VAE",
    "ae_vae": "AE + VAE",
    "vae_plus": "VAE+",
    "ae_wae": "AE + WAE-MMD",
    "rae_sn": "RAE-SN",
    "fsq": "FSQ",
    "vq_vae": "VQ-VAE",
    "kl_ae": "KL autoencoder",
    "geco": "GECO",
    "aae": "AAE",
    "ae": "AE",
    "iaae_mapping": "latent-mapping-IAAE",
    "iaae_niter": "n-iter-IAAE",
    "iaae_kld": "KLD-loss-IAAE",
    "iaae_feature": "feature-IAAE",
    "iaae_equal": "equal-linear-IAAE",
    "vg": "VG",
    "vg_bn": "VG, BatchNorm",
    "vg_denoise": "denoising VG",
    "vg_denoise_bn": "denoising VG, BatchNorm",
}
DATASETS = {
    "digits": "digits",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "emnist": "EMNIST",
    "cifar10": "CIFAR-10",
    "cifar10-jpeg": "CIFAR-10 (JPEG)",
    "svhn": "SVHN",
    "celeba": "CelebA",
}
METRICS = {
    "fcd": "Fréchet classifier distance",
    "fid": "Fréchet Inception distance",
    "fsd": "Fréchet distance of self-supervised features",
    "fd_dinov2": "Fréchet distance of DINOv2 features",
    "cmmd": "CLIP maximum mean discrepancy",
    "probe_error": "error of a linear probe on the codes",
    "knn_error": "error of nearest neighbours among the codes",
    "nmi_error": "1 − NMI of clusters of the codes",
    "ari_error": "1 − ARI of clusters of the codes",
    "dssim": "structural dissimilarity, (1 − SSIM) / 2",
    "psnr_rmse": "root mean squared error of the PSNR",
    "mse": "mean squared error",
    "kl": "KL divergence (nats)",
    "active_dims": "active dimensions",
    "train_seconds": "training seconds",
}
SPLITS = {"valid": "validation"}
SHORT_KNOBS = {"learning_rate": "lr"}


def method_name(method: str) -> str:
    """Return a method's name in its paper: `LadderVAE` for `my_lab.ladder:LadderVAE`, `VAE (long)` for `vae@long`."""
    bare, _, sweep = method.partition("@")
    name = METHODS.get(bare, bare.rpartition(":")[2])
    return f"{name} ({sweep})" if sweep else name


def bare_method(method: str) -> str:
    """Return a method's name without the label of the sweep that `analysis.join` adds."""
    return method.partition("@")[0]


def dataset_name(dataset: str) -> str:
    """Return the usual spelling of a data set's name; unknown names are returned unchanged."""
    return DATASETS.get(dataset, dataset)


def metric_name(metric: str) -> str:
    """Return a metric's name in words, e.g. Fréchet classifier distance for `valid/fcd`."""
    short = short_metric(metric)
    return METRICS.get(short, short.replace("_", " "))


def short_metric(metric: str) -> str:
    """Return a metric's name without its split: `fcd` for `valid/fcd`."""
    return metric.rpartition("/")[2]


def split_name(split: str) -> str:
    """Return a split's name in words: validation for `valid`."""
    return SPLITS.get(split, split)


def short_knob(knob: str) -> str:
    """Return a hyperparameter's short name."""
    return SHORT_KNOBS.get(knob, knob)


def readable(value: object) -> str:
    """Format a value with three significant digits: 0.12, 4e-4, 1234, adam.

    A missing or non-finite number is a dash.
    """
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, Real):
        return str(value)
    number = float(value)
    if not math.isfinite(number):
        return "–"
    if number == int(number) and abs(number) < 1e5:
        return str(int(number))
    rounded = float(f"{number:.3g}")
    if 0.01 <= abs(rounded) < 1e5:
        return f"{number:.0f}" if abs(rounded) >= 1000 else f"{rounded:g}"
    digits, exponent = f"{number:.2e}".split("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def measured(value: float) -> str:
    """Format a measurement with three significant digits, including trailing zeros: 14.0, 0.0188, 1234."""
    if not math.isfinite(value):
        return "–"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.0f}" if abs(float(f"{value:.3g}")) >= 100 else f"{value:#.3g}"
    return readable(value)


def duration(seconds: float) -> str:
    """Format seconds: 42 s, 3 min 20 s, 2 h 5 min; a dash if not finite."""
    if not math.isfinite(seconds):
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 else f"{round(whole / 60)} min"
    minutes = round(whole / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def listed(words: list[str], most: int | None = None) -> str:
    """Join words: `a`, `a and b`, `a, b and c`; of more than `most` words the first, and the number of others."""
    if most is not None and len(words) > most:
        words = [*words[: most - 1], f"{len(words) - most + 1} others"]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def counted(count: int, noun: str, some: int | None = None) -> str:
    """Format a count, `1 trial` or `3 studies`, or a part of it that is not 0, `2 of 3 studies`."""
    if count == 1:
        return f"1 {noun}"
    plural = f"{noun.removesuffix('y')}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count} {plural}" if some is None else f"{some} of {count} {plural}"
