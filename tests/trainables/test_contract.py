"""Every method of the house keeps the contract, at the first point of its search space made small."""

import tomllib
from functools import cache
from importlib.resources import files

import pytest
import torch
from torch.nn.functional import conv2d

import trainables
from trainables.catalog import find
from trainables.config import checked
from trainables.testing import (
    CHECKS,
    Subject,
    check_hyper,
    check_method,
    check_overfit,
    check_owners,
    check_samples,
    check_saved,
    check_turns,
    differing,
    others,
)

SMALL = {"latent_dim": 4, "learning_rate": 5e-3, "batch_size": 8, "network": "mlp_32_16"}
# Weights that fit 784 pixels crush 64, and a decoder that hears little but a critic learns nothing by heart.
GENTLE = {
    "beta_vae": {"beta": 1.0},
    "info_vae": {"lambda_": 10.0},
    "vae_gan": {"layer": 2, "feature_weight": 0.5, "pixel_weight": 1.0},
    "rae_sn": {"network": "conv_rae_2", "code_weight": 1e-3},  # a decoder of slope one learns nothing by heart
    "two_stage_vae": {"gamma": 0.02, "second_width": 16, "second_share": 0.5},
    "ae_wae": {"code_dim": 6, "latent_network": "mlp_16", "weight": 1.0},
    "kl_ae": {"network": "shared_4"},
    "vq_vae": {"network": "shared_4", "prior_width": 8},  # only convolutions have pictures of codes
    "ae_vae": {"code_dim": 6, "latent_network": "mlp_16"},
    "vae_plus": {"code_dim": 6, "latent_network": "mlp_16", "second_width": 16},
}
CHANGES: dict[str, dict] = {
    "vae_plus": {"latent_network": "mlp_12"},
    "ae_vae": {"latent_network": "mlp_12"},
    "ae_wae": {"latent_network": "mlp_12"},
}
WHERE: dict[str, dict] = {
    "two_stage_vae": {
        "gamma_rate": {"gamma_rule": "learned"},
        "gamma_decay": {"gamma": 1.0},
        "gamma_ratchet": {"gamma": 0.01},
        "l2_weight": {"l2": "on"},
        "l2_of": {"l2": "on", "l2_weight": 0.1},
    },
    "gaussian_vae": {
        "gamma_decay": {"gamma_rule": "computed"},
        "gamma_ratchet": {"gamma_rule": "computed", "gamma": 0.01},
    },
    "rae_l2": {"penalised": {"network": "conv_rae_2"}},
    "iaae_equal": {"batch_norm": {"network": "mlp_aae_16_8"}},  # the one kind that has any
}
# Each differs from another method in one aspect. CI runs their costliest checks.
VARIANTS = {"iaae_equal", "iaae_kld", "iaae_mapping", "iaae_niter", "vg_bn", "vg_denoise", "vg_denoise_bn", "rae_sn"}
COSTLY = {(check, name) for check in (check_hyper, check_overfit) for name in {*VARIANTS, "kl_ae"}}


@pytest.fixture(scope="session")
def epochs(pytestconfig) -> int:
    """Trainings are longer in CI, where methods have more epochs for each of their stages."""
    return 6 if pytestconfig.getoption("--slow") else 3


@pytest.fixture(autouse=True)
def no_inception(monkeypatch):
    """Early features of the FID's network, as the weights are not always at hand: a few random ones in their place."""
    filters = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    made_up = lambda x: conv2d(x.expand(-1, 3, -1, -1), filters.to(x.device)).relu().mean((2, 3))  # noqa: E731
    monkeypatch.setattr("trainables.methods.iaae_feature.early", lambda device: made_up)


@pytest.fixture(autouse=True)
def narrow_critic(monkeypatch):
    """FactorVAE's critic of six layers of 1000 takes a quarter of the time of all contracts."""
    monkeypatch.setattr("trainables.methods.factor_vae.CRITIC_WIDTHS", 6 * (32,))


def space(name: str) -> dict:
    return tomllib.loads((files("search_spaces") / f"{name}.toml").read_text(encoding="utf-8"))


def arguments(name: str) -> dict:
    point = space(name)["paper"][0]
    return {
        "values": point["values"] | SMALL | GENTLE.get(name, {}),
        "changes": CHANGES.get(name, {}),
        "where": WHERE.get(name, {}),
    }


@cache  # checks of one method share what it trains
def subject(name: str, epochs: int, shape: tuple[int, ...] = (1, 8, 8)) -> Subject:
    return Subject(name, shape=shape, epochs=epochs, **arguments(name))


@pytest.mark.parametrize(
    "check, name",
    [
        pytest.param(
            check, name, id=f"{check.__name__}-{name}", marks=[pytest.mark.slow] if (check, name) in COSTLY else []
        )
        for check in CHECKS
        for name in trainables.names()
    ],
)
def test_contract(check, name, epochs):
    check(subject(name, epochs))


@pytest.mark.parametrize("name", trainables.names())
@pytest.mark.parametrize("check", [check_owners, check_turns, check_samples])
def test_contract_of_colour_images_of_another_size(name, check, epochs):
    check(subject(name, epochs, (3, 12, 12)))


SHAPES = [(1, 28, 28), (3, 32, 32), (3, 64, 64)]


@cache
def on_the_shared_network(name: str, shape: tuple[int, int, int]) -> Subject:
    made = arguments(name)
    made["values"] |= {"network": "shared_8", "learning_rate": 1e-3}
    made["changes"] = made["changes"] | {"network": "shared_6", "clip": 1e-3}
    return Subject(name, shape=shape, **made)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", trainables.names())
def test_the_shared_network_at_full_width(name, shape):
    values = arguments(name)["values"] | {"network": "shared"}
    method = find(name)(checked(find(name).Hyper, values, name), shape)
    assert method.sample(2).shape == (2, *shape)


@pytest.mark.slow
@pytest.mark.parametrize("name", trainables.names())
@pytest.mark.parametrize(  # what a network can break
    "check, shape",
    [(check_turns, SHAPES[0]), (check_samples, SHAPES[0]), (check_samples, SHAPES[-1]), (check_saved, SHAPES[0])],
    ids=lambda part: getattr(part, "__name__", str(part)),
)
def test_contract_on_the_shared_network(name, check, shape):
    check(on_the_shared_network(name, shape))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", trainables.names())
def test_contract_on_a_gpu(name):
    check_method(name, **arguments(name), device="cuda")


def idle() -> list[tuple]:
    return [
        (method, name, other, value)
        for method in trainables.names()
        for name, switches in space(method).get("idle", {}).items()
        for other, values in switches.items()
        for value in (values if isinstance(values, list) else [values])
    ]


@pytest.mark.parametrize("method, name, other, value", idle())
def test_what_a_space_declares_idle_has_no_effect(method, name, other, value):
    given = arguments(method) | {"where": {name: {other: value}}}
    one = Subject(method, epochs=2, **given)
    changed = next(others(one, name))

    def trained(**values) -> dict:
        model = Subject(method, epochs=2, **given | {"values": given["values"] | values}).trained
        return {key: tensor for key, tensor in model.state_dict().items() if not key.startswith("critic")}

    now = getattr(one.config(**{other: value}).hyper, name)
    assert changed != now
    assert differing(trained(**{other: value, name: now}), trained(**{other: value, name: changed})) == []
