"""Evaluation: the same code for every method, right for models of which the answer is known."""

import copy
import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from test_contract import arguments
from torch import Tensor, nn

from trainables import Config, Evaluator, find, fit, names
from trainables.datasets import Split, Splits, load
from trainables.densities import Density, LearnedMixture, StandardNormal
from trainables.evaluate import GRID, NotFinite, finite, fit_densities, latent, samplers
from trainables.evaluate.evaluator import variance_of
from trainables.method import Gaussian, Loss, Method, Posterior, as_images
from trainables.metrics import ERROR_OF, Moments, choose, frechet_distance, self_supervised


@pytest.fixture(scope="module")
def digits() -> Splits:
    return load("digits", "unused")


@pytest.fixture(scope="module")
def evaluator(digits) -> Evaluator:
    return Evaluator(digits, samples=200)


@pytest.fixture(scope="module")
def train_images(digits) -> Tensor:
    return torch.tensor(digits.train.images[:200])


def built(name: str, **values) -> Method:
    cls = find(name)
    torch.manual_seed(0)
    return cls(cls.Hyper(**(arguments(name)["values"] | values)), (1, 8, 8))


class Replay(Density):
    """Draws from given codes, in order."""

    def __init__(self, codes: Tensor):
        super().__init__()
        self.register_buffer("codes", codes)

    def sample(self, n: int) -> Tensor:
        return self.codes[torch.randperm(len(self.codes))[:n]]


class Mirror(Method):
    """Codes are the pixels themselves: reconstructions are perfect."""

    class Hyper(Method.Hyper):
        pass

    def build(self, nets) -> None:
        self.shift = nn.Parameter(torch.zeros(()))

    def encode(self, x: Tensor) -> Posterior:
        return Posterior(x.flatten(1))

    def decode(self, z: Tensor) -> Tensor:
        return z.clamp(0, 1).unflatten(1, self.shape)

    def loss(self, x: Tensor) -> Loss:
        return Loss(self.shift, {})


def mirror(densities: dict[str, Density]) -> Mirror:
    method = Mirror(Mirror.Hyper(latent_dim=64, learning_rate=1, batch_size=1, network="mlp_4"), (1, 8, 8))
    method.densities = nn.ModuleDict(densities)
    return method


def test_large_images_are_evaluated_in_smaller_batches(evaluator):
    assert evaluator.batch_size == 500
    large = np.random.default_rng(0).integers(0, 256, (40, 3, 256, 256), np.uint8)
    splits = Splits("large", "cifar10", Split(large[:20]), Split(large[20:]), Split(large[:2]))
    judge = Evaluator(splits, "my_judge:thumbnail", samples=20)
    assert judge.batch_size == 500 * 64**2 // 256**2 == 31 and judge._sizes(70) == [31, 31, 8]
    assert variance_of(judge.images, 7) == pytest.approx((large[20:] / 255).var(0).mean(), rel=1e-5)


# Every method


@pytest.mark.parametrize("name", names())
def test_every_method_gets_finite_numbers_under_the_right_names(name, evaluator, train_images):
    method = built(name)
    found = evaluator(method, train_images)
    assert found.broken == ""
    assert {"valid/fcd", "valid/fcd_reconstruction", "valid/mse", "valid/active_dims"} <= set(found.metrics)
    assert ("valid/kl" in found.metrics) == (isinstance(method.encode(as_images(train_images[:2])), Gaussian))
    for metric, value in found.metrics.items():
        assert isinstance(value, float) and math.isfinite(value), f"{metric} = {value!r}"
        assert metric.startswith(("valid/", "density/"))
    assert len(found.vectors["code_variance"]) == method.code_dim
    trace = {"gradient_at_codes", "code_std", "code_q05", "gamma"}  # of every epoch that is evaluated
    if "valid/kl" in found.metrics:
        trace |= {"sigma_mean", "sigma_q05", "sigma_q50", "sigma_q95"}
    assert {f"valid/{metric}" for metric in trace} <= set(found.metrics)
    assert set(found.recipes) == {metric for metric in found.metrics if metric.startswith("valid/")}
    for picture in found.pictures.values():
        assert picture.shape[1:] == (1, 8, 8) and picture.min() >= 0 and picture.max() <= 1
    assert len(found.pictures["samples"]) == len(found.pictures["reconstructions"]) == GRID


