"""Images per second of our engine beside pythae's trainer and a plain DataLoader loop.

The same VAE (MLP 500-500-2000, batch 100, Adam 1e-3, BCE, or as flags say) on the same images, the three taking turns
within one process, so that a slow minute of the machine hits all of them. A fourth does nothing but the matrix
products of such a step and torch's fused Adam, which all of them need: how far ahead an engine could be at most.
Prints medians and ratios; asserts nothing.

    pip install pythae
    python tests/benchmarks/train.py --dataset mnist --data-root DIR --rounds 5
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from trainables.config import Config
from trainables.datasets import load
from trainables.methods.vae import VAE
from trainables.training import Training

Values = dict[str, float | int | str]


def ours(images: torch.Tensor, values: Values) -> Callable[[], None]:
    config = Config(method="vae", dataset="benchmark", values=values, epochs=10_000)
    return Training(config, images).run_epoch


def plain(images: torch.Tensor, values: Values) -> Callable[[], None]:
    """What a tutorial writes: a DataLoader over float images and an eager loop."""
    method = VAE(VAE.Hyper(**values), tuple(images.shape[1:])).to(images.device)
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-3)
    batches = DataLoader(
        TensorDataset(images.cpu().float() / 255), batch_size=values["batch_size"], shuffle=True, drop_last=True
    )

    def epoch() -> None:
        total = 0.0
        for (x,) in batches:
            loss = method.loss(x.to(images.device)).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()

    return epoch


def pythae(images: torch.Tensor, values: Values) -> Callable[[], None]:
    """pythae's own VAE and BaseTrainer around the same encoder and decoder."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE as PythaeVAE
    from pythae.models import VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    shape = tuple(images.shape[1:])
    method = VAE(VAE.Hyper(**values), shape)

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = method.encoder

        def forward(self, x: torch.Tensor) -> ModelOutput:
            mean, log_var = self.net(x).chunk(2, dim=1)
            return ModelOutput(embedding=mean, log_covariance=log_var)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = method.decoder

        def forward(self, z: torch.Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.net(z).sigmoid())

    model = PythaeVAE(
        VAEConfig(input_dim=shape, latent_dim=values["latent_dim"], reconstruction_loss="bce"),
        Encoder(),
        Decoder(),
    )
    data = BaseDataset(images.cpu().float() / 255, torch.zeros(len(images)))
    settings = BaseTrainerConfig(
        output_dir=mkdtemp(), num_epochs=10_000, learning_rate=1e-3, per_device_train_batch_size=values["batch_size"],
        optimizer_cls="Adam", no_cuda=images.device.type == "cpu",
    )  # fmt: skip
    trainer = BaseTrainer(model, data, training_config=settings)
    trainer.prepare_training()
    return lambda: trainer.train_step(1)


def floor(images: torch.Tensor, values: Values) -> Callable[[], None]:
    """The products of the linear layers, forwards and backwards, into memory that is there already, and Adam."""
    method = VAE(VAE.Hyper(**values), tuple(images.shape[1:])).to(images.device)
    batch, weights = values["batch_size"], [m.weight for m in method.modules() if isinstance(m, nn.Linear)]
    ins = [torch.rand(batch, weight.shape[1], device=images.device) for weight in weights]  # (B, I)
    outs = [torch.rand(batch, weight.shape[0], device=images.device) for weight in weights]  # (B, O)
    to_ins = [torch.empty_like(x) for x in ins]
    for weight in weights:
        weight.grad = torch.empty_like(weight)
    optimiser = torch.optim.Adam(weights, lr=1e-3, fused=True)

    def step() -> None:
        for i, (weight, x, out) in enumerate(zip(weights, ins, outs, strict=True)):
            torch.mm(x, weight.t(), out=outs[i])
            torch.mm(out.t(), x, out=weight.grad)
            if i:  # nobody asks for the gradient of the images
                torch.mm(out, weight, out=to_ins[i])
        optimiser.step()

    @torch.no_grad()
    def epoch() -> None:
        for _ in range(len(images) // batch):
            step()

    return epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--network", default="mlp_500_500_2000")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    images = torch.tensor(load(flags.dataset, flags.data_root).train.images[: flags.images], device=flags.device)
    values = {
        "latent_dim": 10, "learning_rate": 1e-3, "likelihood": "bce", "batch_size": flags.batch,
        "network": flags.network,
    }  # fmt: skip
    engines = {"ours": ours, "pythae": pythae, "plain loop": plain, "floor": floor}
    runners = {name: engine(images, values) for name, engine in engines.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for round_ in range(flags.rounds + 1):
        for name, epoch in runners.items():
            start = time.perf_counter()
            epoch()
            if images.device.type == "cuda":
                torch.cuda.synchronize()
            if round_:  # the first one warms up
                seconds[name].append(time.perf_counter() - start)
    trained = len(images) // flags.batch * flags.batch
    where = torch.cuda.get_device_name() if images.device.type == "cuda" else f"CPU, {flags.threads} threads"
    print(
        f"{flags.dataset} {tuple(images.shape)}, {flags.network}, batch {flags.batch}, {where}, "
        f"median of {flags.rounds} rounds"
    )
    for name, times in seconds.items():
        ratio = statistics.median(theirs / own for theirs, own in zip(times, seconds["ours"], strict=True))
        print(f"{name:<12} {trained / statistics.median(times):>9.0f} images/s   ours is {ratio:.2f} x")
    most = statistics.median(t / p for t, p in zip(seconds["pythae"], seconds["floor"], strict=True))
    print(f"torch's products and Adam alone would be {most:.2f} x pythae: no engine made of them can be further ahead")


if __name__ == "__main__":
    main()
