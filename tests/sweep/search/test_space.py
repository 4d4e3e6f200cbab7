"""Search spaces: what is read is what was written, and a slip is one line that names the way out."""

import json
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

from sweep.search.space import Choice, Fixed, Range, Space, load
from trainables import names
from trainables.config import hyper_fields

FIELDS = {"latent_dim": True, "learning_rate": True, "network": True, "beta": True, "warm_up": False}
GOOD = """
[[paper]]
source   = "some table"
datasets = ["mnist", "fashion_mnist"]
values   = { latent_dim = 10, learning_rate = 1e-3, network = "mlp", beta = 4 }

[[paper]]
name     = "beta_0.1"
source   = "another reading"
datasets = ["mnist"]
values   = { latent_dim = 10, learning_rate = 1e-3, network = "mlp", beta = 0.1 }

[[paper]]
source   = "some table"
datasets = ["cifar10"]
values   = { latent_dim = 32, learning_rate = 2e-3, network = "resnet", beta = 4.0 }

[space]
latent_dim    = [8, 10, 32]
learning_rate = { low = 1e-4, high = 5e-3, log = true }
beta          = { low = 0.01, high = 10, log = true }
"""


@pytest.fixture
def read(tmp_path):
    def read(text: str) -> Space:
        path = tmp_path / "beta_vae.toml"
        path.write_text(text)
        return load(path, FIELDS)

    return read


def test_values_and_ranges_are_those_of_the_file(read):
    space = read(GOOD)
    assert space.dimensions == {
        "latent_dim": Choice((8, 10, 32)),
        "learning_rate": Range(1e-4, 5e-3, log=True),
        "beta": Range(0.01, 10.0, log=True),
    }
    first = space.paper[0]
    assert (first.name, first.source, first.datasets) == ("paper", "some table", ("mnist", "fashion_mnist"))
    assert first.values == {"latent_dim": 10, "learning_rate": 1e-3, "network": "mlp", "beta": 4.0}
    assert type(first.values["beta"]) is float, "the range of beta holds floats, so its point does"


@pytest.mark.parametrize(
    "dataset, like, betas, dims",
    [
        ("mnist", "mnist", [4.0, 0.1], [10, 10]),
        ("fashion_mnist", "mnist", [4.0], [10]),  # its own point wins over those of its like
        ("digits", "mnist", [4.0, 0.1], [10, 10]),
        ("cifar10-jpeg", "cifar10", [4.0], [32]),
        ("cosine", None, [4.0], [10]),  # the first point is the fallback
        ("cosine", "cosine", [4.0], [10]),
    ],
)
def test_points_of_a_data_set(read, dataset, like, betas, dims):
    points = read(GOOD).points(dataset, like)
    assert [point.values["beta"] for point in points] == betas
    assert [point.values["latent_dim"] for point in points] == dims


def test_a_field_left_out_of_the_space_stays_at_the_points_value(read):
    assert read(GOOD).on("mnist").dimensions["network"] == Fixed("mlp")
    assert read(GOOD).on("cifar10").dimensions["network"] == Fixed("resnet")
    assert "warm_up" not in read(GOOD).on("mnist").dimensions, "nobody gives it: the method's default holds"


def test_pinned_values_win_in_points_and_space(read):
    space = read(GOOD).with_fixed({"latent_dim": 64, "learning_rate": 1})
    assert space.dimensions["latent_dim"] == Fixed(64)
    assert [point.values["latent_dim"] for point in space.paper] == [64, 64, 64]
    assert space.dimensions["learning_rate"].value == 1.0
    assert type(space.dimensions["learning_rate"].value) is float


def test_a_point_says_which_of_its_values_are_not_its_sources(read):
    points, kept = read(GOOD).paper, read(GOOD).paper[0].values["latent_dim"]
    changed = read(GOOD).with_fixed({"latent_dim": kept, "beta": 0.25}).paper
    assert changed[0].source == f"{points[0].source}; set here: beta"


