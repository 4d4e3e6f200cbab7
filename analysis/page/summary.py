"""Sentences of the report about a whole sweep: facts, warnings, and the results of a confirmation."""

import math
from pathlib import Path

import pandas as pd

from analysis.confirm import HAND_TUNED, gains_words, looks_words, names_of, others_words, verdict, where_words
from analysis.join import differences
from analysis.load import Sweep
from analysis.page.extras import Extras
from analysis.page.names import counted, dataset_name, duration, listed, method_name, short_metric, split_name
from analysis.ranks import among, best_points, ranks
from analysis.recipes import require_one_recipe
from analysis.tables import NAMED, OUTCOMES, mixed_datasets, spaced

ROUNDING = 1e-9  # relative difference of a mean that was computed twice
WHAT_A_FLAG_SAYS = {
    "few_images": "distances from no more images than features, which are too large",
    "collapsed": "samples that hardly differ from each other",
    "memorised": "samples that are copies of training images, by features",
    "posterior_collapse": "codes that are independent of the image",
    "sigma_collapse": "encoders whose noise has vanished",
}
WHAT_A_METRIC_IS = {  # {split}: the name of the split that it was measured on
    "fcd": (
        "fcd, the Fréchet classifier distance, compares the mean and covariance of the features of a small classifier "
        "of this data set on sampled and real {split} images. 0 is a perfect match. It is not FID and not on FID's "
        "scale: compare it within one data set of this report, never with a published FID."
    ),
    "fsd": (
        "fsd, the Fréchet distance of self-supervised features, compares the mean and covariance of the features of a "
        "small network, trained on the training images without labels, on sampled and real {split} images. 0 is a "
        "perfect match. It is not FID and specific to these images: compare it within one data set of this report."
    ),
    "fd_dinov2": (
        "fd_dinov2 is the Fréchet distance between sampled and real {split} images in the features of DINOv2, with "
        "the resize of Stein et al. (2023). 0 is a perfect match. It depends on the number of images and on the size "
        "of the network."
    ),
    "cmmd": (
        "cmmd is 1000 times the squared maximum mean discrepancy between the CLIP embeddings of sampled and real "
        "{split} images (Jayasumana et al., 2024). 0 is a perfect match. Its bias depends on the number of images."
    ),
    "probe_error": (
        "probe_error is the share of {split} images whose class is misclassified from their codes by a logistic "
        "regression fitted to the codes of training images."
    ),
    "knn_error": (
        "knn_error is the share of {split} images whose class is misclassified by the 5 nearest training images in "
        "code space."
    ),
    "nmi_error": (
        "nmi_error is 1 minus the normalised mutual information of the classes and as many k-means clusters of the "
        "{split} codes. 0 means that the clusters are the classes."
    ),
    "ari_error": (
        "ari_error is 1 minus the adjusted Rand index of the classes and as many k-means clusters of the {split} "
        "codes. 0 means that the clusters are the classes, 1 is chance."
    ),
    "dssim": "dssim is (1 - SSIM) / 2 of reconstructions of {split} images, without regard to samples.",
    "psnr_rmse": (
        "psnr_rmse is the root mean squared error of a pixel that corresponds to the mean PSNR of reconstructions of "
        "{split} images, 10 to the power of -PSNR / 20, without regard to samples."
    ),
    "fid": (
        "fid is the Fréchet distance between sampled and real {split} images in the features of Inception, "
        "with the network and weights of pytorch-fid. 0 is a perfect match. It depends on the number of "
        "images and on how they were resized: compare it within one data set of this report; published FIDs "
        "often follow another recipe."
    ),
}


def explanations(sweep: Sweep) -> list[str]:
    """Return a sentence or two on each metric that the studies were judged by."""
    metrics = dict.fromkeys((short_metric(study.metric), study.split) for study in sweep.studies.values())
    known = [(metric, split) for metric, split in metrics if metric in WHAT_A_METRIC_IS]
    return [WHAT_A_METRIC_IS[metric].format(split=split_name(split)) for metric, split in known]


def facts_of(sweep: Sweep) -> list[tuple[str, str]]:
    """Return the size of the sweep, as (number, unit)."""
    trials, meta = sweep.trials, sweep.meta
    counts = {outcome: int(trials["state"].isin(states).sum()) for outcome, states in OUTCOMES.items()}
    facts = [tuple(counted(len(of), noun).split()) for of, noun in ((sweep.studies, "study"), (trials, "trial"))]
    facts += [(str(count), spaced(outcome)) for outcome, count in counts.items() if count]
    if not sweep.parts:
        facts.append((duration(meta["finished"] - meta["started"]), "from start to end"))
    facts.append((duration(trials["worker_seconds"].sum()), "of total trial time"))
    return facts


