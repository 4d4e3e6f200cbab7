"""Names of the files in a sweep's folder."""

from fnmatch import fnmatch

RECORD = "record.jsonl"
CONFIG = "config.yaml"
REQUESTS = "requests"  # folder of requests to the driver, a file each, until they are in the record
CHECKPOINT = "checkpoint.pt"  # in trials/NAME/, until the trial ends
REPORTED = "reported.pt"  # in trials/NAME/: the next checkpoint, until the record has the report of its epoch
HUNG = "hung.txt"  # in trials/NAME/: stack of a training that hung
TRACEBACK = "traceback.txt"  # in trials/NAME/: of the error of the last attempt
WEIGHTS = "model.safetensors"  # in trials/NAME/, winners/STUDY/ and hand_tuned/STUDY/

OF_THE_MACHINE = ("*.lock", "*.holder", "tracking-*", "ray", ".*", "*.part")  # locks, positions, Ray's, partial files


def belongs(name: str) -> bool:
    """Return whether a file or folder of this name is part of the sweep, and not specific to the machine."""
    return not any(fnmatch(name, pattern) for pattern in OF_THE_MACHINE)