def test_points_that_pins_make_alike_become_one(read):
    space = read(GOOD).on("mnist").with_fixed({"beta": 1.0})
    assert len(space.paper) == 2, "their data sets differ"
    same = GOOD.replace('["mnist"]', '["mnist", "fashion_mnist"]')
    assert len(read(same).on("mnist").paper) == 2
    assert len(read(same).on("mnist").with_fixed({"beta": 1.0}).paper) == 1


def test_a_pin_with_a_wrong_name_or_kind_is_refused(read):
    with pytest.raises(ValueError, match=r"unknown key 'latentdim'; did you mean 'latent_dim'\?"):
        read(GOOD).with_fixed({"latentdim": 8})
    with pytest.raises(ValueError, match="learning_rate = 'fast' is not a finite number"):
        read(GOOD).with_fixed({"learning_rate": "fast"})


def test_true_is_not_one():
    assert Choice((1, 2)).contains(1.0) and not Choice((1, 2)).contains(True)
    assert not Fixed(True).contains(1) and not Range(0.0, 2.0).contains(True)


def test_json_round_trip(read):
    space = read(GOOD.replace("latent_dim    = [8, 10, 32]", "latent_dim = { low = 2, high = 64, int = true }"))
    space = space.on("mnist")
    record = json.loads(json.dumps(space.to_record()))
    assert record["beta"] == {"low": 0.01, "high": 10.0, "log": True}
    assert record["latent_dim"] == {"low": 2, "high": 64, "int": True}
    assert record["network"] == {"value": "mlp"}
    again = Space.from_record(record, [json.loads(json.dumps(p.to_record())) for p in space.paper])
    assert (again.dimensions, again.paper) == (space.dimensions, space.paper)


