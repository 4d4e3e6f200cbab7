"""`python -m trainables.evaluate FOLDER`: see trainables/evaluate/score.py."""

from trainables.evaluate.score import PROG, main
from trainables.flags import run

if __name__ == "__main__":
    run(PROG, main)
