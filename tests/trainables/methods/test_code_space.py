"""AE + VAE, VAE+ and WAE-MMD over codes: what is frozen, what is standardised, where the error is measured."""

import pytest
import torch
from torch import nn

from trainables.losses import gaussian_nll, kl_to_standard_normal, squared_error
from trainables.testing import Subject, made_up, moves
from trainables.training import Training

SHARED = {
    "latent_dim": 3, "learning_rate": 5e-3, "batch_size": 8, "network": "mlp_32_16", "code_dim": 5,
    "latent_network": "mlp_16", "pretrain_share": 0.34,
}  # fmt: skip
OWN = {"ae_vae": {}, "vae_plus": {"second_width": 16, "second_share": 0.33}, "ae_wae": {"weight": 1.0}}


def training(name: str, **changed) -> Training:
    config = Subject(name, SHARED | OWN[name] | changed).config(epochs=6)
    return Training(config, made_up((1, 8, 8), 40))


@pytest.mark.parametrize("name", OWN)
def test_who_moves_when(name):
    seen: dict[str, set[str]] = {}
    for move in moves(Subject(name, SHARED | OWN[name])):
        seen.setdefault(move.stage.name, set()).update(part.split(".")[0] for part in move.moved)
    small = {"encoder", "decoder"} | ({"variance"} if name != "ae_wae" else set())
    expected = {"autoencoder": {"autoencoder"}, "wae" if name == "ae_wae" else "vae": small}
    if name == "vae_plus":
        expected["second"] = {"densities"}
    assert seen == expected


@pytest.mark.parametrize("name", OWN)
def test_the_frozen_autoencoder_is_in_eval_mode_and_its_statistics_stand(name):
    run = training(name, network="conv_rae_2")
    for _ in range(2):
        run.run_epoch()
    norms = {n: b.clone() for n, b in run.method.named_buffers() if "running" in n and n.startswith("autoencoder")}
    assert any(n.endswith("running_mean") for n in norms)
    run.run_epoch()
    assert run.stage.name != "autoencoder"
    for n, buffer in norms.items():
        assert torch.equal(dict(run.method.named_buffers())[n], buffer), f"{n} moved"
    run.method.train()
    x = run.images[:8].float() / 255
    run.method.loss(x)
    modes = {m.training for m in run.method.autoencoder.modules() if isinstance(m, nn.BatchNorm2d)}
    assert modes == {False} and run.method.encoder.training


def test_codes_are_standardised_on_entering_the_second_stage():
    run = training("ae_vae")
    for _ in range(3):
        run.run_epoch()
    with torch.no_grad():
        codes = run.method.autoencoder.encode(run.images.float() / 255)
        raw = run.method.autoencoder.encoder(run.images.float() / 255)
        torch.testing.assert_close(run.method.autoencoder.decode(codes), run.method.autoencoder.decoder(raw).sigmoid())
    torch.testing.assert_close(codes.mean(0), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(codes.std(0), torch.ones(5))
    assert not torch.allclose(raw.std(0), torch.ones(5), atol=0.05)


def test_a_dead_code_keeps_its_scale():
    method = training("ae_vae").method
    nn.init.zeros_(method.autoencoder.encoder[-1].weight)
    method.autoencoder.standardise(made_up((1, 8, 8), 20))
    assert torch.equal(method.autoencoder.std, torch.ones(5))


@pytest.mark.parametrize("where", ["pixels", "codes"])
def test_the_error_is_measured_where_it_should_be(where):
    method = training("ae_vae", error_in=where, kl_weight=1.4, gamma=0.3).method.double()
    x = torch.rand(6, 1, 8, 8).double()
    torch.manual_seed(1)
    loss = method.loss(x)
    torch.manual_seed(1)
    q = method.encode(x)
    z = q.draw()
    if where == "pixels":
        sse, measured = squared_error(method.decode(z), x), 64
    else:
        sse, measured = squared_error(method.decoder(z), method.autoencoder.encode(x)), 5
    expected = gaussian_nll(sse, 0.3, measured) + 1.4 * kl_to_standard_normal(q.mean, q.log_var)
    torch.testing.assert_close(loss.total, expected, rtol=1e-6, atol=0)
    assert (method.decoder_variance() is None) is (where == "codes")


def test_end_to_end_both_networks_learn_by_the_loss_in_pixels():
    own = SHARED | OWN["ae_vae"] | {"frozen": False, "pretrain_share": 0.0}
    seen = {(move.stage.name, part.split(".")[0]) for move in moves(Subject("ae_vae", own)) for part in move.moved}
    assert seen == {("vae", "autoencoder"), ("vae", "encoder"), ("vae", "decoder"), ("vae", "variance")}
    method = training("ae_vae", frozen=False).method.double()
    x = torch.rand(6, 1, 8, 8).double()
    weight, step, ends = method.autoencoder.encoder[-1].weight, 1e-5, []
    for sign in (1, -1):
        with torch.no_grad():
            weight[0, 0] += sign * step
        torch.manual_seed(1)
        ends.append(method.loss(x).total.item())
        with torch.no_grad():
            weight[0, 0] -= sign * step
    torch.manual_seed(1)
    method.loss(x).total.backward()
    assert weight.grad[0, 0].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4)


def test_codes_that_are_still_learned_are_not_a_reference():
    with pytest.raises(ValueError, match="set error_in = 'pixels' or frozen = true"):
        training("ae_vae", frozen=False, error_in="codes")


def test_budgets_of_three_stages():
    method = training("vae_plus", pretrain_share=0.25, second_share=0.5).method
    assert [stage.epochs for stage in method.stages(400)] == [100, 100, 200]
    assert [stage.judged for stage in method.stages(400)] == [False, False, True]
    assert [stage.epochs for stage in method.stages(2)] == [0, 1, 1]


def test_both_rows_of_the_paper_come_from_vae_plus():
    assert list(training("vae_plus").method.densities) == ["second", "prior", "second_normalised"]
