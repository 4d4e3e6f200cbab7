"""The reporting checklist of a sweep: what was measured, how, by what code and on what machine."""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from analysis.budget import budgets, space_words
from analysis.confirm import looks_words, overlap_of, rounds_of
from analysis.join import confirmation
from analysis.load import Sweep
from analysis.page.names import dataset_name, duration, method_name, metric_name, split_name
from analysis.recipes import yardsticks

CONFIG_WORDS = {"samples": "images sampled per distance", "searcher": "searcher", "seed": "seed"}


def checklist(sweep: Sweep) -> list[tuple[str, str]]:
    """Return the reporting checklist of a sweep."""
    studies, meta = list(sweep.studies.values()), sweep.meta
    sources = dict.fromkeys(study.hand_tuned_source for study in studies if study.hand_tuned_source)
    splits = " and ".join(dict.fromkeys(split_name(study.split) for study in studies))
    return [
        ("methods", ", ".join(dict.fromkeys(method_name(study.method) for study in studies))),
        ("data sets", ", ".join(dataset_name(dataset) for dataset in sweep.datasets)),
        *((f"{dataset_name(name)} as read", entry["words"]) for name, entry in meta["readings"].items()),
        ("objective", ", ".join(f"{metric_name(m)} ({m})" for m in dict.fromkeys(s.metric for s in studies))),
        *(
            (f"measured on {dataset_name(dataset)}", _words(way))
            for dataset in sweep.datasets
            for metric in dict.fromkeys(study.metric for study in sweep.studies_of(dataset))
            for way in yardsticks(sweep, dataset, metric)
        ),
        ("selection", f"lowest objective on the {splits} split among trials that used their whole budget"),
        ("repeats of the search", _repeats(sweep.config.get("seeds") or 1)),
        *_confirmation_recipe(sweep, confirmation(sweep)),
        (
            "search space",
            "; ".join(
                f"{method_name(r.method)} on {dataset_name(r.dataset)}: {space_words(r)}"
                for r in budgets(sweep).itertuples()
            )
            + "; bounds of every knob are listed with its study",
        ),
        (
            "budget",
            "; ".join([*dict.fromkeys(f"{study.budget} per study" for study in studies), *limit_words(sweep)]),
        ),
        *((words, str(sweep.config[key])) for key, words in CONFIG_WORDS.items() if key in sweep.config),
        (
            "early stopping",
            "; ".join(
                dict.fromkeys(
                    f"successive halving at epochs {', '.join(map(str, s.rungs))}" if s.rungs else "none"
                    for s in studies
                )
            ),
        ),
        ("hand-tuned points", "; ".join(sources) or "–"),
        ("machine", _words({name: value or "none" for name, value in meta["machine"].items()})),
        ("versions", _words(meta["versions"])),
        ("code", str(meta["code"]) or "–"),
        ("sweep", str(meta["id"]) + (f", resumed {meta['resumed']} times" if meta["resumed"] else "")),
        ("started", date(meta["started"])),
    ]


def limit_words(sweep: Sweep) -> list[str]:
    """Return the limit in seconds of each study's budget, if there is one."""
    limit = sweep.config.get("seconds_per_study")
    return [f"at most {duration(limit)} of training and evaluation, to within half a training"] if limit else []


def _repeats(seeds: int) -> str:
    if seeds > 1:
        return f"{seeds} training runs per point, each with another seed; values of a point are means over them"
    return "one training run per point: small differences can be chance"


def _confirmation_recipe(sweep: Sweep, found: Sweep | None) -> list[tuple[str, str]]:
    scored = [study.name for study in sweep.studies.values() if study.split == "test"]
    if scored:
        count = int(sweep.trials.loc[sweep.trials["study"].isin(scored), "value"].notna().sum())
        return [
            (
                "test split",
                f"used by the sweep itself: it trained on train + validation images and scored {count} trained models "
                "on the test split",
            )
        ]
    if found is None:
        return [("test split", "not used")]
    claims, folds, rounds = found.meta["confirms"], overlap_of(found) > 0, rounds_of(found)
    numbers = f"{', '.join(map(str, rounds[:-1]))} or {rounds[-1]}"
    several = f", for each study the first {numbers} of them, until its points were told apart" * (len(rounds) > 1)
    kinds = dict.fromkeys((study.dataset, study.metric) for study in found.studies.values())
    ways = [(dataset_name(kind[0]), _words(way)) for kind in kinds for way in yardsticks(found, *kind)]
    return [
        ("test split", looks_words(found.folder.parent)),
        (
            "confirmation",
            f"hand-tuned point and best {claims['top']} of each study, selected on validation, trained on train + "
            f"validation images with seeds {', '.join(map(str, claims['seeds']))} (initialisation, order, samples)"
            + several
            + ("; each seed with another part of train + test images as test split" if folds else ""),
        ),
        (
            "intervals",
            "95 % t interval of the mean over seeds; verdicts by paired t-tests with Holm's correction"
            + (f", and p-values times {len(rounds)} for as many rounds of seeds" if len(rounds) > 1 else "")
            + ("; variances corrected for overlapping folds (Nadeau and Bengio)" if folds else ""),
        ),
        *((f"confirmed on {where}", way) for where, way in ways),
    ]


def _words(mapping: object) -> str:
    if isinstance(mapping, Mapping):
        return ", ".join(f"{key} {value}" for key, value in flat(mapping)) or "–"
    return str(mapping) or "–"


def flat(mapping: Mapping, prefix: str = "") -> list[tuple[str, str]]:
    """Flatten a nested configuration to (dotted key, text), without the passwords of its addresses."""
    rows = []
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{key}.")
        else:
            words = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            rows.append((f"{prefix}{key}", re.sub(r"://[^/@\s]*@", "://…@", words)))  # pages are shared
    return rows


def date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%-d %B %Y, %H:%M UTC") if math.isfinite(seconds) else "–"