def warnings_of(sweep: Sweep) -> list[str]:
    """Return warnings about the validity of the results."""
    warnings = []
    for label, part in (sweep.parts or {"": sweep}).items():
        which, of = (f"Sweep {label}", f" of {label}") if label else ("This sweep", "")
        if part.meta["outcome"] != "done":
            warnings.append(f"{which} is not finished ({part.meta['outcome']}); the results below are preliminary.")
        warnings += _by_hand(part, of) + _warm(part, of)
        for name, entry in part.meta["readings"].items():
            warnings += [f"{dataset_name(name)}{of}: {doubt}." for doubt in entry["doubts"]]
        for name, entry in part.meta["resolutions"].items():
            warnings += (
                [f"{dataset_name(name)}{of}: {entry['words']}."] if "words" in entry else []
            )  # not in old records
        if count := part.meta["unreadable_lines"]:
            lines, verb = (f"{count} line", "was") if count == 1 else (f"{count} lines", "were")
            warnings.append(f"{lines} of the record{of} could not be read, e.g. after a crash, and {verb} skipped.")
    warnings += differences(sweep)
    for dataset in sweep.datasets:
        metrics = dict.fromkeys(study.metric for study in sweep.studies_of(dataset))
        for metric in metrics:
            try:
                require_one_recipe(sweep, dataset, metric)
            except ValueError as error:
                warnings.append(f"{str(error).partition('; compare')[0]}. They are shown separately and not ranked.")
        if len(metrics) > 1:
            short = [short_metric(metric) for metric in metrics]
            names = listed(short if len(set(short)) == len(short) else list(metrics))  # one metric on two splits
            warnings.append(f"{dataset_name(dataset)} was measured by {names}, shown separately and not ranked.")
    diverged = sweep.trials[(sweep.trials["origin"] == "paper") & (sweep.trials["state"] == "diverged")]
    for trial in diverged.itertuples():
        reason = f": {trial.reason}" if trial.reason else ""
        name = f"{method_name(trial.method)} on {dataset_name(trial.dataset)}"
        warnings.append(f"A hand-tuned point of {name} diverged{reason}.")
    return warnings + _flags(sweep)


def _by_hand(sweep: Sweep, of: str) -> list[str]:
    """Return what users changed while the sweep ran; `of` names the sweep where there are several."""
    warnings = []
    for how in ("stopped", "paused"):
        if studies := [name for name in sweep.meta[how] if name in sweep.studies and not _has_all(sweep, name)]:
            words = f"Studies {listed(studies)}{of} were" if len(studies) > 1 else f"The study {studies[0]}{of} was"
            warnings.append(f"{words} {how} by hand before the end of the budget, so budgets are not equal.")
    counts = {
        "stopped by hand": int((sweep.trials["state"] == "cancelled").sum()),
        "enqueued by hand": int((sweep.trials["origin"] == "enqueued").sum()),
    }
    for what, count in counts.items():
        if count:
            warnings.append(f"{count} {'trial was' if count == 1 else 'trials were'} {what}{of}.")
    if count := sweep.meta["waiting"]:
        points = "enqueued point was" if count == 1 else "enqueued points were"
        warnings.append(f"{count} {points} not tried{of}, because the budget was spent or the sweep is not finished.")
    return warnings


def _has_all(sweep: Sweep, name: str) -> bool:
    """Return whether a study whose budget is a number of trials has completed all of them."""
    study = sweep.studies[name]
    return study.budget_epochs is None and len(sweep.complete(name)) >= study.trials


def _warm(sweep: Sweep, of: str) -> list[str]:
    """Return which studies began with points of an earlier sweep."""
    studies = list(dict.fromkeys(sweep.trials.loc[sweep.trials["origin"] == "warm", "study"]))
    if not studies:
        return []
    earlier = Path(str(sweep.config.get("warm_start"))).name
    return [f"{listed(studies, NAMED)}{of} began with points of {earlier}, whose epochs are not part of the budget."]


def _flags(sweep: Sweep) -> list[str]:
    """Return warnings about flags of complete trials, with their number per study."""
    complete, warnings = sweep.trials[sweep.trials["state"] == "complete"], []
    for flag, words in WHAT_A_FLAG_SAYS.items():
        if f"flag/{flag}" in complete:
            found = complete[complete[f"flag/{flag}"] == 1].groupby(["dataset", "method"], sort=False, observed=True)
            studies = [
                f"{n} of {method_name(method)} on {dataset_name(dataset)}"
                for (dataset, method), n in found.size().items()
            ]
            warnings += [f"Complete trials with {words}: {listed(studies)}."] if studies else []
    return warnings


