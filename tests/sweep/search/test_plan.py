"""From a configuration to studies: who is compared on what, in which space, at which cost."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sweep.config import SweepConfig, read_config
from sweep.search.plan import epoch_seconds, expected_epochs, plan, space_of
from sweep.search.rungs import SPARED
from sweep.search.space import Choice, Fixed, Range

OUTSIDE = '''
"""A method from outside the repository."""
from trainables.losses import bce
from trainables.method import Loss, Method, Posterior


class Ladder(Method):
    class Hyper(Method.Hyper):
        rungs: int

    def build(self, nets):
        self.encoder, self.decoder = nets.encoder(self.hyper.latent_dim), nets.decoder(self.hyper.latent_dim)

    def encode(self, x):
        return Posterior(self.encoder(x))

    def loss(self, x):
        return Loss(bce(self.decoder(self.encode(x).mean), x), {})
'''
SPACE = """
[[paper]]
source = "made up"
datasets = ["digits"]
values = { latent_dim = 4, learning_rate = 1e-3, batch_size = 20, network = "mlp_8", %s }
[space]
"""
LADDER = SPACE % "rungs = 3" + "rungs = { low = 2, high = 5, int = true }\n"
VAE = SPACE % "likelihood = 'bce'"


def test_a_study_for_each_method_on_each_data_set(make_plan, pictures):
    planned = make_plan(
        methods=["vae", "gae"], datasets=["digits", f"folder:{pictures}"], set={"network": "mlp_8", "batch_size": 5}
    )
    assert [study.name for study in planned.studies] == ["vae-digits", "gae-digits", "vae-pictures", "gae-pictures"]
    assert planned.studies[2].dataset == f"folder:{pictures}" and planned.studies[2].spec.dataset == "pictures"
    assert planned.studies[0].spec.metric == "valid/fcd"


def networks_of(planned) -> set[str]:
    return {point.values["network"] for study in planned.studies for point in study.spec.space.paper}


def test_one_network_for_all_methods(make_plan, pictures):
    """Unless given: on a folder, and where some method has no point of its own."""
    assert networks_of(make_plan(methods=["vae", "two_stage_vae"], set={})) == {"mlp_250_250_1000", "mlp_250_250"}
    assert networks_of(make_plan(methods=["vae", "two_stage_vae"], networks="shared", set={})) == {"shared"}
    folder = {"datasets": [f"folder:{pictures}"], "set": {"batch_size": 5}}
    assert networks_of(make_plan(methods=["vae", "rae_l2"], **folder)) == {"shared"}
    assert networks_of(make_plan(methods=["vae", "rae_l2"], networks="paper", **folder)) == {"mlp_500_500_2000"}
    assert networks_of(make_plan(methods=["vae", "rae_l2"], networks="mlp_9", **folder)) == {"mlp_9"}
    folder["set"] = {"network": "mlp_8", "batch_size": 5}
    assert networks_of(make_plan(methods=["vae", "rae_l2"], **folder)) == {"mlp_8"}


def test_networks_over_latents_follow_the_rule(make_plan):
    planned = make_plan(methods=["two_stage_vae", "ae_vae", "vae_plus"], networks="shared_8", set={})
    values = {study.method: study.hand_tuned_values for study in planned.studies}
    assert values["two_stage_vae"]["second_width"] == values["vae_plus"]["second_width"] == 128
    assert values["ae_vae"]["latent_network"] == values["vae_plus"]["latent_network"] == "residual_mlp_128_3_affine"


def test_an_unknown_network_is_named(make_plan):
    with pytest.raises(ValueError, match="network = 'mpl_8' is not known; allowed: shared"):
        make_plan(methods=["vae"], networks="mpl_8", set={})


def test_points_of_other_data_sets_are_carried_over(make_plan, pictures):
    """beta of the beta-VAE's paper goes with the numbers of an image; the VAE has no weight to carry."""
    own = make_plan(methods=["beta_vae", "vae"], set={})
    assert {point.carried for study in own.studies for point in study.spec.space.paper} == {""}
    planned = make_plan(
        methods=["beta_vae", "wae"], datasets=[f"folder:{pictures}"], image_size=16, channels=3,
        set={"batch_size": 5},
    )  # fmt: skip
    beta_vae, wae = (study.spec.space for study in planned.studies)
    assert [point.values["beta"] for point in beta_vae.paper] == [3.918, 0.09796]  # 4 and 0.1 times 768 / 784
    assert beta_vae.dimensions["beta"] == Range(1e-3 * 768 / 784, 20 * 768 / 784, log=True)
    assert wae.paper[0].values["weight"] == 200.0
    assert wae.paper[0].carried == "from mnist, fashion_mnist, from mlp_500_500_2000"
    assert "beta times 0.98 for 768 numbers per image" in beta_vae.paper[0].source