def test_the_same_model_gets_the_same_numbers_whatever_was_drawn_before(evaluator, train_images):
    method = built("rae_l2", components=2)
    torch.manual_seed(1)
    one = evaluator(method, train_images)
    method.train()
    torch.manual_seed(2)
    two = evaluator(copy.deepcopy(method), train_images)
    assert one.metrics == two.metrics and one.vectors == two.vectors
    assert all(torch.equal(one.pictures[name], two.pictures[name]) for name in one.pictures)


def test_another_seed_gives_another_estimate(evaluator, train_images):
    method = built("vae")
    one, other = (evaluator(method, train_images, seed=seed).metrics["valid/fcd"] for seed in (0, 1))
    assert one != other


# Models of which the answer is known


def test_a_perfect_reconstruction_has_no_error_and_no_distance(evaluator, train_images):
    found = evaluator(mirror({"prior": StandardNormal(64)}), train_images)
    assert found.metrics["valid/mse"] == 0
    assert found.metrics["valid/fcd_reconstruction"] == pytest.approx(0, abs=1e-3)
    assert found.metrics["valid/fcd"] > 10


def test_a_method_is_evaluated_in_eval_mode(evaluator, train_images):
    method = mirror({"prior": StandardNormal(64)})
    modes = set()
    decode = method.decode
    method.decode = lambda z: (modes.add(method.training), decode(z))[1]
    evaluator(method.train(), train_images)
    assert modes == {False}


def test_mse_is_the_mean_over_pixels_and_images(evaluator, train_images, digits):
    method = mirror({"prior": StandardNormal(64)})
    method.decode = lambda z: torch.zeros(len(z), 1, 8, 8)
    x = torch.tensor(digits.valid.images).double() / 255
    found = evaluator(method, train_images)
    assert found.metrics["valid/mse"] == pytest.approx(x.square().mean().item(), rel=1e-5)


def test_better_samplers_have_smaller_distances_each_under_its_name(evaluator, train_images, digits):
    real = as_images(torch.tensor(digits.valid.images)).flatten(1)
    chance = torch.Generator().manual_seed(0)
    noise = torch.rand(real.shape, generator=chance)
    blurred = (real + 0.3 * noise).clamp(0, 1)
    method = mirror({"noise": Replay(noise), "blurred": Replay(blurred), "real": Replay(real)})
    found = evaluator(method, train_images)
    worst, middle, best = (found.metrics[f"valid/fcd{tail}"] for tail in ("", "_blurred", "_real"))
    assert 10 * best < middle < worst
    samplers = {name: recipe.sampler for name, recipe in found.recipes.items() if recipe.metric == "fcd"}
    assert samplers == {
        "valid/fcd": "noise",
        "valid/fcd_blurred": "blurred",
        "valid/fcd_real": "real",
        "valid/fcd_reconstruction": "reconstruction",
    }
    assert found.recipes["valid/fcd"].n == 200 and found.recipes["valid/fcd"].reference_n == len(real)


@pytest.mark.parametrize("name", ["../escaped", "/tmp/absolute", "a" * 300, "", "a b"])
def test_a_picture_is_named_as_a_file_in_the_trials_folder(evaluator, train_images, name, monkeypatch):
    """Else the storage, and so the node, would be blamed for its trial."""
    method = mirror({"prior": StandardNormal(64)})
    monkeypatch.setattr(Mirror, "pictures", lambda self, x: {name: x})
    with pytest.raises(ValueError, match="pictures: a name must have 1 to 80 letters, digits, _ or -, got"):
        evaluator(method, train_images)