def replaced(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            replaced("beta = 4 }", "beta = 40.0 }"),
            "beta_vae.toml: [[paper]] 1: beta = 40.0 is outside its range 0.01..10.0;"
            " widen the range or correct the value",
        ),
        (
            replaced("latent_dim = 10", "latent_dim = 12"),
            "beta_vae.toml: [[paper]] 1: latent_dim = 12 is outside its range [8, 10, 32];"
            " add it there or correct the value",
        ),
        (
            replaced("beta = 4 }", "bata = 4 }"),
            "[[paper]] 1: values: unknown key 'bata'; did you mean 'beta'?",
        ),
        (replaced("beta     ", "bata     "), "[space]: unknown key 'bata'; did you mean 'beta'?"),
        (
            replaced("beta     ", "zzz     "),
            "[space]: unknown key 'zzz' (known: latent_dim, learning_rate",
        ),
        (replaced("source ", "sauce "), "[[paper]] 1: unknown key 'sauce'; did you mean 'source'?"),
        (replaced("log = true", "log true"), "(at line 20, column "),
        (
            replaced("log = true", "logs = true"),
            "[space] learning_rate: unknown key 'logs'; did you mean 'log'?",
        ),
        (replaced("log = true", "log = 1"), "[space] learning_rate: log = 1 is not a boolean"),
        (replaced("low = 1e-4, ", ""), "[space] learning_rate: a range requires low and high, low is missing"),
        (replaced("low = 1e-4", "low = 1e-2"), "[space] learning_rate: low must be below high = 0.005, got 0.01"),
        (replaced("low = 1e-4", "low = 0"), "[space] learning_rate: a log range requires low > 0, got 0.0"),
        (replaced("low = 1e-4", "low = true"), "[space] learning_rate: low = True is not a finite number"),
        (replaced("high = 5e-3", "high = inf"), "[space] learning_rate: high = inf is not a finite number"),
        (replaced("high = 10,", "high = 10, int = true,"), "[space] beta: low = 0.01 is not an integer"),
        (replaced("[8, 10, 32]", "[]"), "[space] latent_dim: the list of choices is empty"),
        (replaced("[8, 10, 32]", "[8, 10, 10]"), "[space] latent_dim: duplicate choice 10"),
        (replaced("[8, 10, 32]", "[10, [32]]"), "[space] latent_dim = [32] must be a number, string or boolean"),
        (replaced("[8, 10, 32]", "16"), "[[paper]] 1: latent_dim = 10 is outside its range 16"),
        (replaced("beta = 4 }", "beta = true }"), "[[paper]] 1: beta = True is not a finite number"),
        (replaced("beta = 4 }", 'beta = "4" }'), "[[paper]] 1: beta = '4' is not a finite number"),
        (replaced("beta = 4 }", "beta = nan }"), "[[paper]] 1: beta = nan is not a finite number"),
        (
            replaced(', network = "mlp", beta = 4 }', ", beta = 4 }"),
            "[[paper]] 1: network is missing; the method",
        ),
        (GOOD + "warm_up = [0, 5]\n", "[[paper]] 1: warm_up is missing but has a range below"),
        (replaced('source   = "some table"', ""), "[[paper]] 1: no source"),
        (replaced('source   = "some table"', 'source = ""'), "[[paper]] 1: source = '' is not a string"),
        (replaced('["mnist", "fashion_mnist"]', '"mnist"'), "[[paper]] 1: datasets must be a list of names"),
        (replaced("[space]", "[spaces]"), "top level: unknown key 'spaces'; did you mean 'space'?"),
        (GOOD.partition("[space]")[0], "no [space] table"),
        (GOOD[GOOD.index("[space]") :], "no [[paper]] table"),
        (replaced("[[paper]]", "[[paper]"), "beta_vae.toml: "),
    ],
)
def test_a_slip_is_one_line_that_names_it(read, text, message):
    with pytest.raises(ValueError) as caught:
        read(text)
    said = str(caught.value)
    assert said.startswith("beta_vae.toml: ") and message in said and "\n" not in said, said


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.toml: cannot be read \(No such file"):
        load(tmp_path / "nothing.toml", FIELDS)


COMMON = dict.fromkeys(("latent_dim", "learning_rate", "batch_size", "network", "likelihood"), True)
SHIPPED = {  # method -> its own fields and their hand-tuned values on grey and on colour images
    "vae": ({}, {}),
    "beta_vae": ({"beta": 4.0, "warm_up": 0.0}, {"beta": 4.0, "warm_up": 0.0}),
    "wae": ({"weight": 200.0}, {"weight": 200.0}),
    "rae_l2": (
        {"code_weight": 7.8e-3, "decoder_weight": 7.8e-5, "components": 10, "covariance": "full"},
        {"code_weight": 9.6e-2, "decoder_weight": 3.1e-3, "components": 10, "covariance": "full"},
    ),
    "gae": (
        {"components": 10, "covariance": "full", "delta": 0.1},
        {"components": 10, "covariance": "full", "delta": 0.1},
    ),
}


@pytest.mark.parametrize("method", SHIPPED)
def test_the_shipped_spaces_hold_the_papers_values(method):
    grey, colour = SHIPPED[method]
    space = load(files("search_spaces") / f"{method}.toml", hyper_fields(method))
    protocol = {
        "learning_rate": 1e-3,
        "batch_size": 100,
        "network": "mlp_500_500_2000",
        "likelihood": "bce",
    }
    for datasets, latent_dim, own in (
        (("mnist", "fashion_mnist"), 10, grey),
        (("cifar10", "svhn"), 32, colour),
    ):
        for dataset in datasets:
            assert space.points(dataset)[0].values == {"latent_dim": latent_dim, **protocol, **own}
    assert not {"network", "likelihood", "delta", "epochs"} & set(space.dimensions)


def test_beta_vae_runs_on_both_sides_of_one():
    space = load(files("search_spaces") / "beta_vae.toml", COMMON | {"beta": True, "warm_up": False})
    for dataset in ("mnist", "svhn"):
        assert [(p.name, p.values["beta"]) for p in space.points(dataset)] == [
            ("paper", 4.0),
            ("beta_0.1", 0.1),
        ]


def test_the_weights_of_rae_are_the_official_ones_in_the_sum_rule():
    space = load(files("search_spaces") / "rae_l2.toml", hyper_fields("rae_l2"))
    for dataset, pixels, code, decoder in (("mnist", 784, 1e-4, 1e-7), ("cifar10", 3072, 1e-3, 1e-6)):
        values = space.points(dataset)[0].values
        assert values["code_weight"] == pytest.approx(code * pixels / values["latent_dim"], rel=0.02)
        assert values["decoder_weight"] == pytest.approx(decoder * pixels, rel=0.02)
    spectral = load(files("search_spaces") / "rae_sn.toml", hyper_fields("rae_sn"))
    for dataset, pixels, code in (("mnist", 784, 9e-3), ("digits", 64, 9e-3), ("cifar10", 3072, 0.03)):
        values = spectral.points(dataset)[0].values
        assert values["code_weight"] == pytest.approx(code * pixels / values["latent_dim"], rel=0.02)
    by_name = {point.name: point.values for point in space.points("cifar10")}
    assert by_name["balancing"]["penalised"] == "convolutions"  # its dense kernel has no regulariser


@pytest.mark.parametrize("method", names())
def test_no_hand_tuned_point_lies_on_the_bound_of_a_logarithmic_range(method):
    text = tomllib.loads((files("search_spaces") / f"{method}.toml").read_text(encoding="utf-8"))
    ranges = {**text["space"], **text.get("optional", {})}
    for knob, spec in ranges.items():
        if isinstance(spec, dict) and spec.get("log"):
            values = {point["values"][knob] for point in text["paper"] if knob in point["values"]}
            assert all(spec["low"] < value < spec["high"] for value in values), knob


OPTIONAL = GOOD.replace("beta = 4", "warm_up = 0.0, beta = 4").replace("beta = 0.1", "warm_up = 0.0, beta = 0.1")
OPTIONAL += "[optional]\nwarm_up = [0.0, 5.0]\n"


def test_an_optional_range_is_searched_only_when_it_is_asked_for(read):
    space = read(OPTIONAL)
    assert "warm_up" not in space.dimensions
    assert space.on("mnist").dimensions["warm_up"] == Fixed(0.0)
    opened = space.opened(["warm_up", "beta"])  # beta is searched anyway
    assert opened.on("mnist").dimensions["warm_up"] == Choice((0.0, 5.0))
    assert opened.dimensions["beta"] == space.dimensions["beta"]


@pytest.mark.parametrize("name", ["warm_upp", "network"])
def test_what_has_no_range_cannot_be_opened(read, name):
    with pytest.raises(ValueError, match=f"'{name}' has no range.*optional ranges: warm_up"):
        read(OPTIONAL).opened([name])


def test_a_searched_knob_misspelt_is_guessed(read):
    with pytest.raises(ValueError, match="'latentdim' has no range; did you mean 'latent_dim'"):
        read(OPTIONAL).opened(["latentdim"])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (GOOD + "[optional]\nwarm_up = [0, 5]\n", "1: warm_up is missing but has a range below"),
        (GOOD + "[optional]\nbeta = [0.1, 4.0]\n", r"\[optional\] beta is a duplicate of \[space\]"),
        (GOOD + "[optional]\nbatch = [1]\n", r"\[optional\]: unknown key 'batch'"),
        (OPTIONAL.replace("[0.0, 5.0]", "[1.0, 5.0]"), r"warm_up = 0.0 is outside its range \[1.0, 5.0\]"),
    ],
)
def test_slips_in_optional_ranges_are_named(read, text, problem):
    with pytest.raises(ValueError, match=problem):
        read(text)


