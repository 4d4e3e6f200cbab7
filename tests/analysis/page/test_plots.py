"""Pictures are looked at by people; here they are asked what they drew."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from analysis.confirm import confirmed, points
from analysis.fronts import front
from analysis.load import read_sweep
from analysis.page import drawing, palette, plots
from analysis.page.names import METHODS
from analysis.page.palette import method_style
from analysis.profiles import profile
from analysis.tables import leaderboard

PER_DATASET = ("distance_against_time", "rate_distortion", "best_so_far", "active_dimensions")
PER_STUDY = ("parallel_coordinates", "slices", "learning_curves")


@pytest.fixture
def sweep(tmp_path, write_sweep):
    folder = write_sweep(tmp_path / "s", datasets=("digits",), trials=8, hand_tuned_diverges=("wae-digits",))
    return read_sweep(folder)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]


def marks(ax, marker: str, size: float) -> list[float]:
    """Where on the horizontal axis single marks of a kind stand."""
    lines = (line for line in ax.get_lines() if line.get_marker() == marker and line.get_markersize() == size)
    return [float(line.get_xdata()[0]) for line in lines]


def test_every_method_has_its_own_colour_and_marker():
    styles = [method_style(method, METHODS) for method in METHODS]
    assert len(set(styles)) == len(METHODS)


def test_few_methods_have_a_colour_each_and_many_that_of_their_family():
    few = ("vae", "info_vae", "gae", "wae", "my.a:A")
    assert len({method_style(method, few)[0] for method in few}) == len(few)
    colours = {method: method_style(method, METHODS)[0] for method in METHODS}
    for family, members in palette.FAMILIES.items():
        assert set(members) <= set(METHODS)
        assert len({colours[method] for method in members}) == (family != "other")
    assert method_style("vae@long", [*METHODS, "vae@long"])[0] == colours["vae"]


@pytest.fixture
def many(tmp_path, write_sweep):
    """A sweep of 20 methods, whose trials are those of 5."""
    made = read_sweep(write_sweep(tmp_path / "s", datasets=("digits",), trials=3))
    cast = tuple(METHODS)[:20]
    studies, shares = {}, []
    for place, method in enumerate(cast):
        source = made.studies_of("digits")[place % 5]
        name = f"{method}-digits"
        studies[name] = replace(source, name=name, method=method)
        shares.append(made.trials_of(source.name).assign(study=name, method=method))
    trials = pd.concat(shares, ignore_index=True)
    return replace(made, studies=studies, trials=trials.assign(trial=trials["study"] + trials["number"].astype(str)))


def test_no_key_of_many_methods_is_taller_than_its_plot(many):
    """The best are named beside the plot, apart from each other and within it."""
    for name in ("distance_against_time", "best_so_far"):
        figure = getattr(plots, name)(many, "digits")
        key, ax = figure.axes
        assert key.get_position().height < ax.get_position().height / 2
        named = {text.get_text(): text.get_position()[1] for text in ax.texts}
        assert len(named) == palette.NAMED + 1 and "6 more" in named
        heights = sorted(named.values())
        assert min(np.diff(heights)) > 0.04 and heights[-1] < 1.1


def test_the_pareto_front_of_many_methods_names_those_on_it_without_overlap(many):
    table = front(many, None, "digits")
    figure = plots.pareto_front(table, many, "digits")
    for ax in figure.axes[1:]:
        named = [text for text in ax.texts if not text.get_text().endswith(" more")]
        on_front = table[table["on_front"]]["method"].unique()
        assert len(named) == min(len(on_front), palette.NAMED) > 0
        boxes = sorted((text.get_window_extent().y0, text.get_window_extent().y1) for text in named)
        assert all(below[1] <= above[0] + 0.5 for below, above in pairwise(boxes))


def test_labels_are_moved_apart_and_stay_inside():
    assert drawing.apart([0.1, 0.11, 0.5], 0.1) == pytest.approx([0.1, 0.2, 0.5])
    assert drawing.apart([0.9, 0.95, 0.96], 0.1) == pytest.approx([0.8, 0.9, 1.0])


def test_strangers_get_styles_that_no_known_method_has():
    strangers = ["my.a:A", "my.b:B"]
    cast = [*METHODS, *strangers]
    known = {method_style(method, cast) for method in METHODS}
    own = {method_style(method, cast) for method in strangers}
    assert len(own) == 2
    assert not own & known


def test_arrows_stand_at_the_values_of_the_leaderboard(sweep):
    board = leaderboard(sweep)
    ax = plots.arrows(board, "digits").axes[0]
    moved = board[board["difference"] < 0]
    kept = board[board["difference"] == 0]
    assert marks(ax, "o", 8) == pytest.approx(moved["hand_tuned"].tolist())
    outlined = [line.get_xdata()[0] for line in ax.get_lines() if line.get_mec() == drawing.INK and line.get_ms() == 9]
    assert outlined == pytest.approx(kept["hand_tuned"].tolist())
    for row in moved.itertuples():
        marker = method_style(row.method, board["method"])[1]
        assert row.tuned in marks(ax, marker, 9)
    assert any("diverged →" in text for text in texts(ax.figure))
    assert len(marks(ax, "x", 6)) == 1


def test_arrows_are_drawn_of_studies_without_any_value(tmp_path, write_sweep):
    sweep = read_sweep(write_sweep(tmp_path / "s", methods=("vae",), trials=1, hand_tuned_diverges=("vae-digits",)))
    said = texts(plots.arrows(leaderboard(sweep), "digits"))
    assert "diverged → none complete" in said


def test_best_so_far_falls_with_complete_trials_only(tmp_path, write_record):
    study = {
        "study": "vae-digits",
        "method": "vae",
        "dataset": "digits",
        "trials": 5,
        "epochs": 1,
        "space": {},
    }
    events = [{"time": 0.0, "event": "sweep", "sweep": "id", "studies": [study | {"metric": "valid/fcd"}]}]
    ends = [("complete", 9.0), ("pruned", 1.0), ("complete", 7.0), ("diverged", None), ("complete", 8.0)]
    for number, (state, value) in enumerate(ends):
        name, metrics = f"t{number}", {} if value is None else {"valid/fcd": value}
        start = {
            "time": 1.0 + number,
            "event": "start",
            "trial": name,
            "study": "vae-digits",
            "number": number,
        }
        row = {"epoch": 1, "stage": "train", "metrics": metrics}
        events += [
            start | {"values": {}, "origin": "search"},
            {"time": 2.0 + number, "event": "report", "trial": name, "rows": [row]},
            {"time": 2.0 + number, "event": "end", "trial": name, "state": state},
        ]
    figure = plots.best_so_far(read_sweep(write_record(tmp_path / "s", events)), "digits")
    steps = max(figure.axes[-1].get_lines(), key=lambda line: len(line.get_xdata()))
    assert list(steps.get_xdata()) == [1, 2, 3, 4, 5]
    assert list(steps.get_ydata()) == [9, 9, 7, 7, 7]


@pytest.fixture
def promoted(tmp_path, write_record):
    """Three trials of a study; a rung pauses the first for 100 s, so that it ends after the others and is the best."""
    study = {"study": "vae-digits", "method": "vae", "dataset": "digits", "trials": 3, "epochs": 2}
    events = [{"time": 0.0, "event": "sweep", "sweep": "id", "studies": [study | {"metric": "valid/fcd"}]}]

    def run(number, start, end, state, value):
        name = f"t{number}"
        metrics = {"valid/fcd": value, "time/train_seconds": 10.0}
        rows = [{"epoch": 1 if state == "paused" else 2, "metrics": metrics}]
        about = {"study": "vae-digits", "number": number, "seed": 0, "attempt": 1, "values": {}, "origin": "search"}
        return [
            {"time": start, "event": "start", "trial": name} | about,
            {"time": end, "event": "report", "trial": name, "rows": rows},
            {"time": end, "event": "end", "trial": name, "state": state},
        ]

    events += run(0, 0.0, 10.0, "paused", 4.0) + run(1, 20.0, 30.0, "complete", 9.0)
    events += run(2, 40.0, 50.0, "complete", 8.0) + run(0, 110.0, 120.0, "complete", 3.0)
    return read_sweep(write_record(tmp_path / "promoted", events))


def test_a_promoted_trial_counts_at_its_end_and_not_before_its_pause(promoted):
    lines = (
        plot(promoted, "digits").axes[-1].get_lines()[0] for plot in (plots.best_so_far, plots.best_against_seconds)
    )
    assert [list(line.get_ydata()) for line in lines] == [[9, 8, 3], [9, 8, 3]]


def test_a_paused_trial_does_not_run(promoted):
    *_, running, best = plots.over_time(promoted).axes
    (area,) = running.collections
    inside = [area.get_paths()[0].contains_point((seconds / 60, 0.5)) for seconds in (5, 15, 25, 45, 60, 115)]
    assert inside == [True, False, True, True, False, True]
    assert np.multiply(best.get_lines()[0].get_xdata(), 60).tolist() == pytest.approx([30, 50, 120])
    assert list(best.get_lines()[0].get_ydata()) == [9, 8, 3]


def test_the_cloud_shows_every_complete_trial(sweep):
    figure = plots.distance_against_time(sweep, "digits")
    points = np.vstack([c.get_offsets() for c in figure.axes[-1].collections if c.get_alpha() is not None])
    complete = sweep.trials[sweep.trials["state"] == "complete"]
    expected = complete[["time/train_seconds", "value"]].to_numpy(float)
    assert sorted(points.tolist()) == sorted(expected.tolist())


def test_rate_and_distortion_need_both(sweep):
    assert plots.rate_distortion(sweep, "digits") is not None
    without = sweep.trials.drop(columns="valid/kl")
    assert plots.rate_distortion(type(sweep)(**(vars(sweep) | {"trials": without})), "digits") is None


def test_parallel_coordinates_of_a_study_without_knobs_have_the_distance_alone(sweep):
    about = sweep.studies["wae-digits"]
    fixed = replace(about, space={knob: {"value": value} for knob, value in about.hand_tuned_values.items()})
    figure = plots.parallel_coordinates(replace(sweep, studies={fixed.name: fixed}), fixed.name)
    assert {"fcd, lower is better"} == {text for text in texts(figure) if "better" in text or "log" in text}


def test_parallel_coordinates_have_an_axis_per_searched_knob_and_the_distance(sweep):
    said = texts(plots.parallel_coordinates(sweep, "beta_vae-digits"))
    for name in ("latent_dim", "learning_rate (log)", "batch_size", "beta (log)", "fcd, lower is better"):
        assert name in said
    assert "network" not in said


def test_slices_mark_the_hand_tuned_value(sweep):
    figure = plots.slices(sweep, "beta_vae-digits", knobs=("beta", "latent_dim"))
    beta, latent = figure.axes
    dashed = [[line.get_xdata()[0] for line in ax.get_lines() if line.get_linestyle() == "--"] for ax in (beta, latent)]
    assert dashed == [[4.0], [3]]  # the fourth choice, 10
    assert beta.get_xscale() == "log"


def test_choices_are_drawn_whatever_the_type_of_their_column(sweep):
    """A column of trials has one type, so a method with fractions turns the 8 of another into 8.0."""
    floats = replace(sweep, trials=sweep.trials.astype({"hyper/latent_dim": float}))
    for draw in (plots.slices, plots.parallel_coordinates):
        as_text = (drawing.themed_svg(draw(found, "vae-digits")) for found in (sweep, floats))
        assert next(as_text) == next(as_text)


def test_learning_curves_show_every_trial_with_a_value(sweep):
    ax = plots.learning_curves(sweep, "vae-digits").axes[0]
    drawn = sum(len(collection.get_segments()) for collection in ax.collections)
    trials = sweep.trials_of("vae-digits")
    assert drawn == trials["value"].notna().sum()


@pytest.mark.parametrize("name", PER_DATASET + PER_STUDY)
def test_nothing_to_draw_is_not_an_error(tmp_path, write_sweep, name):
    sweep = read_sweep(write_sweep(tmp_path / "s", methods=("beta_vae",), datasets=("digits",), trials=0))
    figure = getattr(plots, name)(sweep, "digits" if name in PER_DATASET else "beta_vae-digits")
    assert figure is None or drawing.themed_svg(figure)


@pytest.mark.parametrize("name", PER_DATASET + PER_STUDY)
def test_every_picture_is_svg_that_the_page_can_theme(sweep, name):
    figure = getattr(plots, name)(sweep, "digits" if name in PER_DATASET else "rae_l2-digits")
    svg = drawing.themed_svg(figure)
    root = ElementTree.fromstring(svg)
    assert root.get("viewBox").split()[2] == str(drawing.WIDTH)
    assert root.get("width") is None
    assert "currentColor" in svg
    rest = re.sub(r"var\(--[a-z-]+, #\w+\)", "", svg)
    for ink in drawing.THEME:
        assert ink not in rest
    for address in re.findall(r'(?:href|src)="([^"]*)"|url\(([^)]*)\)', svg):
        assert "".join(address).startswith(("#", "data:image/png"))


def test_pictures_of_the_same_sweep_are_the_same(sweep):
    drawn = [drawing.themed_svg(plots.slices(sweep, "vae-digits")) for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_every_mark_says_which_trial_it_is(sweep):
    svg = drawing.themed_svg(plots.distance_against_time(sweep, "digits"))
    marks = re.findall(r'<use [^>]*y="([^"]*)"[^>]*><title>([^,]*), complete: [^<]*</title>', svg)
    complete = sweep.trials[sweep.trials["state"] == "complete"].set_index("trial")["value"]
    assert sorted(name for _, name in marks) == sorted(complete.index)
    by_height = sorted(marks, key=lambda mark: -float(mark[0]))  # from below, where distances are small
    assert complete[[name for _, name in by_height]].is_monotonic_increasing


def test_many_marks_become_an_image(sweep, monkeypatch):
    monkeypatch.setattr(drawing, "RASTER_FROM", 2)
    assert "data:image/png" in drawing.themed_svg(plots.learning_curves(sweep, "vae-digits"))


@pytest.mark.parametrize(
    ("low", "high", "log", "expected"),
    [
        (0, 10, False, [0, 2, 4, 6, 8, 10]),
        (1e-3, 20, True, [1e-3, 1e-2, 1e-1, 1, 10]),
        (1, 100, True, [1, 3, 10, 30, 100]),
        (20, 90, True, [20, 30, 50, 70]),
        (1e-12, 1e12, True, [1e-12, 1e-7, 1e-2, 1e3, 1e8]),
        (12.1, 12.4, True, [12.1, 12.2, 12.3, 12.4]),
    ],
)
def test_ticks_are_few_and_round(low, high, log, expected):
    assert drawing.round_ticks(low, high, log) == pytest.approx(expected)


@pytest.mark.parametrize("values", [[], [3.0], [0.0, 0.0], [np.nan], [-1.0, 5.0], [1e-30, 1e30]])
def test_scales_survive_odd_values(values):
    ax = Figure().subplots()
    drawing.scale(ax.yaxis, values)
    low, high = ax.get_ylim()
    assert low < high


def test_an_importance_that_chance_reaches_has_no_share(sweep):
    rows = [("latent_dim", 0.6, 0.5), ("learning_rate", 0.4, 0.41)]
    table = pd.DataFrame(rows, columns=["knob", "importance", "chance"]).assign(study="vae-digits", epoch=3, trials=24)
    study = sweep.studies["vae-digits"]
    figure = plots.knob_importances(table, study, sweep.methods)
    said = texts(figure)
    assert "60 %" in said and "not above chance" in said and "40 %" not in said
    assert "importance at epoch 3, 24 trials" in said
    assert [bar.get_width() for bar in figure.axes[0].patches] == [1, 0.6, 1, 0.0]
    older = texts(plots.knob_importances(table.drop(columns="chance"), study, sweep.methods))
    assert "60 %" in older and "40 %" in older


def test_best_against_seconds_ends_where_all_seconds_are_spent(sweep):
    ax = plots.best_against_seconds(sweep, "digits").axes[-1]
    ends = sorted(float(line.get_xdata()[0]) for line in ax.get_lines() if line.get_markersize() == 7)
    assert ends == pytest.approx(sorted(sweep.trials.groupby("study")["device_seconds"].sum()))


def test_only_random_searches_have_an_expected_best(sweep):
    assert plots.expected_best_by_trials(sweep, "digits") is None
    drawn = replace(sweep, config=dict(sweep.config) | {"searcher": "random"})
    assert "expected best fcd of k trials ↓" in texts(plots.expected_best_by_trials(drawn, "digits"))


def test_what_is_dominated_is_pale(sweep):
    table = front(sweep, None, "digits")
    ax = plots.pareto_front(table, sweep, "digits").axes[1]  # below the key
    strong = [line.get_alpha() for line in ax.get_lines() if line.get_markersize() == 7]
    assert strong == [1.0 if on else 0.3 for on in table["on_front"]]


def test_confirmed_points_stand_at_their_means(tmp_path, write_record, confirm_events):
    confirmation = read_sweep(write_record(tmp_path / "s" / "confirm", confirm_events()))
    table = confirmed(confirmation)
    figure = plots.confirmed_points(points(confirmation), table, "digits", confirmation.methods)
    ax = figure.axes[0]
    drawn = sorted(float(line.get_xdata()[0]) for line in ax.get_lines() if line.get_markersize() == 8.5)
    assert drawn == pytest.approx(sorted(table["mean"]))
    seeds = [line for line in ax.get_lines() if line.get_markersize() == 4]
    assert sum(len(line.get_xdata()) for line in seeds) == 14
    assert "WAE-MMD, tuned 1" in texts(figure) and "110 [85.2, 135]" in texts(figure)
    nothing = table.assign(mean=np.nan)
    assert plots.confirmed_points(points(confirmation), nothing, "digits", ()) is None


def test_a_balance_profile_marks_hand_tuned_tuned_and_the_flat_range(tmp_path, write_sweep):
    made = read_sweep(
        write_sweep(tmp_path / "many", methods=("beta_vae", "vae"), datasets=("digits",), trials=14, rungs=())
    )
    (ax,) = plots.balance_profiles(made, "beta_vae-digits").axes
    found = profile(made, "beta_vae-digits", "beta")
    assert ax.get_xscale() == "log" and ax.get_title("left") == "beta (log)"
    dashed, flat = (next(line for line in ax.get_lines() if line.get_lw() == width) for width in (1, 3))
    assert set(dashed.get_xdata()) == {4.0}
    assert tuple(flat.get_xdata()) == found.flat
    _, marker = method_style("beta_vae", made.methods)
    assert marks(ax, marker, 7) == [made.best("beta_vae-digits")["hyper/beta"]]
    assert plots.balance_profiles(made, "vae-digits") is None  # nothing to balance


def test_a_surface_has_its_trials_as_points_and_the_tuned_one_on_top(tmp_path, write_sweep):
    made = read_sweep(write_sweep(tmp_path / "s", methods=("beta_vae",), datasets=("digits",), trials=20, rungs=(3,)))
    (ax,) = plots.surface_of_knobs(made, "beta_vae-digits", "beta", "latent_dim").axes
    assert (ax.get_title("left"), ax.get_xlabel()) == ("latent_dim", "beta (log)")
    points_drawn = [len(c.get_offsets()) for c in ax.collections if isinstance(c, PathCollection)]
    assert sum(points_drawn) == 20
    _, marker = method_style("beta_vae", made.methods)
    (x,) = marks(ax, marker, 8)
    best = made.best("beta_vae-digits")["hyper/beta"]
    assert x == pytest.approx(np.log(best / 1e-3) / np.log(20 / 1e-3))  # its place on the searched range
    few = replace(made, trials=made.trials.head(5))
    assert plots.surface_of_knobs(few, "beta_vae-digits", "beta", "latent_dim") is None


def test_a_balance_without_enough_trials_has_no_picture(sweep):
    assert plots.balance_profiles(sweep, "beta_vae-digits") is None
