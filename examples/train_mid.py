"""Train a small model on real order books, stop in the middle, and go on as if nothing had been.

    make train

The model sees 128 books and says whether the mid price will be lower, the same or higher 64 books
later. Then the same training with what `WindowLoader` replaces: worker processes in which
zarr-python reads one window after the other. Losses, speeds and waiting are printed as they are.
"""

import argparse
import itertools
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from measuring import BOOKS, machine, markdown, warn_if_busy
from tempozarr import Field, WindowLoader
from tempozarr.torch import WindowDataset

STORE = BOOKS / "cm-btcusd"
CHECKPOINT = Path(__file__).parent / "output" / "train_mid.pt"
ROWS, AHEAD, BATCH, SEED = 128, 64, 64, 1
TRAIN, VALID = 0.8, 0.2  # of the rows, in the order of time
BIDS, ASKS, PRICE = 0, 25, 0

Batch = dict[str, torch.Tensor]


def loader() -> WindowLoader:
    """Describe the batches: the books of a window, its last one in USD, and a later one."""
    return WindowLoader(
        STORE,
        {
            "books": Field("book", dtype="float16"),
            "now": Field("book_raw", length=1, horizon=0),
            "later": Field("book_raw", length=1, horizon=AHEAD),
        },
        length=ROWS,
        batch_size=BATCH,
        shuffle="chunk",
        seed=SEED,
        time="time_ms",
        max_gap=2_000,
        drop_last=True,
    )


