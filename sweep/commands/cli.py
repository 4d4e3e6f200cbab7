"""The command lines: `sweep/run.py` is the sweep, `python -m sweep COMMAND` holds everything else."""

import argparse
import os
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import torch
from pydantic import Field

from analysis.confirm import confirmed, confirmed_text, looks_words, write_confirmed
from analysis.load import read_sweep
from analysis.page.report import COMPARISON, write_report
from analysis.tables import headline, leaderboard, leaderboard_text, write_tables
from sweep import tracking
from sweep.config import SweepConfig, read_config
from sweep.driver import archive, launch
from sweep.driver import confirm as confirmation
from sweep.driver.checkpoints import superfluous
from sweep.driver.resources import of_this_machine
from sweep.driver.screen import duration, steady_output
from sweep.driver.winners import load_winner
from sweep.record import SETBACKS, Trials, read
from sweep.search.importance import write_importances
from sweep.search.plan import Plan, epoch_seconds, expected_epochs, plan
from sweep.search.warm import warmed
from sweep.simulation.simulate import foresee
from sweep.tracking.compare import View, compare
from trainables import find, names
from trainables.config import did_you_mean
from trainables.flags import Parser, run
from trainables.saved import save_grid


class RunFlags(SweepConfig):
    """What `sweep/run.py` understands besides the configuration itself."""

    dry_run: bool = Field(False, description="show studies, points and the estimated cost, and run nothing")
    simulate: bool = Field(False, description="foresee wall time, use of slots and trials per rung, and run nothing")
    curves: Path | None = Field(None, description="folder of a sweep whose curves --simulate replays")
    resume: Path | None = Field(None, description="folder of an interrupted sweep to go on with")


def sweep(about: str, argv: Sequence[str] | None = None) -> None:
    """`sweep/run.py`."""

    def main(argv: Sequence[str]) -> None:
        flags = read_config(RunFlags, argv, "sweep/run.py", about)
        config = SweepConfig(**flags.model_dump(include=set(SweepConfig.model_fields)))
        if flags.resume is not None:
            resume(flags, config)
        elif flags.simulate:
            foresee(warmed(plan(config)), flags.curves, say)
        elif flags.curves is not None:
            raise ValueError(f"--curves {flags.curves}: means something only with --simulate; add it")
        elif flags.dry_run:
            show_plan(config)
        else:
            conclude(launch.start(config, say), tracking_uri=config.tracking_uri, address=config.address)

    with steady_output():
        run("sweep/run.py", main, argv)


def resume(flags: RunFlags, config: SweepConfig) -> None:
    """Goes on with a sweep as it was configured. Raises ValueError for flags that would change it."""
    if changing := flags.model_fields_set - {"resume", "tracking_uri", "address"}:
        raise ValueError(
            f"--resume goes on with a sweep as it was configured, got {', '.join(sorted(changing))} as well; "
            "only --tracking-uri and --address may be given with it"
        )
    where = {"tracking_uri": config.tracking_uri, "address": config.address}
    conclude(launch.resume(flags.resume, say, **where), **where)


def say(text: str) -> None:
    """One line on the screen, in pace with the rest."""
    print(text, flush=True)


def show_plan(config: SweepConfig) -> None:
    """Studies, points, ranges and an estimate of the cost, measured by a few steps of each hand-tuned point."""
    planned = warmed(plan(config))
    resources = of_this_machine(config) if config.address is None else None
    device = "cuda" if resources and resources.gpus else "cpu"
    seconds = epoch_seconds(planned, device)
    for study in planned.studies:
        spec = study.spec
        say(f"{study.name}: {spec.trials} trials of up to {spec.epochs} epochs, rungs {planned.rungs}")
        for i, point in enumerate(spec.space.paper[: spec.trials]):
            values = ", ".join(f"{name} = {value}" for name, value in point.values.items())
            say(f"  trial {i}: {values}\n           {point.source}")
        if warm := ", ".join(point.source for point in spec.warm):
            say(f"  then: {warm}")
        searched = {name: d for name, d in spec.space.dimensions.items() if "value" not in d.to_record()}
        for name, dimension in searched.items():
            say(f"  searched: {name} in {dimension}")
    show_cost(planned, seconds, resources.slots if resources else None)