def test_samples_are_compared_with_all_training_images_if_that_is_asked(evaluator, digits):
    images = torch.tensor(digits.train.images)
    method = mirror({"seen": Replay(as_images(images).flatten(1))})
    plain = evaluator(method, images, final=True)
    found = Evaluator(digits, samples=200, against_training=True)(method, images, final=True)
    name, n = "valid/fcd_to_training", len(images)
    assert found.metrics[name] < 0.2 * found.metrics["valid/fcd"]
    recipe = found.recipes[name]
    assert (recipe.split, recipe.n, recipe.reference_n) == ("train", n, n)
    assert plain.metrics == {key: value for key, value in found.metrics.items() if key != name}


def test_a_collapsed_model_has_no_active_dimension_and_no_kl(evaluator, train_images):
    method = built("vae")
    with torch.no_grad():
        method.encoder[-1].weight.zero_()
        method.encoder[-1].bias.zero_()  # q(z|x) = N(0, I) for every x
    found = evaluator(method, train_images)
    assert found.metrics["valid/active_dims"] == 0
    assert found.metrics["valid/kl"] == pytest.approx(0, abs=1e-6)
    assert found.vectors["kl_per_dim"] == pytest.approx([0.0] * 4, abs=1e-6)
    assert found.vectors["code_variance"] == pytest.approx([0.0] * 4, abs=1e-6)


def test_active_dimensions_are_counted(evaluator, train_images):
    method = built("vae")
    with torch.no_grad():
        method.encoder[-1].weight.mul_(torch.tensor([100.0, 0, 100, 0, 0, 0, 0, 0])[:, None])
        method.encoder[-1].bias.zero_()
    assert evaluator(method, train_images).metrics["valid/active_dims"] == 2


