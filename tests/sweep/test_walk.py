"""One hyperparameter on its way from the command line to the loss, through every hand that passes it on.

Where it goes from there, into record, tables and MLflow, a real sweep shows in test_run.py.
"""

import pytest
import torch

from sweep.commands.run import RunFlags
from sweep.config import SweepConfig, read_config

BETA = 0.37


@pytest.fixture
def flags(tmp_path) -> dict:
    """What file and flags say together; of beta they say different things, and the flag wins."""
    (tmp_path / "sweep.yaml").write_text("set: {beta: 5.0, latent_dim: 2}\nepochs: 9\ntrials: 3\n")
    argv = ["--config", str(tmp_path / "sweep.yaml"), "--methods", "beta_vae", "--set", f"beta={BETA}", "network=mlp_8"]
    return read_config(RunFlags, argv, "sweep/run.py", "about").model_dump(include=set(SweepConfig.model_fields))


def test_beta_walks_from_the_command_line_to_the_loss(flags, begin, make_worker):
    assert flags["set"] == {"beta": BETA, "latent_dim": 2, "network": "mlp_8"}

    conductor = begin(**flags)
    study = conductor.studies["beta_vae-digits"]
    described = [conductor.next(ray_id) for ray_id in "ab"]
    assert [asked.values["beta"] for asked in study.unfinished] == [BETA] * 2
    assert [trial["fit"]["values"]["beta"] for trial in described] == [BETA] * 2
    assert [asked.values["latent_dim"] for asked in study.unfinished] == [2, 2]
    rates = [asked.values["learning_rate"] for asked in study.unfinished]
    assert rates[0] != rates[1]  # the search goes on around it

    worker = make_worker(described[1])
    worker.step()
    method = worker.reported.method
    assert method.hyper.beta == BETA and method.hyper.learning_rate == rates[1]
    torch.manual_seed(0)
    loss = method.loss(torch.rand(20, 1, 8, 8))
    weight = (loss.total - loss.terms["reconstruction"]) / loss.terms["kl"]
    assert weight.item() == pytest.approx(BETA, rel=1e-2)
