"""What all tests share."""

import contextlib
import gc
import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]

# Before NumPy and PyTorch are imported: xdist has a process for each core, whose threads would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Hundreds of processes import these modules, so that they must be compiled once, also where containers forbid it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
gc.disable()  # the modules and tests that are collected stay until the end; see pytest_collection_finish


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the slow tests: Ray, servers, whole sweeps")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Folders are tested on every core; files, named one by one, in this process, where -s and --pdb reach them."""
    return 0 if all(".py" in argument for argument in config.args) else len(os.sched_getaffinity(0))


LONGEST = {"faults", "test_contract.py"}  # a module is run by one process


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips slow tests unless they are wanted. The longest modules begin, so that no process waits at the end."""
    items.sort(key=lambda item: LONGEST.isdisjoint(item.path.parts))
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))


def pytest_collection_finish() -> None:
    """The garbage collector looks at what tests make, not again and again at the tests and at all modules."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # extension modules look for leaks at exit


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory) -> Iterator[Path]:
    """No test reads or fills the user's own cache; references are computed once for all processes of the tests."""
    base = tmp_path_factory.getbasetemp()
    cache = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEP_CACHE", str(cache))
        patch.setenv("RAY_worker_niceness", "0")  # with Ray's 15, other tests would starve its workers
        yield cache


class Program:
    """A program of ours in a process of its own, with everything it starts; `output` is what it has printed.

    Waiting for it has no time limit, as the machine may be busy: a program that hangs is ended with its test.
    """

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]):
        self.screen = folder / f"{uuid.uuid4().hex}.txt"
        with self.screen.open("w") as screen:
            self.process = subprocess.Popen(
                command, cwd=folder, stdout=screen, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env=environment, process_group=0,
            )  # fmt: skip

    @property
    def output(self) -> str:
        return self.screen.read_text()

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def wait(self) -> int:
        return self.process.wait()

    def until(self, holds: Callable[[], object]) -> None:
        """Waits until something holds, which must be before the program ends."""
        while not holds():
            assert self.running or holds(), self.output
            time.sleep(0.1)

    def ends_well(self) -> str:
        """What it printed until its end, which must be a good one."""
        assert self.wait() == 0, self.output
        assert "Traceback" not in self.output, self.output
        return self.output

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """As a terminal does it: everything in the foreground hears the signal."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL, of this one process."""
        self.process.kill()
        self.process.wait()


class Programs:
    """Starts programs in the sweeps' usual surroundings, and leaves none behind."""

    def __init__(self, folder: Path, tracking: Path):
        self.folder = folder
        self.ray = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # sockets want a short path
        self.mark = f"SWEEP_TEST={uuid.uuid4().hex}"
        name, _, value = self.mark.partition("=")
        settings = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "RAY_TMPDIR": str(self.ray)}
        self.environment = os.environ | settings | {name: value}
        self.database, self.tracking = tracking, f"sqlite:///{tracking}"
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script; ours would inherit it
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def start(self, *command: object, folder: Path | None = None, **environment: str) -> Program:
        command = [sys.executable, *map(str, command)]
        return Program(command, folder or self.folder, self.environment | environment)

    def sweep(self, *flags: object, script: Path = REPOSITORY / "sweep" / "run.py", **more: str) -> Program:
        """`sweep/run.py` on the digits with tiny networks, into the folder `sweeps/quick`."""
        given = {str(flag) for flag in flags}
        usual = [word for flag in TINY if flag[0] not in given for word in flag]
        tracking = [] if "--tracking-uri" in given else ["--tracking-uri", self.tracking]
        return self.start(script, *usual, *tracking, *flags, **more)

    def resume(self, name: str = "quick", **more: str) -> Program:
        return self.start("-m", "sweep", "resume", self.folder / "sweeps" / name, **more)

    def runs(self, sweep: str) -> list[tuple[str | None, str, str]]:
        """(trial, status, outcome) of MLflow's runs of a sweep; the parent's trial is None."""
        return self._select(
            "select trial.value, runs.status, outcome.value from runs"
            " join tags sweep on sweep.run_uuid = runs.run_uuid and sweep.key = 'sweep_id'"
            " join tags outcome on outcome.run_uuid = runs.run_uuid and outcome.key = 'outcome'"
            " left join tags trial on trial.run_uuid = runs.run_uuid and trial.key = 'trial_id'"
            " where sweep.value = ?",
            sweep,
        )

    def rows(self, sweep: str) -> list[tuple[str, int, str]]:
        """(trial, epoch, metric) of every row that MLflow holds of a sweep."""
        return self._select(
            "select trial.value, metrics.step, metrics.key from metrics"
            " join tags sweep on sweep.run_uuid = metrics.run_uuid and sweep.key = 'sweep_id'"
            " join tags trial on trial.run_uuid = metrics.run_uuid and trial.key = 'trial_id'"
            " where sweep.value = ?",
            sweep,
        )

    def params(self, sweep: str, trial: str) -> dict[str, str]:
        """The parameters of a trial's run."""
        return dict(
            self._select(
                "select params.key, params.value from params"
                " join tags sweep on sweep.run_uuid = params.run_uuid and sweep.key = 'sweep_id'"
                " join tags trial on trial.run_uuid = params.run_uuid and trial.key = 'trial_id'"
                " where sweep.value = ? and trial.value = ?",
                sweep,
                trial,
            )
        )

    def _select(self, question: str, *values: str) -> list[tuple]:
        with contextlib.closing(sqlite3.connect(self.database)) as database:
            return database.execute(question, values).fetchall()

    def wait_for_processes(self) -> None:
        """Until all that was started here has ended, as it must after its driver did."""
        while self._processes():
            time.sleep(0.1)

    def processes(self, pattern: str) -> list[int]:
        """Processes started here, directly or not, whose command line matches."""
        return [pid for pid, command in self._processes().items() if re.search(pattern, command)]

    def _processes(self) -> dict[int, str]:
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                    found[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ").strip()
            except OSError:  # it has just ended, or is not ours
                continue
        return {pid: command for pid, command in found.items() if command}  # no zombies

    def close(self) -> None:
        while left := self._processes():
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)
        shutil.rmtree(self.ray, ignore_errors=True)


TINY = [
    ("--set", "network=mlp_32_16", "latent_dim=4"),
    ("--samples", "100"),
    ("--epochs", "9"),
    ("--trials", "3"),
    ("--cpus-per-trial", "1"),
    ("--concurrent", "1"),  # each more is a process that imports PyTorch
    ("--name", "quick"),
]


@pytest.fixture
def most_bytes() -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """Context managers in which the system writes files of so many bytes at most: to the writer, a full disk."""

    @contextlib.contextmanager
    def limited(most: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture(scope="session")
def tracking_database(tmp_path_factory) -> Path:
    """One database for all tests, for it takes seconds to make."""
    return tmp_path_factory.mktemp("tracking") / "mlflow.db"


@pytest.fixture
def programs(tmp_path, tracking_database) -> Iterator[Programs]:
    found = Programs(tmp_path, tracking_database)
    yield found
    found.close()


@pytest.fixture(scope="module")
def module_programs(tmp_path_factory, tracking_database) -> Iterator[Programs]:
    found = Programs(tmp_path_factory.mktemp("sweeps"), tracking_database)
    yield found
    found.close()
