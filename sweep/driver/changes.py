"""What has changed between the beginning of a sweep and going on with it: named, or refused where the numbers of before
and after would not mean the same.

The studies of a sweep are those of its record. Search spaces may be edited in the meantime, for a sweep to come.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sweep.config import SweepConfig
from sweep.driver import provenance
from sweep.record import StudyEntry, SweepEvent
from sweep.search.plan import Plan, check
from sweep.search.study import Spec

# What a value in the record depends on, besides what its study says.
FROZEN = ("epochs", "metric", "objectives", "samples", "searcher", "factor", "first_rung", "seed", "set", "points")
FROZEN += ("image_size", "channels", "split", "pairs", "inception_splits", "seeds")


def refuse(config: SweepConfig, began: SweepEvent) -> None:
    """Raises ValueError if a configuration would give the record's numbers another meaning than they began with."""
    now = config.model_dump(mode="json")
    for name in FROZEN:
        if name in began.config and now[name] != (was := began.config[name]):
            raise ValueError(
                f"{name} is {now[name]!r}, but the sweep began with {was!r}, and its results would not be comparable; "
                "put it back in config.yaml, or start a new sweep"
            )


def as_recorded(planned: Plan, entries: Mapping[str, StudyEntry]) -> tuple[Plan, list[str]]:
    """The plan with its studies as the record describes them, and a line for what the files say otherwise by now.

    Only the budget is the plan's; one in trials stays so. Raises ValueError if the studies are not the same, or if
    today's code does not take a recorded study any more.
    """
    names = [study.name for study in planned.studies]
    if names != list(entries):
        gone, new = ([n for n in a if n not in b] for a, b in ((entries, names), (names, entries)))
        what = [f"without {', '.join(gone)}"] * bool(gone) + [f"with {', '.join(new)}"] * bool(new)
        raise ValueError(
            f"the sweep would go on {' and '.join(what) or 'in another order'}; put methods and datasets back in "
            "config.yaml, or start a new sweep"
        )
    studies, edited = [], []
    for study in planned.studies:
        began, now = Spec.from_record(entries[study.name]), study.spec
        budget = now.budget_epochs if began.count is None else None
        spec = replace(began, trials=now.trials, budget_epochs=budget)
        studies.append(replace(study, spec=spec))
        if _searched(spec) != _searched(study.spec):
            edited.append(study.name)
            check(studies[-1], planned.splits[study.dataset])
    lines = [f"the search space of {', '.join(edited)} was edited; the sweep goes on in the one it began with"]
    return replace(planned, studies=tuple(studies)), lines if edited else []


def since(began: SweepEvent) -> list[str]:
    """A line each for other code and for other versions than a sweep began with."""
    lines, code = [], provenance.code_hash()
    if began.code not in ("", code):
        lines.append(f"the code has changed since the sweep began ({began.code} → {code}); what runs now runs on it")
    now, was = provenance.versions(), began.versions
    other = [f"{name} {was[name]} → {now[name]}" for name in now if was.get(name, now[name]) != now[name]]
    if other:
        lines.append(f"versions have changed since the sweep began: {', '.join(other)}")
    return lines


def _searched(spec: Spec) -> tuple[Any, ...]:
    return spec.space.to_record(), [dict(point.values) for point in spec.space.paper]
