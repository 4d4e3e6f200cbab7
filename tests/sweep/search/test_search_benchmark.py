"""The benchmark of searchers against its recorded table."""

import json
import math
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

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


def test_what_was_recorded_is_reproduced(program, study):
    table = program.pd.read_parquet(program.TABLE)
    for name in table.study.unique():
        assert {"space", "points"} <= set(table.attrs["spaces"][name])
    row = table[(table.study == "vae-digits") & (table.point == 1) & (table.seed == 0)].set_index("epoch")
    curve = study.mean(json.loads(row["values"].iloc[0]))
    assert dict(zip(study.levels, map(math.exp, curve), strict=True)) == pytest.approx(row.value.to_dict())


@pytest.mark.parametrize("searcher", ["random", "random, halving", "sweep's tpe", "tpe, promotion", "one epoch, top k"])
def test_searcher_stays_within_its_epochs(program, study, searcher):
    ended = list(program.SEARCHERS[searcher](study, 3, 0))
    assert ended[0].values == dict(study.space.paper[0].values)
    assert len([e for e in ended if e.spent <= 3 * 27]) >= 2
    assert program.regret(study, searcher, 3, 0) >= 0