def show_cost(planned: Plan, seconds: dict[str, float], slots: int | None) -> None:
    trials = sum(study.spec.trials for study in planned.studies)
    per_epoch = sum(seconds[study.name] * study.spec.trials for study in planned.studies)
    most, expected = per_epoch * planned.config.epochs, per_epoch * expected_epochs(planned)
    say(
        f"{len(planned.studies)} studies, {trials} trials; training alone about "
        f"{duration(expected)} of trial time if halving stops as many as it aims to, {duration(most)} at most"
    )
    if planned.config.seconds_per_study is not None:
        limit = duration(planned.config.seconds_per_study)
        say(f"a study begins no more trials once its own have trained and been evaluated for {limit}")
    if slots:
        say(f"on this machine, {slots} at a time: about {duration(expected / slots)}, plus evaluations")
    if planned.config.confirm:
        trainings, cost = confirmation_cost(planned, seconds)
        say(f"then, to confirm: at most {trainings} trainings to the end, about {duration(cost)} of trial time")


def confirmation_cost(planned: Plan, seconds: dict[str, float]) -> tuple[int, float]:
    """How many trainings the confirmation of a sweep takes at most, and their seconds in all, by those of an epoch of
    each study's hand-tuned point."""
    config = planned.config
    each = (1 + config.confirm_top) * config.confirm_seeds
    cost = 0.0
    for study in planned.studies:
        data = planned.splits[study.dataset]
        grown = (len(data.train) + len(data.valid)) / len(data.train)  # validation images are trained on as well
        cost += each * config.epochs * seconds[study.name] * grown
    return each * len(planned.studies), cost


def conclude(folder: Path, **where: str | None) -> None:
    """Shows the end of a sweep, and confirms it if it was configured so and has not been confirmed.

    An interrupted one ends the program as Ctrl-C does, with exit code 130, and one without a complete trial with 1:
    job schedulers go by it. `where` are the tracking_uri and the address that its search was run with.
    """
    if show_end(folder) != "done":
        raise SystemExit(130)
    if not any(trial.state == "complete" for trial in trials_of(folder).trials.values()):
        say("No trial completed.")
        raise SystemExit(1)
    if not launch.config_of(folder).confirm:
        return
    if confirmation.is_confirmed(folder):
        confirmation.tidy(folder, launch.config_of(folder))
        say(f"\nconfirmed before ({folder}/confirm); another look: python -m sweep confirm {folder} --again")
        return
    say("\nThe search is done; its confirmation begins.")
    try:
        looked = confirmation.confirm(folder, say, **where)
    except KeyboardInterrupt:  # before there was a record that could tell of it
        say(f"Interrupted before the confirmation began. Go on with:  python -m sweep confirm {folder}")
        raise
    conclude_confirmation(looked)


def trials_of(folder: Path) -> Trials:
    """The trials of a sweep so far."""
    return Trials.from_events(read(folder / launch.RECORD))


def show_end(folder: Path) -> str:
    """The leaderboard, and where and how to look further. Returns the outcome: done, interrupted or running."""
    done = read_sweep(folder)
    board = leaderboard(done)
    say(f"{leaderboard_text(board)}\n\n{headline(board)}\n")
    config = launch.config_of(folder)
    outcome = done.meta["outcome"]
    if outcome != "done":
        state = (
            "Not at its end. If it does not run any more:" if outcome == "running" else "Interrupted; nothing is lost."
        )
        say(f"{state} Go on with:  python -m sweep resume {folder}\n")
    uri = tracking.redact(launch.default_tracking(config))
    ways = {
        "report": folder / "report.html",
        "tables": f"{folder}/leaderboard.csv, trials.parquet, curves.parquet",
    }
    if not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).exists():  # not after an import
        ways["compare"] = f"python -m sweep compare {folder}"
    if (first := board.iloc[0]).complete:
        of = f"{first.method} --dataset {first.dataset}"
        ways["samples"] = f"python -m sweep sample {folder} {of} -n 64 --out grid.png"
    if board[list(SETBACKS)].to_numpy().any():
        ways["again"] = f"python -m sweep retry {folder}"
    for what, how in ways.items():
        say(f"{what:<8} {how}")
    return outcome


def command_resume(flags: argparse.Namespace) -> None:
    """go on with an interrupted sweep"""
    if (home := confirmation.sweep_of(flags.sweep)) is not None:
        changes = {"tracking_uri": flags.tracking_uri, "address": flags.address}
        conclude_confirmation(confirmation.confirm(home, say, **changes))
        return
    where = {"tracking_uri": flags.tracking_uri, "address": flags.address}
    conclude(launch.resume(flags.sweep, say, **where), **where)


def command_retry(flags: argparse.Namespace) -> None:
    """run again what failed, ran out of memory or was preempted"""
    where = {"tracking_uri": flags.tracking_uri, "address": flags.address}
    conclude(launch.retry(flags.sweep, say, **where), **where)