@pytest.mark.parametrize(
    ("method", "dataset", "values"),
    [
        ("info_vae", "mnist", {"kernel": "rbf", "alpha": 1.0, "lambda_": 50.0}),
        ("vae_gan", "cifar10", {"feature_weight": 5e-6}),
        ("vamp_vae", "mnist", {"init_mean": 0.05, "init_std": 0.01}),
        ("vamp_vae", "cifar10", {"init_mean": 0.4, "init_std": 0.05}),
        ("gmvae", "mnist", {"threshold": 0.5}),
        ("rae_sn", "celeba64_140", {"learning_rate": 1e-3}),
        ("two_stage_vae", "cifar10", {"second_share": 0.66667}),
    ],
)
def test_first_points_are_those_of_the_authors_code(method, dataset, values):
    space = load(files("search_spaces") / f"{method}.toml", hyper_fields(method))
    first = space.points(dataset)[0].values
    assert {name: first[name] for name in values} == values


def test_what_is_counted_in_epochs_is_shortened_with_them(read):
    text = 'in_epochs = ["warm_up"]\n' + OPTIONAL.replace("warm_up = 0.0", "warm_up = 10", 1).replace("5.0]", "7, 10]")
    whole = read(text).opened(["warm_up"]).on("mnist")
    space = whole.shortened(0.1)
    assert [point.values["warm_up"] for point in space.paper] == [1.0, 0.0]
    assert [point.source for point in space.paper] == [
        "some table; warm_up times 0.1, as the epochs",
        "another reading",
    ]
    assert space.dimensions == {**whole.dimensions, "warm_up": Choice((0.0, 0.7, 1.0))}
    assert read(text).on("mnist").shortened(0.1).dimensions["warm_up"] == Fixed(1.0)
    ranged = read(text.replace("[0.0, 7, 10]", "{ low = 0, high = 30, int = true }")).opened(["warm_up"])
    assert ranged.shortened(0.05).dimensions["warm_up"] == Range(0.0, 1.5)
    assert whole.shortened(1.0) is whole
    for wrong, words in (('"warm_up"', "must be a list of names"), ('["warmup"]', "in_epochs: unknown key 'warmup'")):
        with pytest.raises(ValueError, match=words):
            read(f"in_epochs = {wrong}\n" + GOOD)


