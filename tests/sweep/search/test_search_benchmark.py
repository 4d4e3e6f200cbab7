"""The benchmark of searchers against its recorded table."""

import json
import math
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "search.py"


@pytest.fixture(scope="module")
def program():
    spec = spec_from_file_location("benchmark_of_search", PROGRAM)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def study(program):
    return next(of for of in program.recorded() if of.name == "vae-digits")


def test_what_was_recorded_is_reproduced(program):
    study = next(of for of in program.recorded(judge="forest") if of.name == "vae-digits")
    table = program.pd.read_parquet(program.TABLE)
    for name in table.study.unique():
        assert {"space", "points", "balance"} <= set(table.attrs["spaces"][name])
    row = table[(table.study == "vae-digits") & (table.point == 1) & (table.seed == 0)].set_index("epoch")
    curve = study.mean(json.loads(row["values"].iloc[0]))
    assert dict(zip(study.levels, map(math.exp, curve), strict=True)) == pytest.approx(row.value.to_dict())


@pytest.mark.parametrize(
    "searcher", ["random", "random, halving", "earlier", "tpe, promotion, probes", "one epoch, top k"]
)
def test_searcher_stays_within_its_epochs(program, study, searcher):
    ended = list(program.SEARCHERS[searcher](study, 3, 0))
    assert ended[0].values == dict(study.space.paper[0].values)
    assert len([e for e in ended if e.spent <= 3 * 27]) >= 2
    assert program.regret(study, searcher, 3, 0) > -0.05  # there may be better points than those drawn


def test_the_process_separates_the_noise_of_trainings_from_points(program, study):
    residuals = study.points[study.epochs] - study.model.predict(study.at)[:, -1]
    noise = study.deviations[:, -1].std()
    assert 0.3 * noise < residuals[study.seeds == 1].std() < 2 * noise, "it does not pass through single trainings"
    assert residuals[study.seeds == 5].std() < residuals[study.seeds == 1].std(), "means of five are known better"


def test_the_earlier_searcher_counts_trials_and_its_choices_have_no_order(program, study, monkeypatch):
    monkeypatch.setattr(program, "replayed", lambda of, searched, seed: searched)
    searched = program.earlier(study, 8, 0)
    assert searched.spec.count == 8 and not searched.spec.promotes and not searched.spec.spared
    assert isinstance(searched.spec.space.searched["latent_dim"], program.Unordered)
    assert isinstance(program.distribution(searched.spec.space.searched["latent_dim"]), CategoricalDistribution)
    assert isinstance(study.distributions["latent_dim"], IntDistribution)