def command_extend(flags: argparse.Namespace) -> None:
    """add trials to each study of a sweep, and go on with its search"""
    where = {"tracking_uri": flags.tracking_uri, "address": flags.address}
    conclude(launch.extend(flags.sweep, flags.trials, say, **where), **where)


def command_confirm(flags: argparse.Namespace) -> None:
    """train each study's hand-tuned and best points on fresh seeds and score them once on the test split"""
    changes = {name: getattr(flags, name) for name in ("tracking_uri", "address", "concurrent")}
    conclude_confirmation(
        confirmation.confirm(flags.sweep, say, top=flags.top, seeds=flags.seeds, again=flags.again, **changes)
    )


def conclude_confirmation(folder: Path) -> None:
    """Shows what a confirmation has found; an interrupted one ends the program with exit code 130."""
    done, home = read_sweep(folder), folder.parent
    say(f"{confirmed_text(confirmed(done))}\n\n{looks_words(home)}.\n")
    if done.meta["outcome"] != "done":
        say(f"Interrupted; nothing is lost. Go on with:  python -m sweep confirm {home}")
        raise SystemExit(130)
    say(f"report   {home / 'report.html'}\ntables   {folder}/confirmed.csv, points.csv")


def command_sample(flags: argparse.Namespace) -> None:
    """draw images from a study's winner"""
    if flags.n < 1:
        raise ValueError(f"-n {flags.n}: draw at least 1 image")
    method = load_winner(flags.sweep, flags.method, flags.dataset)
    if flags.density not in (None, *method.densities):
        raise ValueError(f"--density {flags.density} is not known; {flags.method} has {', '.join(method.densities)}")
    torch.manual_seed(flags.seed)
    save_grid(method.sample(flags.n, flags.density), flags.out)
    say(f"{flags.n} images in {flags.out}")


def command_report(flags: argparse.Namespace) -> None:
    """write tables and report.html of a sweep anew, or one page that compares several sweeps"""
    if len(flags.sweep) == 1:
        (folder,) = flags.sweep
        read_sweep(folder)
        write_tables(folder)
        write_importances(folder)
        for look in confirmation.looks_at_test(folder):
            write_confirmed(look)
    say(str(write_report(*flags.sweep, out=flags.out)))


def command_board(flags: argparse.Namespace) -> None:
    """show the leaderboard of a sweep, also while it runs"""
    show_end(flags.sweep)


def command_compare(flags: argparse.Namespace) -> None:
    """open the winners, and hand-tuned against tuned, in MLflow's comparison view"""
    config = launch.config_of(flags.sweep)
    uri = flags.tracking_uri or launch.default_tracking(config)
    tracking.check(uri)

    def show(views: list[View], base: str, ours: bool) -> None:
        for view in views:
            say(f"{view.dataset}, {view.what}\n  side by side  {view.side_by_side}\n  curves        {view.curves}")
        if not flags.no_open and has_display():
            for view in views:
                webbrowser.open(view.side_by_side)
        if ours:
            say(f"MLflow listens at {base} until Ctrl-C")
            threading.Event().wait()

    compare(flags.sweep, uri, config.experiment, show)


