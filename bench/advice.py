"""Whether advice holds: candidates of `tempozarr.advise` beside stores that were written by them.

python bench/advice.py [STORE]     # by default the example data

Every candidate of every array that was measured on the whole sample is written, and read as a whole
in turns. Sizes are compared, and the order of speeds: of all pairs of which the store says that one
is faster by `--apart` and more, of how many does advice say so of the other one?
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

import tempozarr

BOOKS = Path(__file__).parents[1] / "examples/data/books.zarr"


@dataclass
class Real:
    """A candidate, and the store that it made."""

    advised: tempozarr.Candidate
    array: tempozarr.Array
    stored: int
    seconds: float = np.inf

    def read(self, out: np.ndarray) -> None:
        """Read it once more."""
        began = time.perf_counter()
        self.array.read(out=out)
        self.seconds = min(self.seconds, time.perf_counter() - began)


def convert(advice: tempozarr.ArrayAdvice, rows: np.ndarray, folder: Path) -> list[Real]:
    """Write each candidate; check that all is read back."""
    found = []
    for n, candidate in enumerate(c for c in advice.candidates if not c.screened):
        path = folder / str(n)
        layout = advice.layout(candidate)
        with tempozarr.Writer(path, advice.best(candidate), layout=layout) as writer:
            writer.append(rows)
        array = tempozarr.open_array(path)
        if array[...].tobytes() != rows.tobytes():
            raise AssertionError(f"{advice.path}: {candidate.chain} is read back differently")
        found.append(Real(candidate, array, tempozarr.info(path).stored_nbytes))
    return found


def compare(advice: tempozarr.ArrayAdvice, rows: np.ndarray, turns: int, apart: float) -> str:
    """Measure the stores of one array; say how right advice is."""
    with tempfile.TemporaryDirectory() as folder:
        reals = convert(advice, rows, Path(folder))
        out = np.empty_like(rows)
        until = time.monotonic() + 1
        while turns > 0 or time.monotonic() < until:
            turns -= 1
            for real in reals:
                real.read(out)
    errors = [real.advised.stored / real.stored for real in reals]
    pairs = [sorted(pair, key=lambda r: r.seconds) for pair in combinations(reals, 2)]
    clear = [(fast, slow) for fast, slow in pairs if slow.seconds > fast.seconds * (1 + apart)]
    wrong = [
        (fast, slow)
        for fast, slow in clear
        if slow.advised.speed > fast.advised.speed * (1 + apart)
    ]
    told = f"size {min(errors):.3f} to {max(errors):.3f} of the store's"
    order = f"{len(wrong)} of {len(clear)} pairs in another order"
    lines = [f"{advice.path}: {len(reals)} candidates; {told}; {order}"]
    by_candidate = {id(real.advised): real for real in reals}
    best, default = (by_candidate[id(c)] for c in (advice.candidate("balanced"), advice.default))
    lines.append(
        f"    balanced: {best.advised.chain}: {default.stored / best.stored:.2f} times smaller and "
        f"{default.seconds / best.seconds:.2f} times as fast as {default.advised.chain}"
    )
    for fast, slow in wrong:
        names = [f"{real.advised.chain} in {real.advised.chunk_rows}" for real in (fast, slow)]
        lines.append(
            f"    {' before '.join(names)}: {slow.seconds / fast.seconds:.2f} times as fast, "
            f"advised as {fast.advised.speed / slow.advised.speed:.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Compare every array of a store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("store", nargs="?", type=Path, default=BOOKS)
    parser.add_argument("--seconds", type=float, default=180, help="of advice")
    parser.add_argument("--turns", type=int, default=60, help="of reading")
    parser.add_argument("--apart", type=float, default=0.1, help="least difference of a pair")
    options = parser.parse_args()
    store = tempozarr.open_group(options.store)
    advice = tempozarr.advise(store, seconds=options.seconds)
    for path, array in advice.items():
        print(compare(array, store[path][...], options.turns, options.apart), flush=True)


if __name__ == "__main__":
    main()
