"""Two recipes never share a column unseen: which values were measured alike, and what differs between others."""

from collections.abc import Iterable, Mapping

from analysis.load import Study, Sweep

# Each method has its own sampler; packages are told for the whole sweep.
OWN = ("metric", "sampler", "versions")
SEVERAL = "several recipes"


def yardsticks(sweep: Sweep, dataset: str, metric: str) -> list[Mapping]:
    """The different ways in which a metric was measured on a data set; one, if its values may be compared."""
    studies = _studies(sweep, dataset, metric)
    return _different(recipe for study in studies for recipe in sweep.recipes.get(study.name, ()))


def require_one_recipe(sweep: Sweep, dataset: str, metric: str) -> Mapping:
    """The one way in which a metric was measured on a data set, empty where the record does not say.

    ValueError: there are several, so its values do not belong in one column; names what differs.
    """
    ways = yardsticks(sweep, dataset, metric)
    if len(ways) > 1:
        keys = sorted({key for way in ways for key in way if any(way.get(key) != w.get(key) for w in ways)})
        differ = "; ".join(f"{key}: {', '.join(str(way.get(key)) for way in ways)}" for key in keys)
        raise ValueError(
            f"{metric} on {dataset} was measured in {len(ways)} ways, which do not belong in one column ({differ}); "
            "compare only trials of one recipe"
        )
    return ways[0] if ways else {}


def recipe_words(sweep: Sweep, study: Study) -> str:
    """How a study's objective was measured, in a line; SEVERAL if in more than one way, "" if unknown."""
    ways = _different(sweep.recipes.get(study.name, ()))
    if len(ways) > 1:
        return SEVERAL
    return ", ".join(f"{key} {value}" for key, value in ways[0].items()) if ways else ""


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