class Model(nn.Module):
    """Logits of lower, the same, higher; from the best levels, lately and over the window.

    Small on purpose: seven minutes of a market are few examples, however many windows they have.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.BatchNorm1d(40, affine=False),  # prices and sizes have scales of their own
            nn.Linear(40, 16),
            nn.GELU(),
            nn.Dropout(0.3),
            nn.Linear(16, 3),
        )

    def forward(self, books: torch.Tensor) -> torch.Tensor:
        """Take books as they are stored, in float16: (windows, rows, 50, 3)."""
        best = torch.cat((books[:, :, BIDS : BIDS + 5], books[:, :, ASKS : ASKS + 5]), dim=2)
        values = best[..., :2].flatten(2).float()
        return self.net(torch.cat((values[:, -8:].mean(dim=1), values.mean(dim=1)), dim=1))


def moves(batch: Batch) -> torch.Tensor:
    """0: the mid price will be lower, 1: the same, 2: higher."""
    if "move" in batch:
        return batch["move"]
    now, later = (
        batch[name][:, 0, BIDS, PRICE] + batch[name][:, 0, ASKS, PRICE] for name in ("now", "later")
    )
    return torch.sign(later - now).long() + 1


@dataclass
class Training:
    """A model, its optimizer, and what its steps took."""

    model: Model = field(default_factory=Model)
    windows: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def __post_init__(self) -> None:
        """Make the optimizer."""
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.1)

    def step(self, batch: Batch) -> None:
        """Learn from a batch."""
        loss = nn.functional.cross_entropy(self.model(batch["books"]), moves(batch))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def run(self, batches: Iterator[Batch], steps: int) -> None:
        """Do some steps, and count the time that they take and in which they wait for batches.

        The first batch is not counted: for it, workers and threads are started.
        """
        self.model.train()
        self.step(next(batches))
        start = time.perf_counter()
        for _ in range(steps - 1):
            asked = time.perf_counter()
            batch = next(batches)
            self.waited += time.perf_counter() - asked
            self.step(batch)
            self.windows += len(batch["books"])
        self.seconds += time.perf_counter() - start

    @torch.no_grad()
    def loss(self, batches: WindowDataset) -> float:
        """Mean over windows that were not trained on."""
        self.model.eval()
        total = windows = 0
        for batch in batches:
            answer = self.model(batch["books"])
            total += nn.functional.cross_entropy(answer, moves(batch), reduction="sum").item()
            windows += len(answer)
        return total / windows

    def save(self, path: Path, batches: WindowDataset) -> None:
        """Save all that is needed to go on behind the last step."""
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save(state | {"batches": batches.state_dict()}, path)

    def load(self, path: Path, batches: WindowDataset) -> dict[str, Any]:
        """Go on from there; return where that is."""
        saved = torch.load(path)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        batches.load_state_dict(saved["batches"])
        return saved["batches"]

    def row(self, name: str) -> list[str]:
        """Row of the table."""
        speed, share = self.windows / self.seconds, self.waited / self.seconds
        return [name, f"{speed:,.0f}", f"{share:.1%}", f"{self.seconds:.1f}"]


def epochs(dataset: WindowDataset) -> Iterator[Batch]:
    """Yield batches for ever, from where the dataset is."""
    for epoch in itertools.count(dataset.epoch):
        dataset.set_epoch(epoch)
        yield from DataLoader(dataset, batch_size=None)


def some(batches: Iterator[Batch]) -> list[torch.Tensor]:
    """Take the books of five batches."""
    return [batch["books"] for batch in itertools.islice(batches, 5)]


def frequencies(batches: WindowDataset) -> torch.Tensor:
    """Shares of lower, the same, higher."""
    counts = sum(torch.bincount(moves(batch), minlength=3) for batch in batches)
    return counts / counts.sum()


# -- what it replaces --------------------------------------------------------------------------


class ZarrWindows(Dataset):
    """The same windows, each read by zarr-python on its own. Mid prices are in memory already."""

    def __init__(self, rows: int, mid: np.ndarray) -> None:
        self.windows = rows - ROWS - AHEAD + 1
        self.mid = mid
        self.book: Any = None

    def __len__(self) -> int:
        return self.windows

    def __getitem__(self, i: int) -> Batch:
        if self.book is None:  # in the worker
            warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr")
            self.book = zarr.open_array(STORE / "book", mode="r")
        books = self.book[i : i + ROWS].astype("float16")
        now, later = self.mid[i + ROWS - 1], self.mid[i + ROWS - 1 + AHEAD]
        return {
            "books": torch.from_numpy(books),
            "move": torch.tensor(int(np.sign(later - now)) + 1),
        }


def zarr_batches(steps: int) -> DataLoader:
    """Read with two worker processes, in the usual way."""
    raw = zarr.open_array(STORE / "book_raw", mode="r")
    mid = np.asarray(raw[:, BIDS, PRICE]) + np.asarray(raw[:, ASKS, PRICE])
    windows = ZarrWindows(int(TRAIN * len(mid)), mid)
    # Not more than are asked for, or workers would go on reading when the training is over.
    sampler = RandomSampler(windows, num_samples=steps * BATCH)
    # Spawned: torch has threads here already, which a fork would leave behind.
    return DataLoader(
        windows, BATCH, sampler=sampler, num_workers=2, multiprocessing_context="spawn"
    )


# -- the story ---------------------------------------------------------------------------------


def main() -> int:
    """Train; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400, help="default: %(default)s")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, help="default: %(default)s")
    args = parser.parse_args()
    # zarr-python says this of every numcodecs codec; here they are the point.
    warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3")
    args.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    half = args.steps // 2

    torch.manual_seed(SEED)
    parts = loader().split(train=TRAIN, valid=VALID)
    print(parts["train"].describe(), end="\n\n")
    warn_if_busy()
    dataset, valid = WindowDataset(parts["train"]), WindowDataset(parts["valid"])
    # Of loaders of their own: those that are timed find nothing decoded.
    others = loader().split(train=TRAIN, valid=VALID)
    shares, expected = (frequencies(WindowDataset(part)) for part in others.values())
    guess = -(expected * shares.log()).sum().item()
    training = Training()
    print("Loss on the last fifth of the rows (lower is better):")
    print(f"  {guess:.3f} of one who knows how often each move happened before, and no books")
    print(f"  {training.loss(valid):.3f} of the model before training")

    batches = epochs(dataset)
    training.run(batches, half)
    training.save(args.checkpoint, dataset)
    print(f"  {training.loss(valid):.3f} after {half} steps; saved to {args.checkpoint.name}")
    next_ones = some(batches)

    counted = training.windows, training.seconds, training.waited
    del training, dataset, batches, parts
    torch.manual_seed(SEED + 1)
    training = Training(Model(), *counted)
    dataset = WindowDataset(loader().split(train=TRAIN, valid=VALID)["train"])
    place = training.load(args.checkpoint, dataset)
    if not all(map(torch.equal, some(epochs(dataset)), next_ones)):
        print("CHECK FAILED: the batches do not go on where they stopped", file=sys.stderr)
        return 1
    print(f"  (all made anew: goes on at window {place['position']:,} of epoch {place['epoch']},")
    print("  and the next 5 batches are in every bit those that came next before)")

    training.load(args.checkpoint, dataset)
    training.run(epochs(dataset), args.steps - half)
    print(f"  {training.loss(valid):.3f} after {args.steps} steps\n")

    torch.manual_seed(SEED)
    other = Training()
    other.run(iter(zarr_batches(args.steps)), args.steps)
    print("The same model and as many steps with zarr-python in 2 worker processes, which decode")
    print("a chunk or two for each window, where the loader keeps them in memory:")
    print(f"  {other.loss(valid):.3f} after {args.steps} steps, in another order\n")

    table = [
        ["batches from", "windows a second", "of the time waiting for them", "seconds"],
        training.row("tempozarr.WindowLoader, no workers"),
        other.row("zarr-python, 2 workers"),
    ]
    print(f"{args.steps} steps of {BATCH} windows ({machine('torch')}):\n\n{markdown(table)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
