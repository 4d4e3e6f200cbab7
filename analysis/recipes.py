"""Grouping of values by the recipe that measured them; only values of one recipe are compared."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from analysis.load import Study, Sweep

# Samplers differ between methods by design, and package versions are reported for the whole sweep.
OWN = ("metric", "sampler", "versions")


@dataclass(frozen=True)
class Comparison:
    """The values of a data set that were measured by one recipe and can be ranked, subtracted and plotted together.

    recipe: the recipe in words; "" if the record does not say. apart: how it differs from the data set's other
    comparisons, in words; "" if it is the only one. sweep: the studies and trials of this comparison, or the whole
    sweep if the data set has one recipe.
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
    """Return the comparisons of a sweep: usually one per data set, more if recipes or metrics differ.

    The trials of a study that was measured in two ways, e.g. in a resumed sweep, are split between two comparisons.
    Trials without a value, and so without a recipe, belong to the first comparison of their study or data set.
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
        for (metric, way), full in zip(kinds, whole, strict=True):
            apart = _words({key: full.get(key, "unknown") for key in differing})
            found.append(Comparison(dataset, metric, _words(way), apart, _measured(sweep, dataset, metric, way)))
    return found


def yardsticks(sweep: Sweep, dataset: str, metric: str) -> list[Mapping]:
    """Return the distinct recipes that measured the values on a data set; values are comparable if there is one."""
    return _different(
        recipe
        for study in _studies(sweep, dataset, metric)
        for place, recipe in enumerate(sweep.recipes.get(study.name, ()))
        if (sweep.trials_of(study.name)["recipe"] == place).any()
    )


def require_one_recipe(sweep: Sweep, dataset: str, metric: str) -> Mapping:
    """Return the recipe of a metric on a data set, empty if the record does not say.

    Raises ValueError, with the differences, if there are several recipes, whose values are not comparable.
    """
    ways = yardsticks(sweep, dataset, metric)
    if len(ways) > 1:
        keys = sorted({key for way in ways for key in way if _differ(ways, key)})
        differ = "; ".join(f"{key}: {', '.join(str(way.get(key)) for way in ways)}" for key in keys)
        raise ValueError(
            f"{metric} on {dataset} was measured in {len(ways)} ways, which are not comparable ({differ}); "
            "compare only trials of one recipe"
        )
    return ways[0] if ways else {}


def _measured(sweep: Sweep, dataset: str, metric: str, way: Mapping) -> Sweep:
    """Return the share of a sweep whose values on a data set were measured by one recipe."""
    first = (yardsticks(sweep, dataset, metric) or [{}])[0]
    trials, studies, recipes = [], {}, {}
    for study in _studies(sweep, dataset, metric):
        ways, rows = sweep.recipes.get(study.name, ()), sweep.trials_of(study.name)
        places = [place for place, recipe in enumerate(ways) if _different([recipe]) == [way]]
        chosen = rows["recipe"].isin(places)
        used = [place for place in range(len(ways)) if (rows["recipe"] == place).any()]
        if (_different([ways[used[0]]])[0] if used else first) == way:
            chosen |= rows["recipe"].isna()
        elif not chosen.any():
            continue
        trials += list(rows.index[chosen])
        studies[study.name] = study
        recipes[study.name] = ways
    return sweep.share(sweep.trials.loc[trials], studies, recipes)


def _words(way: Mapping) -> str:
    return ", ".join(f"{key} {value}" for key, value in way.items())


def _differ(ways: list[Mapping], key: str) -> bool:
    return any(way.get(key) != ways[0].get(key) for way in ways)


def _different(recipes: Iterable[Mapping]) -> list[Mapping]:
    """Return the distinct recipes, ignoring the fields in OWN."""
    ways: list[Mapping] = []
    for recipe in recipes:
        way = {key: value for key, value in recipe.items() if key not in OWN}
        if way not in ways:
            ways.append(way)
    return ways


def _studies(sweep: Sweep, dataset: str, metric: str) -> list[Study]:
    return [study for study in sweep.studies_of(dataset) if study.metric == metric]
