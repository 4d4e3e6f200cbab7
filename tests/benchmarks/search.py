"""How close searchers come to the best of invented landscapes, by budget and by how good the hand-tuned point is.

Each landscape is a valley over four numbers and two choices whose dimensions differ in importance; every value has 5 %
noise and no trial is stopped. Regret is what is left of the hand-tuned point's excess over the optimum (1: nothing was
gained): the median over seeds, with the quartiles. Landscapes are no trainings: prints figures, asserts nothing.

    python tests/benchmarks/search.py --seeds 24 --budgets 8 16 32
"""

import argparse
import math
import sys

sys.path.pop(0)  # the file beside this one that is called sweep.py must not hide the package

import numpy as np

from sweep.search.space import Choice, Point, Range, Space
from sweep.search.study import Spec, Study

NUMBERS = [f"x{i}" for i in range(4)]
SIZES, KINDS = tuple(range(8)), ("a", "b", "c")
OFF = {"good": 0.1, "fair": 0.3, "anywhere": None}  # deviation of the hand-tuned point from the optimum, per dimension
NOISE = 0.05


def regret(searcher: str, budget: int, hand: str, seed: int) -> float:
    """Of the trial with the lowest noisy value, without its noise."""
    chance, noise = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    optimum, weights = chance.random(5), np.exp(chance.normal(size=5))
    kind = str(chance.choice(KINDS))
    moved = chance.random(5) if OFF[hand] is None else np.clip(optimum + OFF[hand] * chance.normal(size=5), 0, 1)
    first = dict(zip(NUMBERS, map(float, moved), strict=False)) | {"size": round(7 * moved[4])}
    first["kind"] = kind if OFF[hand] is not None and chance.random() < 0.7 else str(chance.choice(KINDS))

    def distance(values: dict) -> float:
        at = np.array([*(values[name] for name in NUMBERS), values["size"] / 7])
        off = math.sqrt(np.average((at - optimum) ** 2, weights=weights))
        return math.exp(4 * off) * (1.0 if values["kind"] == kind else 1.3)

    dimensions = {name: Range(0.0, 1.0) for name in NUMBERS} | {"size": Choice(SIZES), "kind": Choice(KINDS)}
    space = Space((Point("", (), first),), dimensions, {})
    study = Study(Spec("a", "a", "a", budget, 1, "value", space, 1, sampler=searcher), seed)
    found = []
    while asked := study.ask():
        value = distance(asked.values)
        noisy = value * math.exp(NOISE * noise.normal())
        study.report(asked.number, 1, noisy)
        study.end(asked.number, "complete")
        found.append((noisy, value))
    return (min(found)[1] - 1) / (distance(first) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--budgets", type=int, nargs="+", default=[8, 16, 32], help="trials")
    parser.add_argument("--searchers", nargs="+", default=["random", "tpe", "prior"])
    options = parser.parse_args()
    for hand in OFF:
        for budget in options.budgets:
            for searcher in options.searchers:
                found = [regret(searcher, budget, hand, seed) for seed in range(options.seeds)]
                low, median, high = np.quantile(found, [0.25, 0.5, 0.75])
                print(f"{hand:9} {budget:3} trials  {searcher:7} {median:.2f} [{low:.2f}, {high:.2f}]", flush=True)


if __name__ == "__main__":
    main()
