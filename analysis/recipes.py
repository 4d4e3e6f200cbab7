"""Two recipes never share a column: which values were measured alike, and what differs between the others."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from analysis.load import Study, Sweep

# Each method has its own sampler; packages are told for the whole sweep.
OWN = ("metric", "sampler", "versions")


@dataclass(frozen=True)
class Comparison:
    """The values of a data set that were measured alike, so may be ranked, subtracted and drawn on one axis.

    recipe: how, in words; "" if the record does not say. apart: what tells it from the data set's other comparisons,
    in words; "" if it is the only one. sweep: with the studies and trials of this comparison; of a data set of one
    recipe the whole sweep.
    """

    dataset: str
    metric: str
    recipe: str
    apart: str
    sweep: Sweep

    @property
    def studies(self) -> tuple[Study, ...]:
        return self.sweep.studies_of(self.dataset)


def comparisons(sweep: Sweep) -> list[Comparison]:
    """What may be compared with what: mostly one for each data set, and more where recipes or metrics differ.

    A study that was measured in two ways, as a resumed sweep may be, has its trials in two of them. What has no value,
    so no recipe, stays with the first of its study, or of its data set.
    """
    found = []
    for dataset in sweep.datasets:
        kinds = [
            (metric, way)
            for metric in dict.fromkeys(study.metric for study in sweep.studies_of(dataset))
            for way in yardsticks(sweep, dataset, metric) or [{}]
        ]
        if len(kinds) == 1:
            found += [Comparison(dataset, metric, _words(way), "", sweep) for metric, way in kinds]
            continue
        whole = [{"metric": metric} | way for metric, way in kinds]
        differing = [key for key in dict.fromkeys(key for way in whole for key in way) if _differ(whole, key)]
        for (metric, way), told in zip(kinds, whole, strict=True):
            apart = _words({key: told.get(key, "unknown") for key in differing})
            found.append(Comparison(dataset, metric, _words(way), apart, _measured(sweep, dataset, metric, way)))
    return found


def yardsticks(sweep: Sweep, dataset: str, metric: str) -> list[Mapping]:
    """The different ways in which the trials' values on a data set were measured; one, if they may be compared."""
    return _different(
        recipe
        for study in _studies(sweep, dataset, metric)
        for place, recipe in enumerate(sweep.recipes.get(study.name, ()))
        if (sweep.trials_of(study.name)["recipe"] == place).any()
    )


def require_one_recipe(sweep: Sweep, dataset: str, metric: str) -> Mapping:
    """The one way in which a metric was measured on a data set, empty where the record does not say.

    ValueError: there are several, so its values do not belong in one column; names what differs.
    """
    ways = yardsticks(sweep, dataset, metric)
    if len(ways) > 1:
        keys = sorted({key for way in ways for key in way if _differ(ways, key)})
        differ = "; ".join(f"{key}: {', '.join(str(way.get(key)) for way in ways)}" for key in keys)
        raise ValueError(
            f"{metric} on {dataset} was measured in {len(ways)} ways, which do not belong in one column ({differ}); "
            "compare only trials of one recipe"
        )
    return ways[0] if ways else {}


def _measured(sweep: Sweep, dataset: str, metric: str, way: Mapping) -> Sweep:
    """The share of a sweep whose values on a data set were measured in one way."""
    first = (yardsticks(sweep, dataset, metric) or [{}])[0]
    trials, studies, recipes = [], {}, {}
    for study in _studies(sweep, dataset, metric):
        told, rows = sweep.recipes.get(study.name, ()), sweep.trials_of(study.name)
        places = [place for place, recipe in enumerate(told) if _different([recipe]) == [way]]
        chosen = rows["recipe"].isin(places)
        used = [place for place in range(len(told)) if (rows["recipe"] == place).any()]
        if (_different([told[used[0]]])[0] if used else first) == way:
            chosen |= rows["recipe"].isna()
        elif not chosen.any():
            continue
        trials += list(rows.index[chosen])
        studies[study.name] = study
        recipes[study.name] = told
    return sweep.share(sweep.trials.loc[trials], studies, recipes)


def _words(way: Mapping) -> str:
    return ", ".join(f"{key} {value}" for key, value in way.items())


def _differ(ways: list[Mapping], key: str) -> bool:
    return any(way.get(key) != ways[0].get(key) for way in ways)


def _different(recipes: Iterable[Mapping]) -> list[Mapping]:
    """Recipes without what may differ, each once."""
    ways: list[Mapping] = []
    for recipe in recipes:
        way = {key: value for key, value in recipe.items() if key not in OWN}
        if way not in ways:
            ways.append(way)
    return ways


def _studies(sweep: Sweep, dataset: str, metric: str) -> list[Study]:
    return [study for study in sweep.studies_of(dataset) if study.metric == metric]