def has_display() -> bool:
    """Whether a browser could show itself; one of text would take over the terminal."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def command_gc(flags: argparse.Namespace) -> None:
    """delete models and checkpoints that nobody needs, also while it runs"""
    config = launch.config_of(flags.sweep)
    keep = config.keep if flags.keep is None else flags.keep
    if keep < 1:
        raise ValueError(f"--keep {keep}: a study keeps at least its best model; allowed are 1, 2, ...")
    trials = trials_of(flags.sweep)
    files = list(superfluous(flags.sweep, trials, keep, config.keep_bytes))
    size = sum(path.stat().st_size for path in files)
    for path in files:
        say(str(path))
        if not flags.dry_run:
            path.unlink(missing_ok=True)
    did = "would free" if flags.dry_run else "freed"
    say(f"{did} {size / 1e6:.1f} MB in {len(files)} files" if files else "nothing to delete")


def command_track(flags: argparse.Namespace) -> None:
    """bring MLflow up to date, or a sweep into another server"""
    config = launch.config_of(confirmation.sweep_of(flags.sweep) or flags.sweep)
    uri = flags.tracking_uri or launch.default_tracking(config)
    done = tracking.track(flags.sweep, uri, config.experiment)
    say(f"{done.trials} trials, {done.epochs} epochs are in {tracking.redact(uri)}")


def command_export(flags: argparse.Namespace) -> None:
    """pack a sweep into one file, to be carried to another machine"""
    size = archive.pack(flags.sweep, flags.file)
    say(f"{size / 1e6:.1f} MB in {flags.file}; bring it in elsewhere with:  python -m sweep import {flags.file.name}")


def command_import(flags: argparse.Namespace) -> None:
    """unpack what export has written, and tell MLflow if asked to"""
    folder = archive.unpack(flags.file, flags.out)
    say(f"{folder}: look with `python -m sweep board {folder}`, go on with `python -m sweep resume {folder}`")
    config = launch.config_of(folder)
    if not config.data_root.exists():
        say(f"there is no {config.data_root}; if its data sets lie elsewhere, change data_root in {folder}/config.yaml")
    if flags.tracking_uri:
        done = tracking.track(folder, flags.tracking_uri, config.experiment)
        say(f"{done.trials} trials, {done.epochs} epochs are in {tracking.redact(flags.tracking_uri)}")


def command_list(flags: argparse.Namespace) -> None:
    """list the methods of the house"""
    for name in names():
        say(f"{name:<12} {sys.modules[find(name).__module__].__doc__.splitlines()[0]}")


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    function.__name__.removeprefix("command_"): function
    for function in (
        command_resume,
        command_retry,
        command_extend,
        command_confirm,
        command_sample,
        command_report,
        command_board,
        command_compare,
        command_gc,
        command_track,
        command_export,
        command_import,
        command_list,
    )
}

# About a sweep that is not there yet: they take the flags of sweep/run.py, and are modules of their own.
BEFOREHAND = {
    "doctor": "look for what would break a sweep, here and on every node of a cluster",
    "prefetch": "bring data sets and the metric's weights, for nodes without network",
}


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m sweep COMMAND`."""
    parser = Parser(prog="python -m sweep", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for name, function in COMMANDS.items():
        about = function.__doc__
        sub = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
        if name == "report":
            sub.add_argument("sweep", type=Path, nargs="+", help="folders of one or several sweeps")
            sub.add_argument("--out", type=Path, help=f"the page; report.html there, ./{COMPARISON} for several sweeps")
        elif name not in ("import", "list"):
            sub.add_argument("sweep", type=Path, help="folder of the sweep")
        if name in ("export", "import"):
            sub.add_argument("file", type=Path, help="a .tar.gz")
        if name == "import":
            sub.add_argument("--out", type=Path, default=Path("sweeps"), help="folder that holds the sweeps")
        if name in ("resume", "retry", "extend", "track", "compare", "import", "confirm"):
            sub.add_argument("--tracking-uri", help="MLflow; the sweep's own unless given")
        if name == "compare":
            sub.add_argument("--no-open", action="store_true", help="print the addresses, and open no browser")
        if name == "gc":
            sub.add_argument("--keep", type=int, help="models per study; as the sweep was configured unless given")
            sub.add_argument("--dry-run", action="store_true", help="show what would go, and delete nothing")
        if name == "extend":
            sub.add_argument("--trials", type=int, required=True, help="how many more for each study")
        if name in ("resume", "retry", "extend", "confirm"):
            sub.add_argument("--address", help="a running Ray cluster, e.g. auto")
        if name == "confirm":
            sub.add_argument("--top", type=int, help="how many of each study's best points; 1 unless configured")
            sub.add_argument("--seeds", type=int, help="trainings of each point; 5 unless configured")
            sub.add_argument("--concurrent", type=int, help="trials at a time; 1 times each alone")
            sub.add_argument("--again", action="store_true", help="look at the test split another time")
        if name == "sample":
            sub.add_argument("method")
            sub.add_argument("--dataset", help="needed when the sweep had several")
            sub.add_argument("-n", type=int, default=64, help="number of images")
            sub.add_argument("--density", help="the method's own sampler unless given")
            sub.add_argument("--seed", type=int, default=0)
            sub.add_argument("--out", type=Path, default=Path("samples.png"))
    for name, about in BEFOREHAND.items():
        commands.add_parser(name, help=about)

    def dispatch(argv: Sequence[str]) -> None:
        if argv and argv[0] in BEFOREHAND:
            import_module(f"sweep.commands.{argv[0]}").main(argv[1:])
            return
        flags, unknown = parser.parse_known_args(argv)
        if unknown:
            options = [word for action in commands.choices[flags.command]._actions for word in action.option_strings]
            raise ValueError(f"unknown argument {unknown[0]!r}{did_you_mean(unknown[0], options) or '; see --help'}")
        COMMANDS[flags.command](flags)

    run("python -m sweep", dispatch, argv)
