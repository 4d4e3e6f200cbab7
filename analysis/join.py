"""Join several sweeps for comparison: `sweep = read_sweeps(["sweeps/a", "sweeps/b"])`.

The joined sweep has every study of its parts, and every table and plot of the analysis accepts it. A method that two
parts ran on the same data set is labelled with the name of its sweep, `vae@a` and `vae@b`. A study without a result,
as in a sweep that was stopped, is left out if another part has one for it. Joining does not make results comparable:
`differences` lists unequal conditions, and values measured by different recipes stay separate, as within one sweep
(analysis/recipes.py).
"""

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from itertools import count
from pathlib import Path

import pandas as pd
from pandas.api.types import union_categoricals

from analysis.confirm import confirmation_of
from analysis.load import Sweep, column, read_sweep
from analysis.page.names import dataset_name, listed, method_name

PIXELS = ("image_size", "channels")  # settings that change a data set
RESULTS = ("complete", "pruned", "diverged", "failed", "out_of_memory")  # states of a trial that say something of it


def read_sweeps(folders: Iterable[str | Path]) -> Sweep:
    """Read and join the sweeps in several folders; a single folder is read as by `read_sweep`.

    Raises ValueError if a folder holds no sweep, or is given twice, or if none is given.
    """
    if isinstance(folders, str | Path):
        raise ValueError(f"read_sweeps takes a list of folders, got {str(folders)!r}; write [{str(folders)!r}]")
    folders = [Path(folder).resolve() for folder in folders]
    if not folders:
        raise ValueError("no folder of a sweep is given; give at least one")
    for folder, times in Counter(folders).items():
        if times > 1:
            raise ValueError(f"{folder} is given {times} times; give each sweep once")
    sweeps = [read_sweep(folder) for folder in folders]
    return sweeps[0] if len(sweeps) == 1 else join(dict(zip(_labels(folders), sweeps, strict=True)))


def join(parts: Mapping[str, Sweep], doubled: Set[str] | None = None) -> Sweep:
    """Join sweeps, given by distinct labels.

    Studies and trials are named `part/study` and `part/trial`, and trials have the column `sweep`. Configuration and
    meta keep the entries that all parts share. doubled: methods that are labelled with their sweep; None detects them.
    """
    parts = _with_results(parts)
    if doubled is None:
        doubled = _doubled(parts.values())
    pixels = [key for key in PIXELS if len({part.config.get(key) for part in parts.values()}) > 1]
    trials, curves, attempts, studies, recipes = [], [], [], {}, {}
    for label, part in parts.items():
        named = {method: f"{method}@{label}" if method in doubled else method for method in part.methods}
        for study in part.studies.values():
            name = f"{label}/{study.name}"
            studies[name] = replace(study, name=name, method=named[study.method])
        # The same images in another size are another data set, which recipes do not record.
        size = {key: part.config.get(key) for key in pixels}
        recipes |= {f"{label}/{study}": tuple(way | size for way in ways) for study, ways in part.recipes.items()}
        table = part.trials.assign(sweep=label, method=part.trials["method"].map(named).astype("str"))
        trials.append(table.assign(**{name: label + "/" + table[name] for name in ("trial", "study")}))
        curves.append(
            part.curves.assign(trial=part.curves["trial"].cat.rename_categories(lambda t, p=label: f"{p}/{t}"))
        )
        attempts.append(part.attempts.assign(trial=label + "/" + part.attempts["trial"]))
    return Sweep(
        folder=Path(os.path.commonpath([part.folder for part in parts.values()])),
        trials=_one_table(trials),
        curves=_one_course(curves),
        studies=studies,
        config=_shared([part.config for part in parts.values()]),
        recipes=recipes,
        meta=_meta(parts),
        attempts=pd.concat(attempts, ignore_index=True),
        parts=dict(parts),
    )


def confirmation(sweep: Sweep) -> Sweep | None:
    """Return the latest confirmation of a sweep, joined for a joined sweep; None if there is none."""
    if not sweep.parts:
        return confirmation_of(sweep.folder)
    found = {label: confirmation_of(part.folder) for label, part in sweep.parts.items()}
    found = {label: confirmed for label, confirmed in found.items() if confirmed is not None}
    return join(found, _doubled(sweep.parts.values())) if found else None


def differences(sweep: Sweep) -> list[str]:
    """Return a sentence for each condition that was not equal for the studies of a data set."""
    said: dict[str, list[str]] = {}
    for dataset in sweep.datasets:
        given: dict[str, list[str]] = {}
        for study in sweep.studies_of(dataset):
            given.setdefault(study.budget, []).append(_of(sweep, study.name, study.method))
        if len(given) > 1:
            words = "; ".join(f"{budget}: {', '.join(dict.fromkeys(who))}" for budget, who in given.items())
            said.setdefault(words, []).append(dataset_name(dataset))
    budgets = [
        f"Budgets on {listed(datasets)} are not equal ({words}): more trials find lower values and more epochs train "
        "longer, so a method with less of either may look worse than it is."
        for words, datasets in said.items()
    ]
    return budgets + [
        f"{what} ({'; '.join(f'{label}: {value}' for label, value in values.items())})."
        for what, values in (
            ("Trials were proposed in different ways", _each(sweep, lambda part: part.config.get("searcher"))),
            ("Seconds of a study were limited differently", _each(sweep, lambda p: p.config.get("seconds_per_study"))),
            ("Seconds of training come from different machines", _each(sweep, _machine)),
        )
        if len(set(values.values())) > 1
    ]


