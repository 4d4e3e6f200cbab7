"""Plots of a sweep with common conventions: hollow is hand-tuned, filled is tuned, grey did not finish.

Every function returns a matplotlib Figure of the width of a phone, so that it is readable there and three fit side by
side on a desktop, or None if there is nothing to plot. A method has the same colour and marker in every plot, as
`palette` assigns them. `drawing.themed_svg` converts a Figure to SVG text with the colours of the page.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator

from analysis.budget import best_by_seconds, best_value, by_end, drawn_at_random, expected_best, random_draws
from analysis.confirm import HAND_TUNED, mean_words, where_words
from analysis.fronts import WORDS, objectives
from analysis.load import Study, Sweep, place_of
from analysis.page import drawing
from analysis.page.drawing import FAINT, GREY, INK, MUTED, PAPER, WIDTH
from analysis.page.names import (
    measured,
    method_name,
    metric_name,
    readable,
    short_knob,
    short_metric,
)
from analysis.page.palette import method_style, name_ends, with_key
from analysis.profiles import profile, surface, weighing
from analysis.tables import change_words, is_kept, result_words

PANELS = 12  # maximum number of panels of a plot of all methods
BANDS = 8  # shades of a surface
ROWS = 15  # maximum number of methods in one plot of arrows


def arrows(board: pd.DataFrame, dataset: str, part: int = 0) -> Figure:
    """Plot arrows from hand-tuned (hollow) to tuned (filled), a row per method, the best tuned value on top.

    board: result of `tables.leaderboard`. part: which ROWS methods, all on one scale.
    """
    methods, board = board["method"], board[board["dataset"] == dataset]
    row_height, top, bottom = 44 if len(board) <= ROWS else 32, 6, 40
    rows = board[ROWS * part : ROWS * (part + 1)]
    height = top + row_height * len(rows) + bottom
    figure = drawing.sheet(height)
    ax = drawing.box(figure, 12, top, WIDTH - 24, height - top - bottom)
    ax.set_ylim(len(rows), 0)
    values = board[["hand_tuned", "tuned"]].to_numpy(float).ravel()
    drawing.scale(ax.xaxis, values, pad=0.05)
    ax.spines[:].set_visible(False)
    ax.set_yticks([])
    ax.tick_params(axis="x", length=0, pad=6)
    low, high = ax.get_xlim()
    for y, row in enumerate(rows.itertuples()):
        colour, marker = method_style(row.method, methods)
        line = y + 0.72
        ax.plot([low, high], [line, line], color=FAINT, lw=1.5, solid_capstyle="round", zorder=1)
        ax.text(0, y + 0.42, method_name(row.method), transform=ax.get_yaxis_transform(), **drawing.bold())
        said = result_words(row)
        change = change_words(row) if math.isfinite(row.improvement_percent) and not is_kept(row) else ""
        ax.text(
            0.83 if change else 1, y + 0.42, said, transform=ax.get_yaxis_transform(), ha="right", **drawing.plain()
        )
        ax.text(1, y + 0.42, change, transform=ax.get_yaxis_transform(), ha="right", **drawing.bold())
        hand, tuned = row.hand_tuned, row.tuned
        if math.isfinite(tuned) and math.isfinite(hand):
            ax.plot([hand, tuned], [line, line], color=colour, lw=4, solid_capstyle="butt", alpha=0.55, zorder=2)
        elif math.isfinite(tuned):  # the hand-tuned point has no value: draw it at the end of the scale
            ax.plot([tuned, high], [line, line], color=colour, lw=2, ls=(0, (1, 2)), alpha=0.7, zorder=2)
            ax.plot(high, line, marker="x", ms=6, mew=2, color=MUTED, zorder=3, clip_on=False)
        if math.isfinite(hand) and not is_kept(row):
            ax.plot(hand, line, "o", ms=8, mfc=PAPER, mec=INK, mew=1.6, zorder=3, clip_on=False)
        if math.isfinite(tuned):
            edge = INK if is_kept(row) else PAPER  # one point is both: filled, with the outline of a hand-tuned one
            ax.plot(tuned, line, marker, ms=9, mfc=colour, mec=edge, mew=1.4, zorder=4, clip_on=False)
    note = ", log scale" if ax.get_xscale() == "log" else ""
    ax.set_xlabel(
        f"{short_metric(board['metric'].iloc[0])}{note} · lower is better · ○ hand-tuned  ● tuned",
        **drawing.plain(),
        labelpad=5,
    )
    return figure


def parallel_coordinates(sweep: Sweep, study: str) -> Figure:
    """Plot every trial of a study as a curve through its hyperparameters to its distance.

    The axes are horizontal, below each other, so that their names and numbers are legible on a phone. Better complete
    trials have more of the method's colour; unfinished trials are grey and end before the distance. The hand-tuned
    point is hollow and dashed.
    """
    about, trials = sweep.studies[study], sweep.trials_of(study)
    complete = trials[(trials["state"] == "complete") & trials["value"].notna()]
    knobs, row_height, top, bottom = about.searched, 58, 24, 26
    height = top + row_height * len(knobs) + bottom
    figure = drawing.sheet(height)
    ax = drawing.box(figure, 16, 0, WIDTH - 32, height)
    ax.axis("off")
    ax.set_xlim(0, 1)
    ax.set_ylim(height, 0)
    levels = [top + row_height * row for row in range(len(knobs) + 1)]
    courses = pd.DataFrame(index=trials.index)  # position of each trial on each axis
    for knob, level in zip(knobs, levels, strict=False):
        place, ticks = _knob_scale(about, knob, trials[f"hyper/{knob}"])
        courses[level] = [place(value) for value in trials[f"hyper/{knob}"]]
        drawing.lying_axis(ax, level, f"{knob}{' (log)' if about.is_log(knob) else ''}", ticks)
    place, ticks = drawing.value_scale(complete["value"])
    courses[levels[-1]] = pd.Series([place(value) for value in complete["value"]], complete.index, float)
    drawing.lying_axis(ax, levels[-1], f"{short_metric(about.metric)}, lower is better", ticks)

    colour, marker = method_style(about.method, sweep.methods)
    others = courses.drop(complete.index)[levels[:-1]]
    drawing.curves(ax, others, [(*to_rgb(GREY), drawing.thin(len(others), 0.25))], 0.8, zorder=1)
    ordered = courses.loc[complete.sort_values("value", ascending=False).index]
    share = 1 / (1 + np.arange(len(ordered))[::-1] / 5)  # share of the colour; half for the sixth best
    shades = [(*drawing.blend(GREY, colour, s), drawing.thin(len(ordered), 0.3) + 0.5 * s) for s in share]
    drawing.curves(ax, ordered, shades, 1.2, zorder=2)
    best, hand = sweep.best(study), sweep.hand_tuned_trial(study)
    if hand is not None:
        course = courses.loc[[hand.name]].dropna(axis=1)
        drawing.curves(ax, course, [INK], 1.4, zorder=4, linestyle=(0, (3, 2)))
        ax.plot(course.iloc[0], course.columns, "o", ms=6.5, mfc=PAPER, mec=INK, mew=1.4, zorder=5, clip_on=False)
    if best is not None:
        course = courses.loc[[best.name]]
        drawing.curves(ax, course, [PAPER], 5, zorder=2.5)
        drawing.curves(ax, course, [colour], 2.6, zorder=3)
        ax.plot(
            course.iloc[0],
            course.columns,
            marker,
            ms=7,
            mfc=colour,
            mec=PAPER,
            mew=1,
            zorder=6,
            clip_on=False,
        )
    return figure


def distance_against_time(sweep: Sweep, dataset: str) -> Figure | None:
    """Plot the distance of every complete trial against its training seconds; hollow marks are hand-tuned points."""
    return _cloud(sweep, dataset, "time/train_seconds", None, "training seconds (log)", log_x=True)


def distance_against_parameters(sweep: Sweep, dataset: str) -> Figure | None:
    """Plot the distance of every complete trial against its parameters; hollow marks are hand-tuned points."""
    return _cloud(sweep, dataset, "model/parameters", None, "parameters (log)", log_x=True)


def rate_distortion(sweep: Sweep, dataset: str) -> Figure | None:
    """Plot reconstruction error against the KL term of every complete trial whose method reports both.

    In the rate-distortion plane of Alemi et al., 2018, trials to the lower left of another dominate it.
    """
    kl, mse = map(sweep.studies_of(dataset)[0].column, ("kl", "mse"))
    return _cloud(sweep, dataset, kl, mse, "KL (nats per image, log)", log_x=True)


def _cloud(sweep: Sweep, dataset: str, x: str, y: str | None, x_label: str, *, log_x: bool) -> Figure | None:
    """Plot complete trials of all studies of a data set in the plane of two metrics (y None: the objective)."""
    studies = sweep.studies_of(dataset)
    trials = sweep.trials[(sweep.trials["dataset"] == dataset) & (sweep.trials["state"] == "complete")]
    y_column, y_name = (y, metric_name(y)) if y else ("value", short_metric(studies[0].metric))
    if x not in trials or y_column not in trials:
        return None
    trials = trials[trials[x].notna() & trials[y_column].notna()]
    if trials.empty:
        return None
    present = [study for study in studies if (trials["study"] == study.name).any()]
    figure, top, width = with_key(sweep.methods, [study.method for study in present], 230)
    ax = drawing.frame(figure, 44, top, width, 230)
    ends = {}
    for study in present:
        rows = trials[trials["study"] == study.name]
        _points(ax, rows, rows[x], y_column, method_style(study.method, sweep.methods), size=40)
        best = rows.loc[rows[y_column].idxmin()]
        ends[study.method] = best[x], best[y_column]
    drawing.scale(ax.xaxis, trials[x], log=log_x and trials[x].min() > 0)
    drawing.scale(ax.yaxis, trials[y_column])
    drawing.title(ax, f"{y_name} ↓")
    ax.set_xlabel(x_label, **drawing.plain())
    name_ends(ax, sweep.methods, ends)
    return figure


def best_so_far(sweep: Sweep, dataset: str) -> Figure | None:
    """Plot the lowest distance against the number of finished trials, a step line per method.

    Trials count in the order of their ends, regardless of their outcome; only complete ones can lower the line.
    """
    lines = {}
    for study in sweep.studies_of(dataset):
        best = best_value(by_end(sweep, study.name))
        if best.notna().any():
            lines[study.method] = np.column_stack([np.arange(1, len(best) + 1), best.to_numpy(float)])
    return _step_lines(sweep, dataset, lines, "best {} so far ↓", "finished trials", whole=True)


def over_time(sweep: Sweep) -> Figure:
    """Plot the number of running trials over time, and the lowest distance found by then, a panel per data set. A trial
    that a rung paused does not run until it is promoted."""
    trials, attempts = sweep.trials, sweep.attempts[sweep.attempts["trial"].isin(sweep.trials["trial"])]
    spans = attempts[["started", "ended"]] - attempts["started"].min()
    unit, name = (3600, "hours") if spans["ended"].max() > 2 * 3600 else (60, "minutes")
    changes = pd.concat([pd.Series(1, spans["started"] / unit), pd.Series(-1, spans["ended"] / unit)])
    running = changes.groupby(level=0).sum().cumsum()
    last = spans["ended"].max() / unit
    ended = (trials["ended"] - trials["started"].min()).dt.total_seconds() / unit
    height, gap = 120, 56
    figure, top, width = with_key(sweep.methods, sweep.methods, height + (height + gap) * len(sweep.datasets))
    panels = [
        drawing.frame(figure, 44, top + (height + gap) * i, width, height) for i in range(1 + len(sweep.datasets))
    ]
    panels[0].fill_between(running.index, running, step="post", color=GREY, alpha=0.5, lw=0)
    drawing.scale(panels[0].yaxis, [0, running.max()], log=False, whole=True, most=5)
    drawing.title(panels[0], "trials running")
    for ax, dataset in zip(panels[1:], sweep.datasets, strict=True):
        drawn, ends = [], {}
        for study in sweep.studies_of(dataset):
            best = best_value(by_end(sweep, study.name)).dropna()
            colour, marker = method_style(study.method, sweep.methods)
            ax.step(ended[best.index], best, where="post", color=colour, lw=2)
            if len(best):
                at = ended[best.index[-1]]
                ends[study.method] = at, best.iloc[-1]
                ax.plot(at, best.iloc[-1], marker, ms=7, mfc=colour, mec=PAPER, mew=1, clip_on=False, zorder=3)
            drawn.append(best)
        drawing.scale(ax.yaxis, pd.concat(drawn), most=5)
        drawing.scale(ax.xaxis, [0, last], log=False)
        drawing.title(ax, f"{dataset}: best {short_metric(study.metric)} so far ↓")
        name_ends(ax, sweep.methods, ends)
    drawing.scale(panels[0].xaxis, [0, last], log=False)
    panels[-1].set_xlabel(name, **drawing.plain())
    return figure


def slices(sweep: Sweep, study: str, metric: str | None = None, knobs: Sequence[str] | None = None) -> Figure | None:
    """Plot a metric (the objective if None) against each searched hyperparameter, a panel each.

    Filled trials are complete; grey ones ended early and show their last value, from an earlier epoch. The dashed line
    is the hand-tuned value, the hollow mark its trial.
    """
    about, trials = sweep.studies[study], sweep.trials_of(study)
    knobs = about.searched if knobs is None else tuple(knobs)
    column = metric or "value"
    if column not in trials or not knobs or trials[column].notna().sum() == 0:
        return None
    trials = trials[trials[column].notna()]
    figure, panels = drawing.panels(len(knobs))
    for ax, knob in zip(panels, knobs, strict=True):
        _slice(ax, sweep, about, trials, column, knob)
        drawing.title(ax, f"{short_knob(knob)}{' (log)' if about.is_log(knob) else ''}")
    drawing.scale_together(panels, trials[column], log=None if metric is None else False)
    return figure


def balance_profiles(sweep: Sweep, study: str) -> Figure | None:
    """Plot the fitted profile of the distance against each balance knob, minimised over the other knobs, a panel each.

    The band is the 95 % interval of the profile, the bar below it the values within 5 % of the lowest distance. Marks
    are complete trials, which lie above the profile if their other knobs are not optimal. The dashed line is the
    hand-tuned value, the filled mark the tuned trial.
    """
    about = sweep.studies[study]
    found = [fitted for knob in about.balance if (fitted := profile(sweep, study, knob)) is not None]
    if not found:
        return None
    figure, panels = drawing.panels(len(found))
    colour, marker = method_style(about.method, sweep.methods)
    shown = []
    for ax, fitted in zip(panels, found, strict=True):
        trials = weighing(sweep, about, fitted.knob)
        ax.fill_between(fitted.at, fitted.low, fitted.high, color=colour, alpha=0.2, lw=0)
        ax.plot(fitted.at, fitted.middle, color=colour, lw=2)
        _points(ax, trials, trials[f"hyper/{fitted.knob}"].astype(float), "value", (colour, "o"), size=14)
        best = trials.iloc[0]
        ax.plot(best[f"hyper/{fitted.knob}"], best["value"], marker, ms=7, mfc=colour, mec=PAPER, mew=1, zorder=5)
        if fitted.hand_tuned is not None:
            ax.axvline(fitted.hand_tuned, color=INK, lw=1, ls=(0, (3, 2)), zorder=2)
        foot = ax.get_xaxis_transform()
        ax.plot(fitted.flat, [0.03, 0.03], transform=foot, color=INK, lw=3, solid_capstyle="butt", zorder=4)
        drawing.scale(ax.xaxis, fitted.at, log=fitted.log, pad=0.02, most=4)
        drawing.title(ax, f"{short_knob(fitted.knob)}{' (log)' if fitted.log else ''}")
        shown += [trials["value"].clip(upper=fitted.high.max()), pd.Series(fitted.low), pd.Series(fitted.high)]
    drawing.scale_together(panels, pd.concat(shown), log=None)
    return figure


def surface_of_knobs(sweep: Sweep, study: str, across: str, up: str) -> Figure | None:
    """Plot contours of the fitted distance over two knobs, minimised over the others, and the trials as points.

    Stronger colour means a smaller distance. Trials that ended early are grey, hand-tuned points are hollow; the filled
    mark is the tuned trial.
    """
    about, found = sweep.studies[study], surface(sweep, study, across, up)
    if found is None:
        return None
    trials = sweep.trials_of(study)
    colour, marker = method_style(about.method, sweep.methods)
    figure = drawing.sheet(24 + 230 + 40)
    ax = drawing.frame(figure, 56, 24, WIDTH - 72, 230)
    ax.grid(False)
    (to_x, x_ticks), (to_y, y_ticks) = (_knob_scale(about, knob, trials[f"hyper/{knob}"]) for knob in (across, up))
    xs, ys = [to_x(value) for value in found.across], [to_y(value) for value in found.up]
    low, high = found.distance.min(), found.distance.max()
    if low < high:
        shades = np.linspace(0.55, 0.0, BANDS)
        bands = np.geomspace(low, high, BANDS + 1)
        fill = ax.contourf(xs, ys, found.distance, bands, colors=[(*to_rgb(colour), shade) for shade in shades])
        fill.set_rasterized(True)
        log = drawing.wide(found.distance.ravel())
        lines = drawing.round_ticks(low, high, log, most=5)
        drawn = ax.contour(xs, ys, found.distance, lines, colors=[INK], linewidths=0.6)
        ax.clabel(drawn, fmt=readable, fontsize=drawing.SMALL)
    x, y = (trials[f"hyper/{knob}"].map(to, na_action="ignore") for knob, to in ((across, to_x), (up, to_y)))
    complete = trials["state"] == "complete"
    _points(ax, trials[~complete], x[~complete], "value", (GREY, "o"), size=10, y=y)
    _points(ax, trials[complete], x[complete], "value", (INK, "o"), size=16, y=y)
    if (best := sweep.best(study)) is not None:
        ax.plot(x[best.name], y[best.name], marker, ms=8, mfc=colour, mec=PAPER, mew=1.2, zorder=5)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    for axis, ticks in ((ax.xaxis, x_ticks), (ax.yaxis, y_ticks)):
        axis.set_major_locator(FixedLocator([place for place, _ in ticks]))
        axis.set_major_formatter(FixedFormatter([text for _, text in ticks]))
    drawing.title(ax, f"{short_knob(up)}{' (log)' if about.is_log(up) else ''}")
    ax.set_xlabel(f"{short_knob(across)}{' (log)' if about.is_log(across) else ''}", **drawing.plain())
    return figure


def active_dimensions(sweep: Sweep, dataset: str) -> Figure | None:
    """Plot active dimensions (Burda et al., 2016) against each balance knob of each method, a panel each.

    Marks are the same as in `slices`. Of many panels, those of the methods with the lowest distances are drawn.
    """
    drawn = []
    best = {study.name: sweep.best(study.name) for study in sweep.studies_of(dataset)}
    lowest = sorted(best, key=lambda name: math.inf if best[name] is None else best[name]["value"])
    for study in map(sweep.studies.get, lowest):
        trials, column = sweep.trials_of(study.name), study.column("active_dims")
        if column in trials and trials[column].notna().any():
            drawn += [(study, trials[trials[column].notna()], column, knob) for knob in study.balance]
    if not drawn:
        return None
    drawn = drawn[:PANELS]
    figure, panels = drawing.panels(len(drawn))
    for ax, (study, trials, column, knob) in zip(panels, drawn, strict=True):
        _slice(ax, sweep, study, trials, column, knob)
        drawing.title(ax, drawing.shortened(f"{method_name(study.method)}: {knob}", 22))
    everything = pd.concat([trials[column] for _, trials, column, _ in drawn])
    drawing.scale_together(panels, pd.concat([everything, pd.Series([0.0])]), log=False)
    return figure


def learning_curves(sweep: Sweep, study: str, metric: str | None = None) -> Figure | None:
    """Plot a metric (the objective if None) by epoch, a line per trial; trials that ended early are grey."""
    about, trials = sweep.studies[study], sweep.trials_of(study)
    metric = metric or about.metric
    curves = sweep.curves[(sweep.curves["metric"] == metric) & sweep.curves["trial"].isin(trials["trial"])]
    if curves.empty:
        return None
    figure = drawing.sheet(200 + 62)
    ax = drawing.frame(figure, 44, 24, WIDTH - 56, 200)
    colour, marker = method_style(about.method, sweep.methods)
    complete = set(trials.loc[trials["state"] == "complete", "trial"])
    best, hand = sweep.best(study), sweep.hand_tuned_trial(study)
    curves = curves.sort_values(["trial", "epoch"])
    points = curves[["epoch", "value"]].to_numpy(float)
    starts = np.flatnonzero(~curves["trial"].duplicated())
    lines = dict(zip(curves["trial"].iloc[starts], np.split(points, starts[1:]), strict=True))
    for finished, ink, width in ((False, GREY, 0.9), (True, colour, 1.2)):
        chosen = [line for trial, line in lines.items() if (trial in complete) == finished]
        shade = (*to_rgb(ink), drawing.thin(len(chosen), 0.45))
        ax.add_collection(
            LineCollection(chosen, colors=[shade], linewidths=width, rasterized=len(chosen) > drawing.RASTER_FROM)
        )
        lone = np.array([line[0] for line in chosen if len(line) == 1]).reshape(-1, 2)
        ax.plot(lone[:, 0], lone[:, 1], ".", ms=4, color=shade, rasterized=len(lone) > drawing.RASTER_FROM)
    if hand is not None and hand["trial"] in lines:
        line = lines[hand["trial"]]
        ax.plot(line[:, 0], line[:, 1], "o", ls=(0, (3, 2)), lw=1.4, ms=5, color=INK, mfc=PAPER, mew=1.3, zorder=3)
    if best is not None and best["trial"] in lines:
        line = lines[best["trial"]]
        ax.plot(line[:, 0], line[:, 1], marker, ls="-", lw=2.4, ms=6, color=colour, mec=PAPER, mew=1, zorder=4)
    drawing.scale(ax.xaxis, pd.concat([curves["epoch"], pd.Series([0, about.epochs])]), log=False, whole=True)
    drawing.scale(ax.yaxis, curves["value"])
    drawing.title(ax, f"{short_metric(metric)} by epoch")
    ax.set_xlabel("epoch", **drawing.plain())
    return figure


def best_against_seconds(sweep: Sweep, dataset: str) -> Figure | None:
    """Plot the lowest distance against device seconds, a step line per method.

    The seconds of all trials count, regardless of their outcome, so slow and diverging methods are at a disadvantage.
    """
    lines = {}
    for study in sweep.studies_of(dataset):
        curve = best_by_seconds(sweep, study.name)
        if len(curve):
            lines[study.method] = curve.to_numpy(float)
    return _step_lines(sweep, dataset, lines, "best {} so far ↓", "device seconds of all trials of the method")


def expected_best_by_trials(sweep: Sweep, dataset: str) -> Figure | None:
    """Plot the expected lowest distance of k random trials, for each k; None unless the searcher was random."""
    if not drawn_at_random(sweep):
        return None
    lines = {}
    for study in sweep.studies_of(dataset):
        curve = expected_best(random_draws(sweep, study.name))
        if len(curve):
            lines[study.method] = np.column_stack([np.arange(1, len(curve) + 1), curve])
    return _step_lines(sweep, dataset, lines, "expected best {} of k trials ↓", "k random trials", whole=True)


def _step_lines(
    sweep: Sweep, dataset: str, lines: dict[str, np.ndarray], title: str, x_label: str, *, whole: bool = False
) -> Figure | None:
    """Plot a step line per method through (x, distance), arrays of (N, 2)."""
    if not lines:
        return None
    figure, top, width = with_key(sweep.methods, lines, 200)
    ax = drawing.frame(figure, 44, top, width, 200)
    for method, line in lines.items():
        colour, marker = method_style(method, sweep.methods)
        ax.step(line[:, 0], line[:, 1], where="post", color=colour, lw=1 + drawing.thin(12 * len(lines), 1))
        ax.plot(*line[-1], marker, ms=7, mfc=colour, mec=PAPER, mew=1, clip_on=False, zorder=3)
    everything = np.concatenate(list(lines.values()))
    drawing.scale(ax.xaxis, np.append(everything[:, 0], 0 if not whole else 1), log=False, whole=whole)
    drawing.scale(ax.yaxis, everything[:, 1])
    drawing.title(ax, title.format(short_metric(sweep.studies_of(dataset)[0].metric)))
    ax.set_xlabel(x_label, **drawing.plain())
    name_ends(ax, sweep.methods, {method: tuple(line[-1]) for method, line in lines.items()})
    return figure


def knob_importances(importances: pd.DataFrame, study: Study, methods: Iterable[str]) -> Figure | None:
    """Plot the importance of each knob as a bar, the largest on top, unless shuffled values reach it by chance.

    importances: rows of importances.csv, with the columns study, knob, importance, epoch and trials, and `chance`,
    which older files lack.
    """
    rows = importances[importances["study"] == study.name].sort_values("importance", ascending=False)
    if rows.empty:
        return None
    height = 34 * len(rows)
    figure = drawing.sheet(28 + height + 8)
    ax = drawing.box(figure, 12, 28, WIDTH - 24, height)
    ax.spines[:].set_visible(False)
    ax.set(xlim=(0, 1), ylim=(len(rows), 0), xticks=[], yticks=[])
    colour, _ = method_style(study.method, methods)
    for y, row in enumerate(rows.itertuples()):
        above = not row.importance <= getattr(row, "chance", math.nan)
        share = f"{100 * row.importance:.0f} %" if above else "not above chance"
        ax.text(0, y + 0.38, row.knob, **drawing.plain(INK))
        ax.text(1, y + 0.38, share, ha="right", **drawing.plain())
        ax.barh([y + 0.66], [1], height=0.22, color=FAINT, lw=0)
        ax.barh([y + 0.66], [row.importance * above], height=0.22, color=colour, lw=0)
    first = rows.iloc[0]
    drawing.title(ax, f"importance at epoch {first['epoch']}, {first['trials']} trials")
    return figure


def confirmed_points(points: pd.DataFrame, table: pd.DataFrame, dataset: str, methods: Iterable[str]) -> Figure | None:
    """Plot confirmed distances, a row per point: a dot per seed, mean and interval, and × for the search's value.
    Hollow is hand-tuned, filled is tuned.

    points, table: results of `confirm.points` and `confirm.confirmed`; methods: those of the page.
    """
    rows = table[table["dataset"] == dataset]
    rows = rows[rows["mean"].notna()]
    if rows.empty:
        return None
    row_height, top, bottom = 40, 6, 40
    height = top + row_height * len(rows) + bottom
    figure = drawing.sheet(height)
    ax = drawing.box(figure, 12, top, WIDTH - 24, height - top - bottom)
    ax.set_ylim(len(rows), 0)
    shown = points[(points["dataset"] == dataset) & points["value"].notna()]
    drawing.scale(ax.xaxis, [*shown["value"], *rows["searched"], *rows["low"], *rows["high"]], pad=0.05)
    ax.spines[:].set_visible(False)
    ax.set_yticks([])
    ax.tick_params(axis="x", length=0, pad=6)
    low, high = ax.get_xlim()
    for y, row in enumerate(rows.itertuples()):
        colour, marker = method_style(row.method, methods)
        line = y + 0.72
        ax.plot([low, high], [line, line], color=FAINT, lw=1.5, solid_capstyle="round", zorder=1)
        name = f"{method_name(row.method)}, {'kept' if row.role == 'both' else row.point}"
        ax.text(
            0,
            y + 0.42,
            name,
            transform=ax.get_yaxis_transform(),
            **(drawing.bold() if row.role != HAND_TUNED else drawing.plain(INK)),
        )
        ax.text(1, y + 0.42, mean_words(row), transform=ax.get_yaxis_transform(), ha="right", **drawing.plain())
        if math.isfinite(row.low):
            ax.plot([row.low, row.high], [line, line], color=colour, lw=5, alpha=0.45, solid_capstyle="butt", zorder=2)
        seeds = shown[(shown["study"] == row.study) & (shown["point"] == row.point)]["value"]
        ax.plot(seeds, [line] * len(seeds), "o", ms=4, mfc=colour, mec="none", alpha=0.7, zorder=3, clip_on=False)
        if math.isfinite(row.searched):
            ax.plot(row.searched, line, "x", ms=6, mew=1.6, color=MUTED, zorder=3, clip_on=False)
        hollow = row.role == HAND_TUNED
        face, edge = (PAPER, INK) if hollow else (colour, PAPER)
        ax.plot(row.mean, line, "o" if hollow else marker, ms=8.5, mfc=face, mec=edge, mew=1.4, zorder=4, clip_on=False)
    note = ", log scale" if ax.get_xscale() == "log" else ""
    metric = short_metric(rows["metric"].iloc[0])
    ax.set_xlabel(
        f"{metric} {where_words(rows)}{note} · ○ hand-tuned  ● tuned  × search", **drawing.plain(), labelpad=5
    )
    return figure


def pareto_front(front: pd.DataFrame, sweep: Sweep, dataset: str) -> Figure | None:
    """Plot the distance against each other objective of a front; points on the front of all objectives are solid, the
    others pale. Hollow is hand-tuned.

    front: result of `fronts.front`.
    """
    rows = front[front["distance"].notna() & front["mse"].notna()]
    if rows.empty:
        return None
    columns = objectives(front)[1:]
    height, gap = 150, 52
    cast = [study.method for study in sweep.studies_of(dataset) if study.method in set(rows["method"])]
    figure, top, width = with_key(sweep.methods, cast, (height + gap) * len(columns) - gap)
    for i, column in enumerate(columns):
        ax = drawing.frame(figure, 44, top + (height + gap) * i, width, height)
        for row in rows.itertuples():
            colour, marker = method_style(row.method, sweep.methods)
            x, strength = getattr(row, column), 1.0 if row.on_front else 0.3
            hollow = row.point == HAND_TUNED
            if math.isfinite(row.low):
                ax.plot([x, x], [row.low, row.high], color=colour, lw=2, alpha=0.6 * strength, zorder=2)
            face = {"mfc": PAPER if hollow else colour, "mec": colour, "mew": 1.6}
            ax.plot(x, row.distance, marker, ms=7, alpha=strength, zorder=3, **face)
        drawing.scale(ax.xaxis, rows[column], most=5)
        drawing.scale(ax.yaxis, pd.concat([rows["distance"], rows["low"].dropna(), rows["high"].dropna()]), most=5)
        drawing.title(ax, f"{short_metric(sweep.studies_of(dataset)[0].metric)} ↓")
        ax.set_xlabel(f"{WORDS.get(column, column)} ↓", **drawing.plain())
        best = rows[rows["on_front"]].sort_values("distance").drop_duplicates("method")
        name_ends(ax, sweep.methods, {row.method: (getattr(row, column), row.distance) for row in best.itertuples()})
    return figure


def _points(
    ax: Axes, trials: pd.DataFrame, x: pd.Series, column: str, style: tuple[str, str], size: float,
    y: pd.Series | None = None,
) -> None:  # fmt: skip
    """Plot a mark per trial with a known x, hollow for hand-tuned points, at its value of a column or at `y`; hovering
    shows the trial's name and the value, unless there are too many."""
    y = trials[column] if y is None else y
    # Keep only the needed ones of hundreds of columns.
    trials, x = trials.loc[x.notna(), ["trial", "state", "origin", column]], x[x.notna()]
    many, colour = len(trials) > drawing.RASTER_FROM, style[0]
    by_hand = trials["origin"] == "paper"
    solid = {"alpha": 0.3 + drawing.thin(len(trials), 0.45), "c": colour, "linewidths": 0, "zorder": 3}
    hollow = {"alpha": 1.0, "c": PAPER, "edgecolors": colour, "linewidths": 1.6, "zorder": 4}
    for chosen, look in ((~by_hand, solid), (by_hand, hollow)):
        shown = trials[chosen]
        if len(shown):
            names = "|".join(_said(trial, column) for trial in shown.to_dict("records"))
            gid = None if many else f"{drawing.TITLES}{names}"
            ax.scatter(x[chosen], y[shown.index], s=size, marker=style[1], rasterized=many, gid=gid, **look)