@pytest.mark.parametrize("images, batch", [(60_000, 100), (2999, 99), (486, 16), (9, 9)])
def test_the_batch_of_a_carried_point_leaves_steps_enough_in_an_epoch(images, batch):
    space = space_of("beta_vae", SweepConfig()).on("leaves", "mnist")
    carried = space.carried_to("leaves", 784, ("beta",), images)
    assert {point.values["batch_size"] for point in carried.paper} == {batch}
    assert carried.dimensions["batch_size"] == Fixed(batch)
    reduced = f"batch_size 100 reduced to {batch} for {images} images"
    assert (reduced in carried.paper[0].source) == (batch < 100)
    assert space.carried_to("mnist", 784, ("beta",), images).paper == space.paper  # its own data set


def test_few_images_get_more_epochs_unless_the_user_gives_them(pictures, tmp_path):
    """25 training images are one step of 16: 30 times the epochs of a data set with 30 steps."""
    config = SweepConfig(methods=["vae"], datasets=[f"folder:{pictures}"], out=tmp_path)
    planned = plan(config)
    (study,) = planned.studies
    assert study.spec.epochs == planned.config.epochs == 27 * 30 and planned.rungs == [90, 270]
    assert study.spec.budget_epochs == 6 * 27 * 30
    reading, why = planned.readings()
    assert why.startswith("epochs = 810 in place of 27, because 25 training images are too few for 30 optimiser steps")
    assert plan(planned.config).readings() == [reading], "the epochs are part of the configuration now"
    given = plan(SweepConfig(**config.model_dump(exclude_unset=True), epochs=27))
    assert given.config.epochs == 27 and given.readings() == [reading]
    assert plan(config.model_copy(update={"first_rung": 200})).rungs == [200]
    with pytest.raises(ValueError, match="looks must be at most epochs = 810, got 811, 900; omit them"):
        plan(config.model_copy(update={"looks": [810, 811, 900], "searcher": "none"}))
    with pytest.raises(ValueError, match="first_rung must be at most epochs = 810, got 900"):
        plan(config.model_copy(update={"first_rung": 900}))
    both = config.model_copy(update={"datasets": ["digits", f"folder:{pictures}"]})
    assert plan(both).config.epochs == 27, "the digits have steps enough"


def test_what_the_user_pins_is_pinned_in_points_and_space(make_plan):
    planned = make_plan(methods=["beta_vae"], set={"beta": "0.37", "network": "mlp_8"})
    (study,) = planned.studies
    assert [point.values["beta"] for point in study.spec.space.paper] == [0.37]  # the two points have become one
    assert study.hand_tuned_values["beta"] == 0.37
    assert study.spec.space.dimensions["beta"] == Fixed(0.37)
    assert isinstance(study.spec.space.dimensions["learning_rate"], Range)


KNOBS = {  # that the papers tuned by hand, in the methods' own files
    "beta_vae": ["batch_size", "warm_up"],
    "two_stage_vae": ["batch_size", "second_share", "second_halve_every", "l2", "l2_weight"],
    "ae_wae": ["batch_size", "pretrain_share"],
    "vae_plus": ["batch_size", "pretrain_share", "second_share"],
    "gaussian_vae": ["batch_size", "halve_every"],
    "gae": ["batch_size", "delta"],
}