def test_a_file_says_what_switches_a_hyperparameter_off(read):
    with pytest.raises(ValueError, match=r"\[idle\]: unknown key 'warmup'; did you mean 'warm_up'"):
        read(GOOD + "[idle]\nwarmup = { beta = 0.0 }\n")
    space = read(GOOD + '[idle]\nbeta = { network = ["mlp", "other"] }\n').on("mnist")
    assert "beta" in space.searched and "beta" not in space.without_idle().searched
    assert space.switched_off("beta") == "network = mlp"
    assert space.with_fixed({"network": "resnet"}).switched_off("beta") == ""


def test_a_file_says_which_ranges_balance_and_what_sets_them_without_a_search(read):
    balance, rules = '[balance]\nbeta = { network = ["mlp", "resnet"] }\n', '[rules]\ngeco = { method = "geco" }\n'
    space = read(GOOD + balance + rules)
    assert space.balance == {"beta": {"network": ["mlp", "resnet"]}}
    assert space.rules == {"geco": {"method": ["geco"]}}
    assert read(GOOD).balance is None
    assert read(GOOD + "[balance]\n").balance == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[balance]\nlatent_dim = {}\n", r"\[balance\] latent_dim has no range; .*learning_rate, beta"),
        ("[balance]\nbeat = {}\n", r"\[balance\] beat has no range"),
        ("[balance]\nbeta = 4\n", r"\[balance\] must be a table of NAME"),
        ('[balance]\nbeta = { netwrok = "mlp" }\n', r"\[balance\] beta: unknown key 'netwrok'.*network"),
        ("[rules]\nlearned = { beta = nan }\n", r"\[rules\] learned: beta = nan is not a finite number"),
    ],
)
def test_slips_in_what_balances_are_named(read, text, problem):
    with pytest.raises(ValueError, match=problem):
        read(GOOD + text)


def test_every_shipped_space_says_what_balances_in_it():
    """Any range that weighs a loss; rates, shares and floors are no weights."""
    others = {"learning_rate", "gamma_rate", "mixture_rate", "pretrain_share", "halve_every", "sigma_floor", "margin",
              "noise_level", "eta", "n", "critic_rate", "codebook_rate", "prior_rate"}  # fmt: skip
    for file in sorted(Path("search_spaces").glob("*.toml")):
        name = file.stem
        space = load(file, hyper_fields(name))
        ranges = {knob for knob, dimension in space.dimensions.items() if isinstance(dimension, Range)}
        assert space.balance is not None, name
        assert ranges - others <= set(space.balance), name