def _said(trial: dict, column: str) -> str:
    return f"{trial['trial']}, {trial['state']}: {measured(trial[column])}".replace("|", "¦")


def _slice(ax: Axes, sweep: Sweep, study: Study, trials: pd.DataFrame, column: str, knob: str) -> None:
    """Plot a metric against a knob: trials that ended early grey, others filled, with the hand-tuned value marked."""
    spec, hand = study.space[knob], study.hand_tuned_values.get(knob)
    values = trials[f"hyper/{knob}"]
    if "choices" in spec:
        # Trials with the same choice would overlap: spread them deterministically by their number.
        spread = ((trials["number"].astype(float) * 0.618) % 1 - 0.5) * 0.5
        x = pd.Series([place_of(value, spec["choices"]) for value in values], values.index, dtype=float) + spread
        at = place_of(hand, spec["choices"])
        ax.set_xlim(-0.6, len(spec["choices"]) - 0.4)
        shown = drawing.roomy([(i, readable(choice)) for i, choice in enumerate(spec["choices"])], letters=24)
        ax.xaxis.set_major_locator(FixedLocator([i for i, _ in shown]))
        ax.xaxis.set_major_formatter(FixedFormatter([text for _, text in shown]))
    else:
        x, at = values.astype(float), hand
        drawing.scale(ax.xaxis, [*x, spec["low"], spec["high"]], log=study.is_log(knob), pad=0.02, most=4)
    complete = trials["state"] == "complete"
    _points(ax, trials[~complete], x[~complete], column, (GREY, "o"), size=12)
    style = method_style(study.method, sweep.methods)
    _points(ax, trials[complete], x[complete], column, style, size=26)
    if at is not None:
        ax.axvline(at, color=INK, lw=1, ls=(0, (3, 2)), zorder=2)


def _knob_scale(study: Study, knob: str, values: pd.Series) -> tuple[Callable, list[tuple[float, str]]]:
    """Return a map from values of a knob to [0, 1], and its ticks as (position, text)."""
    spec, hand = study.space[knob], study.hand_tuned_values.get(knob)
    if "choices" in spec:
        steps = (np.arange(len(spec["choices"])) + 0.5) / len(spec["choices"])
        ticks = [(step, readable(choice)) for step, choice in zip(steps, spec["choices"], strict=True)]

        def scaled(value: object) -> float:
            place = place_of(value, spec["choices"])
            return 0.0 if place is None else float(steps[place])

        return scaled, drawing.roomy(ticks, letters=60)
    ends = [spec["low"], spec["high"], *([hand] if hand is not None else []), *values.dropna()]
    return drawing.number_scale(min(ends), max(ends), study.is_log(knob))