@pytest.mark.parametrize("method", KNOBS)
def test_search_opens_what_a_paper_tuned_by_hand(make_plan, method):
    """From the command line to the planned space: every point inside it, every corner a method that can be built."""
    closed = make_plan(methods=[method], set={}).studies[0].spec.space
    argv = ["--methods", method, "--search", *KNOBS[method][:-1], f"{method}.{KNOBS[method][-1]}"]
    (study,) = plan(read_config(SweepConfig, argv, "sweep/run.py", "about")).studies
    opened = study.spec.space
    assert opened.paper == closed.paper  # trial 0 stays the hand-tuned point
    for name, dimension in opened.dimensions.items():
        if name in KNOBS[method]:
            assert isinstance(closed.dimensions[name], Fixed) and isinstance(dimension, (Range, Choice))
            assert all(dimension.contains(point.values[name]) for point in opened.paper)
        else:
            assert dimension == closed.dimensions[name]
    assert set(KNOBS[method]) <= set(opened.dimensions)


def test_every_method_may_search_its_batch_size():
    for file in sorted(Path("search_spaces").glob("*.toml")):
        assert "batch_size" in space_of(file.stem, SweepConfig()).optional, file


def test_a_knob_of_one_method_is_opened_for_that_one_alone(make_plan):
    planned = make_plan(search=["beta_vae.batch_size"])
    vae, beta_vae = (study.spec.space.dimensions["batch_size"] for study in planned.studies)
    assert isinstance(vae, Fixed) and isinstance(beta_vae, Choice)


@pytest.mark.parametrize(
    ("search", "problem"),
    [
        (["warm_up"], "search: vae: 'warm_up' has no range; optional ranges: batch_size"),
        (["gae.batch_size"], "search: gae.batch_size: 'gae' is not among the methods"),
        (["beta_vae.batch_sizes"], "search: beta_vae: 'batch_sizes' has no range; did you mean 'batch_size'"),
    ],
)
def test_what_cannot_be_opened_is_named(make_plan, search, problem):
    with pytest.raises(ValueError, match=problem):
        make_plan(search=search)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (
            {"search": ["l2"]},
            "search: two_stage_vae: l2 has no effect where l2_weight = 0.0; search or set l2_weight, too",
        ),
        ({"search": ["two_stage_vae.l2_weight"]}, "search: two_stage_vae: l2_weight has no effect where l2 = off"),
        ({"set": {"l2_weight": "1e-3"}}, "set: two_stage_vae: l2_weight has no effect where l2 = off"),
        (
            {"set": {"gamma_rule": "learned", "gamma_decay": 0.9}},
            "gamma_decay has no effect where gamma_rule = learned",
        ),
        ({"set": {"l2": "off", "l2_of": ["encoder", "decoder"]}}, "set: two_stage_vae: l2_of has no effect"),
        ({"set": {"l2_of": "encoder"}, "searcher": "none"}, "l2_of has no effect where l2 = off"),
    ],
)
def test_what_other_values_switch_off_is_refused(make_plan, fields, problem):
    with pytest.raises(ValueError, match=problem):
        make_plan(methods=["two_stage_vae"], **{"set": {}} | fields)


def test_what_other_values_switch_off_is_not_searched(make_plan):
    def searched(**fields):
        return set(make_plan(methods=["two_stage_vae"], **fields).studies[0].spec.space.searched)

    every = searched(set={})
    assert {"gamma_rate", "gamma_decay"} < every
    assert searched(set={"gamma_rule": "computed"}) == every - {"gamma_rule", "gamma_rate"}
    assert searched(set={"l2": "off", "l2_weight": 0.0}) == every  # as in the points
    assert searched(set={"l2": "on"}, search=["l2_weight"]) == every | {"l2_weight"}
    assert searched(set={}, search=["l2", "l2_weight"]) == every | {"l2", "l2_weight"}
    points = make_plan(methods=["two_stage_vae"], set={"gamma_rate": 3.0}, searcher="none")  # of both rules
    assert {point.values["gamma_rate"] for point in points.studies[0].spec.space.paper} == {3.0}