def test_grids_pair_originals_with_reconstructions(evaluator, train_images, digits):
    found = evaluator(mirror({"prior": StandardNormal(64)}), train_images)
    pairs = found.pictures["reconstructions"]
    assert torch.equal(pairs[0::2], pairs[1::2])
    assert torch.equal(pairs[0::2], as_images(torch.tensor(digits.valid.images[: GRID // 2])))


def test_the_test_split_is_recorded_under_its_own_name(digits, train_images):
    found = Evaluator(digits, split="test", samples=50)(built("vae"), train_images)
    assert {name.split("/")[0] for name in found.metrics} == {"test"}
    assert found.recipes["test/fcd"].split == "test" and found.recipes["test/fcd"].reference_n == 300


# The final evaluation


@pytest.mark.parametrize("name", ["vae", "wae"])
def test_the_final_evaluation_adds_to_what_a_rung_tells_and_changes_none_of_it(name, evaluator, train_images):
    method = built(name)
    rung, final = evaluator(method, train_images), evaluator(method, train_images, final=True)
    assert rung.metrics.items() <= final.metrics.items()
    added = {metric.removeprefix("valid/") for metric in set(final.metrics) - set(rung.metrics)}
    assert {"fcd_kid", "fcd_precision", "fcd_recall", "fcd_density", "fcd_coverage"} <= added
    assert {"fcd_gaussian", "fcd_gmm_10", "mmd_imq", "mmd_imq_floor", "var_law"} <= added
    assert {"flag/few_images", "flag/collapsed", "density/gmm_10_degraded"} <= added
    stochastic = {"fcd_reconstruction_mean", "var_law_sd", "inactive", "nll_bound", "aggregate_entropy"}
    assert stochastic & added == (stochastic if name == "vae" else set())
    assert set(final.recipes) == {metric for metric in final.metrics if metric.startswith("valid/")}
    assert final.recipes["valid/fcd_gmm_10"].sampler == "gmm_10"
    assert all(math.isfinite(value) for value in final.metrics.values())


def test_scores_of_pairs_say_of_how_many_images_they_are(evaluator, train_images):
    few = copy.copy(evaluator)
    few.pairs = 50
    found = few(built("vae"), train_images, final=True)
    assert (found.recipes["valid/fcd_kid"].n, found.recipes["valid/fcd_coverage"].reference_n) == (50, 50)
    assert (found.recipes["valid/fcd"].n, found.recipes["valid/mmd_imq"].n) == (200, 50)
    assert found.metrics["valid/fcd_kid"] != evaluator(built("vae"), train_images, final=True).metrics["valid/fcd_kid"]


def test_the_bound_of_the_likelihood_is_that_of_its_parts(evaluator, train_images, digits):
    method = built("vae")
    found = evaluator(method, train_images, final=True).metrics
    mse, kl = found["valid/mse"], found["valid/kl"]
    expected = 32 * (1 + math.log(2 * math.pi * mse)) + kl  # at the variance that the error implies
    assert found["valid/gamma"] == mse and found["valid/nll_bound"] == pytest.approx(expected, rel=1e-6)
    method.decoder_variance = lambda: 0.5
    found = evaluator(method, train_images, final=True).metrics
    assert found["valid/gamma"] == 0.5
    assert found["valid/nll_bound"] == pytest.approx(32 * (mse / 0.5 + math.log(math.pi)) + kl, rel=1e-6)


def test_the_bound_of_a_learned_prior_is_by_its_own_kl(evaluator, train_images):
    method = built("vae")
    before = evaluator(method, train_images, final=True).metrics["valid/nll_bound"]
    mixture = LearnedMixture(4, 2)  # at the standard normal, and then away from it
    with torch.no_grad():
        mixture.means.zero_()
    method.densities["prior"] = mixture
    same = evaluator(method, train_images, final=True).metrics["valid/nll_bound"]
    assert same == pytest.approx(before, abs=0.5)  # by one draw for each image
    with torch.no_grad():
        mixture.means.fill_(3)
    assert evaluator(method, train_images, final=True).metrics["valid/nll_bound"] > before + 10
    method.densities["prior"] = Replay(torch.zeros(500, 4))
    assert "valid/nll_bound" not in evaluator(method, train_images, final=True).metrics


def test_codes_that_repeat_themselves_are_sampled_as_well_by_a_mixture_as_by_their_replay(evaluator, digits):
    method = mirror({"prior": StandardNormal(64)})
    found = evaluator(method, torch.tensor(digits.train.images), final=True).metrics
    assert found["valid/fcd_gmm_10"] < found["valid/fcd_gaussian"] < found["valid/fcd"]


def test_what_a_collapsed_model_is_flagged_for(evaluator, train_images):
    method = built("vae")
    with torch.no_grad():
        for part in (method.encoder[-1], method.decoder[-1] if isinstance(method.decoder, nn.Sequential) else None):
            if isinstance(part, nn.Linear):
                part.weight.zero_()
                part.bias.zero_()
    found = evaluator(method, train_images, final=True)
    assert found.metrics["flag/posterior_collapse"] == 1 and "uninformative" in found.caveats["posterior_collapse"]
    assert found.metrics["valid/var_law"] == pytest.approx(1) and found.metrics["valid/inactive"] == 4
    assert found.metrics["flag/sigma_collapse"] == 0


# What is broken


@pytest.mark.parametrize(
    "name, part, what",
    [
        ("vae", "decoder", "samples"),
        ("vae", "encoder", "reconstructions"),
        ("wae", "encoder", "reconstructions"),
        ("rae_l2", "encoder", "codes"),
    ],
)
def test_a_broken_model_is_named_and_gets_no_numbers(name, part, what, evaluator, train_images):
    method = built(name)
    with torch.no_grad():
        next(getattr(method, part).parameters()).fill_(torch.nan)
    found = evaluator(method, train_images)
    assert found.broken == what and found.metrics == {} and found.pictures == {}


class Hopeless(Density):
    ex_post = True

    def fit(self, codes: Tensor, seed: int) -> None:
        raise FloatingPointError("no mixture fits the codes")


def test_a_density_that_finds_no_fit_breaks_the_model_not_the_program(evaluator, train_images):
    found = evaluator(mirror({"prior": Hopeless()}), train_images)
    assert found.broken == "no mixture fits the codes" and found.metrics == {}


def test_finite_passes_and_names():
    good = torch.ones(3)
    assert finite(good, "codes") is good
    for bad in (math.nan, math.inf):
        with pytest.raises(NotFinite, match="codes"):
            finite(torch.tensor([1.0, bad]), "codes")


# Densities that are fitted ex post


class Spy(StandardNormal):
    ex_post = True

    def fit(self, codes: Tensor, seed: int) -> None:
        self.seen, self.seed = codes, seed


def test_ex_post_densities_see_the_codes_of_the_training_split(evaluator, train_images):
    spy, learnt = Spy(64), StandardNormal(64)
    method = mirror({"spy": spy, "learnt": learnt})
    found = evaluator(method, train_images, seed=3)
    assert torch.equal(spy.seen, as_images(train_images).flatten(1)) and spy.seed == 3
    assert not hasattr(learnt, "seen") and found.density_fit_seconds >= 0
    assert fit_densities(method, train_images[:3], seed=9) >= 0
    assert len(spy.seen) == 3 and spy.seed == 9


def test_codes_are_posterior_means():
    method = built("vae")
    method.densities["spy"] = Spy(4)
    images = load("digits", "unused").train.images[:1200]  # more than one batch
    fit_densities(method.eval(), torch.tensor(images), seed=0)
    with torch.no_grad():
        means = method.encode(as_images(torch.tensor(images))).mean
    torch.testing.assert_close(method.densities["spy"].seen, means)


def test_a_fit_sees_so_many_codes_at_most(train_images, monkeypatch):
    """Those of other images for another seed, and of no image twice."""
    monkeypatch.setattr(samplers, "FITTED_CODES", 20)
    seen = []
    for seed in (3, 3, 4):
        spy = Spy(64)
        fit_densities(mirror({"spy": spy}), train_images, seed)
        seen.append(spy.seen)
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])
    everything = {tuple(row) for row in as_images(train_images).flatten(1).tolist()}
    assert len({tuple(row) for row in seen[0].tolist()} & everything) == len(seen[0]) == 20 < len(train_images)


def test_flags_of_the_fit_are_reported(evaluator, train_images):
    found = evaluator(built("gae", components=2), train_images)
    assert found.metrics["density/gmm_degraded"] == 0.0 and found.metrics["density/gmm_converged"] in (0.0, 1.0)


# With fit


def test_a_few_epochs_on_digits_beat_an_untrained_model(evaluator, digits):
    images = torch.tensor(digits.train.images)
    values = arguments("gae")["values"] | {"batch_size": 50, "components": 2}
    config = Config(method="gae", dataset="digits", values=values, epochs=3)
    first, *_, last = fit(config, images, evaluator, evaluate_at=(1,))
    for metric in ("valid/fcd_reconstruction", "valid/mse"):
        assert last.metrics[metric] < first.metrics[metric]
    assert last.metrics["time/evaluate_seconds"] > first.metrics["time/evaluate_seconds"] > 0
    assert last.metrics["time/density_fit_seconds"] > 0


def test_classes_are_read_off_codes_and_codes_are_walked_through(evaluator, train_images, digits):
    """The codes of a mirror are the pixels: what scikit-learn finds there is known."""
    real = as_images(torch.tensor(digits.train.images)).flatten(1)
    method = mirror({"replay": Replay(real)})
    found = evaluator(method, train_images, final=True)
    x, y = (
        (as_images(torch.tensor(part.images)).flatten(1).numpy(), part.labels) for part in (digits.train, digits.valid)
    )
    expected = 1 - KNeighborsClassifier(5).fit(*x).score(*y)
    assert found.metrics["valid/knn_error"] == pytest.approx(expected)
    assert found.metrics["valid/probe_error"] < 0.1 and 0.5 < found.metrics["valid/nmi"] < 1
    assert found.recipes["valid/probe_error"].n == len(digits.valid.images)
    assert found.metrics["valid/psnr"] > 100 and "valid/ssim" not in found.metrics  # 8 pixels are fewer than its window
    # What is drawn are training images themselves, each beside itself.
    assert found.metrics["valid/memorisation"] > 0.95
    assert found.metrics["flag/memorised"] == 1 and "nearest training images" in found.caveats["memorised"]
    held_out = mirror({"replay": Replay(as_images(torch.tensor(digits.test.images)).flatten(1))})
    new = evaluator(held_out, train_images, final=True)
    assert new.metrics["flag/memorised"] == 0 and new.metrics["valid/memorisation"] == pytest.approx(0.5, abs=0.1)
    sample, nearest = found.pictures["nearest_training_images"].unflatten(0, (-1, 2)).unbind(1)
    assert torch.equal((sample * 255).round(), (nearest * 255).round())
    # From one image to the next, and through the pixels that vary most.
    rows = found.pictures["interpolations"].unflatten(0, (-1, 8))  # (8 pairs, 8 steps, C, H, W)
    originals = as_images(evaluator.images[:16])
    assert torch.allclose(rows[:, 0], originals[::2]) and torch.allclose(rows[:, -1], originals[1::2])
    changed = found.pictures["traversals"].unflatten(0, (-1, 8)).flatten(2).var(1).sum(0)  # (P,)
    busiest = as_images(evaluator.images).flatten(1).var(0).topk(8).indices
    assert set(changed.nonzero()[:, 0].tolist()) <= set(busiest.tolist())


def test_ssim_is_measured_on_images_of_at_least_its_window(train_images, digits, monkeypatch):
    monkeypatch.setitem(self_supervised.RECIPE, "steps", 20)  # of the network for images of this size

    def larger(part):
        return Split(part.images.repeat(2, axis=2).repeat(2, axis=3), None)

    splits = Splits("larger", "mnist", *(larger(part) for part in (digits.train, digits.valid, digits.test)))
    judge = Evaluator(splits, "ssim", samples=100)
    cls = find("vae")
    method = cls(cls.Hyper(**arguments("vae")["values"]), (1, 16, 16))
    rung = judge(method, torch.tensor(splits.train.images[:100]))
    found = judge(method, torch.tensor(splits.train.images[:100]), final=True)
    assert -1 < found.metrics["valid/ssim"] < 1
    assert found.metrics["valid/dssim"] == pytest.approx((1 - found.metrics["valid/ssim"]) / 2)
    assert judge.metric == "dssim" and rung.metrics["valid/dssim"] == found.metrics["valid/dssim"]
    assert "valid/probe_error" not in found.metrics  # there are no labels


@pytest.mark.parametrize("metric", ["fcd_kid", "fcd_sliced", "probe_error", "knn_error", "nmi_error", "psnr_rmse"])
def test_the_metric_may_be_another_score_of_the_features_or_of_the_codes(metric, train_images, digits):
    judge = Evaluator(digits, metric, samples=100)
    rung, end = (judge(built("vae"), train_images, final=final) for final in (False, True))
    assert judge.metric == metric and math.isfinite(rung.metrics[f"valid/{metric}"])
    assert judge.resolution() is None  # which is that of a Fréchet distance
    assert end.metrics[f"valid/{metric}"] == rung.metrics[f"valid/{metric}"]


def test_few_held_out_images_limit_a_frechet_distance(digits):
    judge = Evaluator(digits, samples=100)
    train = judge.extractor(as_images(torch.tensor(digits.train.images)))
    found = judge.resolution()
    assert found.n == len(digits.valid.images) < 500
    assert found.floor == pytest.approx(frechet_distance(Moments.of(train), judge.reference), rel=1e-3)


def test_a_maximised_score_is_judged_by_its_error(evaluator, train_images, digits):
    """The best codes have the lowest error, in both directions of the score."""
    real = as_images(torch.tensor(digits.train.images)).flatten(1)
    found = evaluator(mirror({"replay": Replay(real)}), train_images, final=True).metrics
    blind = evaluator(built("vae"), train_images, final=True).metrics  # untrained
    for score, error in ERROR_OF.items():
        assert choose(score) == choose(error)
        if error != "dssim":  # digits are smaller than its window
            assert found[f"valid/{error}"] < blind[f"valid/{error}"]
    assert found["valid/nmi"] + found["valid/nmi_error"] == pytest.approx(1)
    assert found["valid/ari"] + found["valid/ari_error"] == pytest.approx(1)
    assert blind["valid/psnr"] == pytest.approx(-20 * math.log10(blind["valid/psnr_rmse"]))


@pytest.mark.parametrize("metric", ["probe_error", "knn_accuracy", "nmi", "ari"])
def test_a_metric_of_labels_needs_labels(metric, digits):
    unlabelled = Splits(
        "nameless", "mnist", *(Split(part.images) for part in (digits.train, digits.valid, digits.test))
    )
    with pytest.raises(ValueError, match=rf"--metric {metric} needs labels, which nameless lacks; use fsd"):
        Evaluator(unlabelled, metric)


def test_ssim_as_the_metric_needs_room_for_its_window(digits):
    with pytest.raises(ValueError, match=r"--metric ssim needs images of at least 11 x 11 pixels, got 8 x 8; use fcd"):
        Evaluator(digits, "ssim")


def test_the_variance_of_pixels_is_that_of_numpy(digits):
    images = digits.train.images  # more than one batch
    expected = (images / 255).var(0).mean()
    assert variance_of(torch.tensor(images)) == pytest.approx(expected, rel=1e-6)
    assert variance_of(torch.full((700, 1, 8, 8), 77, dtype=torch.uint8)) == pytest.approx(0, abs=1e-7)


def test_held_out_images_are_not_copied_for_the_cpu(digits):
    assert Evaluator(digits, samples=50).images.data_ptr() == digits.valid.images.ctypes.data


def test_images_all_alike_collapse_nothing():
    """Their variance is 0, and an error cannot be a share of it."""
    assert latent.collapses({"kl": 0.0, "mse": 0.0, "code_std": 0.0}, 0.0) == {}


def test_a_look_at_stage_one_scores_its_prior_alone_and_changes_nothing(evaluator, train_images):
    """What the look after the last epoch of stage one finds the end finds too, for stage two leaves it as it is."""
    values = arguments("two_stage_vae")["values"] | {"second_share": 0.5}
    config = Config(method="two_stage_vae", dataset="digits", epochs=4, seed=0, values=values)
    found, quiet = (list(fit(config, train_images[:60], evaluator, looks=looks)) for looks in ((1, 2, 3), ()))
    assert [report.evaluation is not None for report in found] == [True, True, True, True]
    assert [report.evaluation is not None for report in quiet] == [False, False, False, True]
    early, at_its_end, third, end = (report.metrics for report in found)
    assert "valid/fcd" not in at_its_end and "valid/fcd_second_normalised" not in at_its_end
    assert "valid/fcd" in third  # stage two is judged, so a look at it is as at a rung
    for name in ("var_law", "var_law_sd", "inactive", "active_dims"):
        assert at_its_end[f"valid/{name}"] == pytest.approx(end[f"valid/{name}"], rel=1e-5), name
    assert early["valid/var_law"] != at_its_end["valid/var_law"]
    for name in ("mse", "fcd_prior", "fcd_reconstruction"):  # by other draws
        assert at_its_end[f"valid/{name}"] == pytest.approx(end[f"valid/{name}"], rel=0.3), name
    timed = ("time/", "speed/", "memory/")
    told_end, quiet_end = ({k: v for k, v in r[3].metrics.items() if not k.startswith(timed)} for r in (found, quiet))
    assert told_end == quiet_end
