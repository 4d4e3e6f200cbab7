"""What an evaluation costs: scores of 2,048 and 10,000 images, and a trial's end beside a rung.

    python tests/benchmarks/evaluate.py [--dataset digits] [--data-root data] [--metric fcd] [--threads 1]

Processor seconds, which other programs on the machine lengthen little; on a GPU add --device cuda. Beside them stands
how many images went through the extractor, which is most of what makes a trial's end dearer than a rung.
"""

import argparse
import time
from collections.abc import Callable

import torch
from threadpoolctl import threadpool_limits

from trainables import Config, Evaluator, fit
from trainables.datasets import load
from trainables.metrics import Scores, extractor
from trainables.paper import paper_point


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-root", default="data")
    parser.add_argument("--metric", default="fcd")
    parser.add_argument("--fid-weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--methods", nargs="+", default=["vae", "gae"])
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    threadpool_limits(a.threads)
    splits = load(a.dataset, a.data_root)
    net = extractor(a.metric, splits, fid_weights=a.fid_weights, device=a.device)
    for n in (2048, 10_000):
        for scores in (("distance",), ("distance", "kid", "neighbourhoods")):
            gathered, images = Scores(net, scores), torch.rand(n, *splits.shape)

            def score(gathered=gathered, images=images) -> None:
                for batch in images.split(256):
                    gathered.update(batch)
                gathered.against(splits.test.images[:10_000])

            if n == 2048:
                score()  # the first call fills the cache and starts the libraries
                gathered.__init__(net, scores)
            wall, processor = seconds(score)
            print(f"{n} images, {' '.join(scores)}: {wall:.2f} s, {processor:.2f} s of processor", flush=True)
    evaluator = Evaluator(splits, a.metric, fid_weights=a.fid_weights, device=a.device)
    images = torch.tensor(splits.train.images, device=a.device)
    for name in a.methods:
        config = Config(method=name, dataset=splits.name, values=paper_point(name, splits, None), epochs=1)
        *_, last = fit(config, images[:2000])
        evaluator(last.method, images, final=True)  # the first call fills the cache and starts the libraries here too
        threadpool_limits(a.threads)  # of scikit-learn, which that has loaded
        found = []
        for final in (False, True):
            seen: list[int] = []
            counting = evaluator.extractor.network.register_forward_pre_hook(
                lambda _, given, seen=seen: seen.append(len(given[0]))
            )
            wall, processor = seconds(lambda final=final, last=last: evaluator(last.method, images, final=final))
            counting.remove()
            found.append((processor, sum(seen)))
            what = f"{name}, {'final' if final else 'rung '}: {sum(seen)} images"
            print(f"{what}, {wall:.2f} s, {processor:.2f} s of processor", flush=True)
        (rung, few), (end, many) = found
        print(f"{name}, final over rung: {end / rung:.1f} of processor seconds, {many / few:.1f} of images")


if __name__ == "__main__":
    main()