def test_scale_shortens_what_a_method_counts_in_epochs(make_plan):
    """Also what the user sets, and once: the configuration that a resumed sweep reads gives the same spaces."""
    argv = [
        "--methods",
        "beta_vae",
        "vamp_vae",
        "vade",
        "--epochs",
        "30",
        "--scale",
        "0.1",
        "--set",
        "beta_vae.warm_up=5",
    ]
    planned = plan(read_config(SweepConfig, argv, "sweep/run.py", "about"))
    beta, vamp, vade = (study.spec.space for study in planned.studies)
    assert planned.config.epochs == 3 and beta.dimensions["warm_up"] == Fixed(0.5)
    assert vamp.paper[0].values["warm_up"] == 1.0 and vamp.dimensions["warm_up"] == Choice((0.0, 0.5, 1.0, 2.0, 3.0))
    assert vade.paper[0].values["pretrain"] == 3.0 and vade.dimensions["pretrain"] == Choice((0.0, 1.0, 3.0))
    assert [point.values["batch_size"] for point in vade.paper] == [20]
    again = plan(SweepConfig(**planned.config.model_dump(mode="json")))
    assert [study.spec.space for study in again.studies] == [beta, vamp, vade]


def test_the_point_is_that_of_the_data_set(make_plan, pictures):
    planned = make_plan(methods=["vae"], datasets=["digits", f"folder:{pictures}"], set={"batch_size": 5})
    digits, folder = planned.studies
    assert "digits" in digits.spec.space.paper[0].datasets
    assert "mnist" in folder.spec.space.paper[0].datasets  # grey pictures are most like it


def test_a_space_of_the_users_own(make_plan, tmp_path):
    (tmp_path / "mine.toml").write_text(VAE + "latent_dim = [2, 4]\n")
    planned = make_plan(methods=["vae"], spaces={"vae": tmp_path / "mine.toml"}, set={})
    assert planned.studies[0].spec.space.dimensions["latent_dim"] == Choice((2, 4))


@pytest.fixture
def my_lab(tmp_path, monkeypatch) -> Iterator[Path]:
    """An importable module that holds a method; its search space is beside it."""
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "ladder.py").write_text(OUTSIDE)
    (tmp_path / "my_lab" / "ladder.toml").write_text(LADDER)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "my_lab"
    for name in ("my_lab", "my_lab.ladder"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("given", ["pinned", "listed", "in the file"])
def test_an_integer_written_as_a_float_is_an_integer(make_plan, tmp_path, given):
    """Otherwise a trial would have no number of steps, and a study no probe of its learning rate."""
    space = VAE + "learning_rate = { low = 1e-4, high = 1e-2 }\n"
    (tmp_path / "mine.toml").write_text(space.replace("batch_size = 20", "batch_size = 1e2"))
    batch = {"pinned": {"batch_size": "1e2"}, "listed": {"batch_size": [1e2, 50.0]}, "in the file": {}}[given]
    planned = make_plan(methods=["vae"], spaces={"vae": tmp_path / "mine.toml"}, set=batch, epochs=3)
    (study,) = planned.studies
    assert repr(study.hand_tuned_values["batch_size"]) == "100"
    assert study.spec.probes == (("learning_rate", 5.0),)


def test_a_method_from_outside_finds_its_space_beside_it(make_plan, my_lab):
    planned = make_plan(methods=["my_lab.ladder:Ladder"], set={})
    (study,) = planned.studies
    assert (study.name, study.method) == ("Ladder-digits", "my_lab.ladder:Ladder")
    assert study.spec.space.dimensions["rungs"] == Range(2, 5, integer=True)
    assert planned.fit_config(study, study.hand_tuned_values, seed=0).hyper.rungs == 3


def test_a_method_from_outside_leaves_nothing_behind_in_the_driver(make_plan, my_lab):
    """The driver computes the references of the metrics after it; they are kept in the cache of the machine."""
    left = "torch.set_autocast_enabled('cpu', True); torch.set_default_dtype(torch.float64)"
    (my_lab / "ladder.py").write_text(
        f"import torch\n{OUTSIDE}".replace("        return Loss(", f"        {left}\n        return Loss(")
    )
    try:
        planned = make_plan(methods=["my_lab.ladder:Ladder"], set={})
        epoch_seconds(planned, "cpu")
        assert (torch.is_autocast_enabled("cpu"), torch.get_default_dtype()) == (False, torch.float32)
    finally:
        torch.set_autocast_enabled("cpu", False)
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("return Loss(bce(self.decoder(self.encode(x).mean), x), {})", "return x.mean()", "must be a Loss.*got Tensor"),
        ("return Posterior(self.encoder(x))", "return self.encoder(x)", "encode must return a Posterior, got Tensor"),
        ("self.encode(x).mean), x)", "self.encode(x).mean).flatten(1), x)", r"RuntimeError|ValueError"),
    ],
)
def test_a_mistake_in_a_step_of_a_method_from_outside_ends_the_plan_with_its_line(
    make_plan, my_lab, right, wrong, words
):
    assert right in OUTSIDE
    (my_lab / "ladder.py").write_text(OUTSIDE.replace(right, wrong))
    with pytest.raises(ValueError, match=rf"^Ladder-digits: .*ladder\.py:\d+: .*({words})") as error:
        make_plan(methods=["my_lab.ladder:Ladder"], set={})
    assert "\n" not in str(error.value)