def gains(extras: Extras) -> str:
    """Return the result of a finished confirmation on tuned against hand-tuned points; "" without one."""
    return gains_words(pd.concat([block.table for block in extras.confirmed])) if extras.is_confirmed else ""


def leaders(board: pd.DataFrame, extras: Extras) -> dict[str, str]:
    """Return the result of a finished confirmation on the best method, by data set, and the methods that it lacks;
    without data sets on which it has fewer than two methods, or several recipes."""
    found = {}
    for block in extras.confirmed:
        dataset = block.comparison.dataset
        if extras.is_confirmed and not block.comparison.apart and (words := among(block.points, block.table, NAMED)):
            with_means = block.table.loc[block.table["mean"].notna(), "study"]
            others = board[(board["dataset"] == dataset) & board["tuned"].notna() & ~board["study"].isin(with_means)]
            lacking = f" The confirmation does not include {listed(names_of(others), NAMED)}." if len(others) else ""
            found[dataset] = f"On {dataset_name(dataset)}, {words}{lacking}"
    return found


def confirmed_words(extras: Extras) -> str:
    """Summarise a confirmation in one or two sentences; "" if there is none."""
    if extras.confirmation is None:
        return ""
    table = pd.concat([block.table for block in extras.confirmed])
    said = [verdict(row) for row in table[table["role"] != HAND_TUNED].itertuples()]
    parts = [f"{words} ({said.count(words)})" for words in dict.fromkeys(said)]
    confirmations = list(extras.confirmation.parts.values()) or [extras.confirmation]
    looks = looks_words(*(block.folder.parent for block in confirmations))
    fewest, most = table["planned"].min(), table["planned"].max()
    where = f"{where_words(table)} with {fewest if fewest == most else f'{fewest} to {most}'} fresh seeds"
    if not parts:
        return f"Only hand-tuned points were trained again, scored {where}. {looks}."
    return f"Tuned against hand-tuned {where}: {'; '.join(parts)}. {looks}."


def ranked_words(sweep: Sweep, board: pd.DataFrame, extras: Extras) -> list[str]:
    """Summarise average ranks over several data sets, of tuned values of the search and of confirmed means. Unfinished
    parts are omitted, because a method without a value would rank last."""
    pure = board[~board["dataset"].isin(mixed_datasets(board))]
    done = sweep.meta["outcome"] == "done"
    found = ranks(_everywhere(pure.rename(columns={"tuned": "value"}))) if done else None
    said = [] if found is None else [found.sentence]
    apart = {block.comparison.dataset for block in extras.confirmed if block.comparison.apart}
    done = extras.confirmation is not None and extras.confirmation.meta["outcome"] == "done"
    tables = [block.table for block in extras.confirmed if block.comparison.dataset not in apart and done]
    found = ranks(_everywhere(best_points(pd.concat(tables)).rename(columns={"mean": "value"}))) if tables else None
    return said if found is None else [*said, f"Confirmed {where_words(pd.concat(tables))}: {found.sentence}"]


def _everywhere(table: pd.DataFrame) -> pd.DataFrame:
    """Return the values of methods that were run on every data set, methods by data sets."""
    runs = table.groupby("method")["dataset"].transform("nunique")
    return table[runs == table["dataset"].nunique()].pivot(index="method", columns="dataset", values="value")


def warnings_of_confirmation(board: pd.DataFrame, extras: Extras) -> list[str]:
    """Return where a point that no search found is better, whether the confirmation is preliminary, and which studies
    have found a better point since it began."""
    if extras.confirmation is None:
        return []
    if (outcome := extras.confirmation.meta["outcome"]) != "done":
        return [f"The confirmation is not finished ({outcome}); its results are preliminary."]
    table = pd.concat([block.table for block in extras.confirmed])
    return list(filter(None, [others_words(table), _unconfirmed(board, table)]))


def _unconfirmed(board: pd.DataFrame, table: pd.DataFrame) -> str:
    """Say which studies have a lower value than the points that were confirmed, as after `extend`; "" if none has."""
    known = board[board["study"].isin(table["study"]) & ~board["dataset"].isin(mixed_datasets(board))]
    best = known["study"].map(table.groupby("study")["searched"].min())
    lower = known[known["tuned"] < (best - ROUNDING * best.abs()).fillna(math.inf)]
    if lower.empty:
        return ""
    names = listed(names_of(lower))
    return f"Since the confirmation, the search has found a lower value for {names}; confirm --again tests it."
