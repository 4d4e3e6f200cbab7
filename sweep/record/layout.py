"""Names of the files in a sweep's folder."""

RECORD = "record.jsonl"
CONFIG = "config.yaml"
CHECKPOINT = "checkpoint.pt"  # in trials/NAME/, while the trial may go on
HUNG = "hung.txt"  # there as well: where a training stood that made no step any more
TRACEBACK = "traceback.txt"  # there as well: of the error that the last attempt failed with
WEIGHTS = "model.safetensors"  # in trials/NAME/, winners/STUDY/ and hand_tuned/STUDY/