def test_an_outside_method_without_a_space_gets_the_expected_path(make_plan, my_lab):
    (my_lab / "ladder.toml").unlink()
    with pytest.raises(ValueError, match=r"my_lab/ladder\.toml: cannot be read"):
        make_plan(methods=["my_lab.ladder:Ladder"], set={})


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("latent_dim = [0, 4]", "vae-digits: vae: latent_dim = 0: input should be greater than or equal to 1"),
        ("latent_dim = { low = 0, high = 8, int = true }", "latent_dim = 0"),
        ("network = ['mlp_8', 'mpl_8']", "network = 'mpl_8' is not known"),
        ("latent_dim = { low = 4, high = 100_000_000_000, int = true }", "latent_dim = 100000000000, which is in its"),
        (
            "latent_dim = { low = 4, high = 8 }",
            "latent_dim is an integer, but its range 4.0..8.0 is",
        ),
        ("latent_dim = [4, 100_000_000_000]", r"latent_dim = 100000000000, .* parameters take .* GB to train"),
        ("network = ['mlp_8', 'mlp_100000000']", r"network = 'mlp_100000000', .* parameters take .* GB to train"),
        ("batch_size = [20, 5000]", "batch_size must be at most 1197, the number of training images"),
    ],
)
def test_every_corner_of_a_space_must_be_trainable(make_plan, tmp_path, line, problem):
    (tmp_path / "mine.toml").write_text(VAE + line)
    with pytest.raises(ValueError, match=problem):
        make_plan(methods=["vae"], spaces={"vae": tmp_path / "mine.toml"}, set={})


def test_what_a_trial_trains(make_plan):
    planned = make_plan(epochs=9)
    config = planned.fit_config(planned.studies[1], {"beta": 2.0}, seed=5)
    assert (config.method, config.dataset, config.epochs, config.seed) == ("beta_vae", "digits", 9, 5)
    assert config.values == {"beta": 2.0}


@pytest.mark.parametrize(
    ("epochs", "factor", "expected"),
    [
        (27, 3, 3 + 6 / 3 + 18 / 9),  # rungs 3 and 9
        (9, 3, 1 + 2 / 3 + 6 / 9),
        (2, 3, 2.0),  # no rung fits
        (8, 2, 1 + 1 / 2 + 2 / 4 + 4 / 8),
    ],
)
def test_expected_epochs_count_what_halving_leaves(make_plan, epochs, factor, expected):
    expected = SPARED * epochs + (1 - SPARED) * expected
    assert expected_epochs(make_plan(epochs=epochs, factor=factor, methods=["vae"])) == pytest.approx(expected)


def test_seconds_of_an_epoch_are_measured(make_plan):
    seconds = epoch_seconds(make_plan(), "cpu")
    assert set(seconds) == {"vae-digits", "beta_vae-digits"}
    assert all(0 < value < 60 for value in seconds.values())


def test_the_quick_start_is_a_plan():
    planned = plan(SweepConfig())
    assert len(planned.studies) >= 5 and planned.rungs == [3, 9]


def test_one_epoch_can_be_timed(make_plan):
    planned = make_plan(epochs=1)
    assert all(seconds > 0 for seconds in epoch_seconds(planned, "cpu").values())
