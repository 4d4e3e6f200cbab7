"""Changes between the start of a sweep and its resume: announced, or rejected if results would not be comparable.

The studies of a sweep are those in its record, so search spaces can be edited for later sweeps in the meantime.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweep.config import SweepConfig
from sweep.driver import provenance
from sweep.record import StudyEntry, SweepEvent
from sweep.search.plan import Plan, check
from sweep.search.study import Spec

# Fields that results in the record depend on, in addition to the study's entry.
FROZEN = (
    "epochs", "metric", "objectives", "samples", "searcher", "factor", "first_rung", "seed", "set", "points",
    "image_size", "channels", "split", "pairs", "inception_splits", "against_training", "seeds",
)  # fmt: skip

IDENTITY = ("shape", "train", "valid", "test", "digest")  # of a data set, see `provenance.data`

WHERE = {"out", "mirror", "name", "tracking_uri", "address"}  # fields that may differ when a sweep is resumed


def refuse_another(config: SweepConfig, existing: SweepConfig, folder: Path) -> None:
    """Raise ValueError if a configuration differs from that of the existing sweep in `folder`, except for `WHERE`."""
    now, was = (each.model_dump(mode="json", exclude=WHERE) for each in (config, existing))
    if config.present_only:  # absent data sets were left out of the existing sweep
        now["datasets"] = [name for name in now["datasets"] if name in was["datasets"]]
    if "epochs" not in config.model_fields_set:  # the plan lengthens trials on few images
        now["epochs"] = was["epochs"]
    if other := [f"{name} = {now[name]!r} (there {was[name]!r})" for name in now if now[name] != was[name]]:
        raise ValueError(
            f"{folder} contains a sweep of another configuration: {', '.join(other)}; use the same flags, or choose "
            "another --name"
        )


def refuse(config: SweepConfig, began: SweepEvent) -> None:
    """Raise ValueError if a changed configuration would make new results incomparable to those in the record."""
    now = config.model_dump(mode="json")
    for name in FROZEN:
        if name in began.config and now[name] != (was := began.config[name]):
            raise ValueError(
                f"{name} is {now[name]!r}, but the sweep began with {was!r}, so results would not be comparable; "
                "restore it in config.yaml, or start a new sweep"
            )


def refuse_data(now: Mapping[str, Mapping[str, Any]], began: SweepEvent) -> None:
    """Raise ValueError if a data set is not the one that a sweep began with. `now` are its descriptions by name, see
    `provenance.data`; records of earlier versions may lack some of them."""
    for name in now.keys() & began.data.keys():
        was = began.data[name]
        other = [key for key in IDENTITY if key in was and was[key] != now[name][key]]
        if other:
            recorded, found = (", ".join(f"{key} {data[key]}" for key in other) for data in (was, now[name]))
            raise ValueError(
                f"{name}: the images have changed since the sweep began ({recorded} → {found}), so results would not "
                f"be comparable; restore those in {now[name]['source']}, or start a new sweep"
            )


def as_recorded(planned: Plan, entries: Mapping[str, StudyEntry]) -> tuple[Plan, list[str]]:
    """Return the plan with the studies of the record, and a line about search spaces that were edited since.

    Only the budget is taken from the plan; a budget in trials remains one. Raises ValueError if the studies differ, or
    if the present code rejects a recorded study.
    """
    names = [study.name for study in planned.studies]
    if names != list(entries):
        gone, new = ([n for n in a if n not in b] for a, b in ((entries, names), (names, entries)))
        what = [f"without {', '.join(gone)}"] * bool(gone) + [f"with {', '.join(new)}"] * bool(new)
        raise ValueError(
            f"the sweep would continue {' and '.join(what) or 'in another order'}; restore methods and datasets in "
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
    lines = [f"the search space of {', '.join(edited)} was edited; the sweep continues with the recorded one"]
    return replace(planned, studies=tuple(studies)), lines if edited else []


def since(began: SweepEvent) -> list[str]:
    """Return one line each if the code or the versions differ from those that the sweep began with."""
    lines, code = [], provenance.code_hash()
    if began.code not in ("", code):
        lines.append(f"the code has changed since the sweep began ({began.code} → {code}); new trials use it")
    now, was = provenance.versions(), began.versions
    other = [f"{name} {was[name]} → {now[name]}" for name in now if was.get(name, now[name]) != now[name]]
    if other:
        lines.append(f"versions have changed since the sweep began: {', '.join(other)}")
    return lines


def _searched(spec: Spec) -> tuple[Any, ...]:
    return spec.space.to_record(), [dict(point.values) for point in spec.space.paper]