def _of(sweep: Sweep, study: str, method: str) -> str:
    """Return the owner of a budget: the sweep if joined, else the method."""
    return study.rpartition("/")[0] if sweep.parts else method_name(method)


def _each(sweep: Sweep, tell) -> dict[str, str]:
    return {label: str(tell(part) or "–") for label, part in sweep.parts.items()}


def _machine(part: Sweep) -> str:
    machine = part.meta["machine"]
    if not isinstance(machine, Mapping):
        return machine
    return ", ".join(f"{key} {value or 'none'}" for key, value in machine.items())


def _labels(folders: Sequence[Path]) -> list[str]:
    """Return the shortest distinct suffixes of the paths, mostly the folder names."""
    for depth in count(1):
        names = ["/".join(folder.parts[-depth:]).lstrip("/") for folder in folders]
        if len(set(names)) == len(names):
            return names


def _doubled(parts: Iterable[Sweep]) -> Set[str]:
    """Return the methods that several sweeps ran on the same data set."""
    ran = Counter((study.method, study.dataset) for part in parts for study in part.studies.values())
    return {method for (method, _), times in ran.items() if times > 1}


def _with_results(parts: Mapping[str, Sweep]) -> dict[str, Sweep]:
    """Return the parts without the studies that have no result where another part has one."""
    known = {
        label: {
            name for name, state in zip(part.trials["study"], part.trials["state"], strict=True) if state in RESULTS
        }
        for label, part in parts.items()
    }
    ran = {
        (part.studies[name].method, part.studies[name].dataset)
        for label, part in parts.items()
        for name in known[label]
    }
    shown = {}
    for label, part in parts.items():
        kept = {n: s for n, s in part.studies.items() if n in known[label] or (s.method, s.dataset) not in ran}
        whole = len(kept) == len(part.studies)
        shown[label] = part if whole else part.share(part.trials[part.trials["study"].isin(kept)], kept, part.recipes)
    return shown


def _one_table(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate the trials of all parts; each hyperparameter gets a type that holds all values."""
    knobs = list(dict.fromkeys(name for table in tables for name in table if name.startswith("hyper/")))
    joined = pd.concat([table.drop(columns=knobs, errors="ignore") for table in tables], ignore_index=True)
    values = {knob: [value for table in tables for value in _values(table, knob)] for knob in knobs}
    return pd.concat([joined, pd.DataFrame({knob: column(found) for knob, found in values.items()})], axis=1)


def _values(table: pd.DataFrame, knob: str) -> list:
    """Return a column as plain values, None for missing ones."""
    if knob not in table:
        return [None] * len(table)
    return [None if pd.isna(value) else value for value in table[knob].tolist()]


def _one_course(curves: list[pd.DataFrame]) -> pd.DataFrame:
    curves = [part for part in curves if len(part)] or curves[:1]  # without rows, the type of the categories differs
    names = {name: union_categoricals([part[name] for part in curves]) for name in ("trial", "stage", "metric")}
    numbers = {name: pd.concat([part[name] for part in curves], ignore_index=True) for name in ("epoch", "value")}
    return pd.DataFrame(names | numbers)[["trial", "epoch", "stage", "metric", "value"]]


def _shared(mappings: list[Mapping]) -> dict:
    """Return the entries that are equal in all mappings."""
    first, *others = mappings
    return {key: value for key, value in first.items() if all(key in o and o[key] == value for o in others)}


def _meta(parts: Mapping[str, Sweep]) -> dict:
    metas = [part.meta for part in parts.values()]
    outcomes = {meta["outcome"] for meta in metas}
    unfinished = next((outcome for outcome in ("running", "interrupted") if outcome in outcomes), "done")
    claims = {}
    for label, part in parts.items():
        for study, points in ((part.meta.get("confirms") or {}).get("points") or {}).items():
            claims[f"{label}/{study}"] = [point | {"trial": f"{label}/{point['trial']}"} for point in points]
    return _shared(metas) | {
        "id": " + ".join(str(meta["id"]) for meta in metas),
        "started": min((meta["started"] for meta in metas), default=math.nan),
        "finished": max((meta["finished"] for meta in metas), default=math.nan),
        "outcome": unfinished,
        "resumed": sum(meta["resumed"] for meta in metas),
        "unreadable_lines": sum(meta["unreadable_lines"] for meta in metas),
        "confirms": {"points": claims} if claims else None,
    }
