"""Measure which codecs suit real series, and draw size against speed: docs/choosing-codecs.md.

Order books, times and trades are those of data/; series of sensors are read from a package that
ships some, if it is there: `pip install --no-deps aeon`.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import tempozarr
from measuring import BOOKS, machine, markdown, warn_if_busy

GOALS = ("balanced", "smallest", "fastest")


def market() -> dict[str, np.ndarray]:
    """Read the series of one market; `mid` is the middle of best bid and best ask."""
    store = tempozarr.open_group(BOOKS / "cm-btcusd")
    raw = store["book_raw"][...]
    series = {name: store[name][...] for name in ("book", "book_raw", "time_ms", "recv_ns", "flow")}
    return series | {"mid": (raw[:, 0, 0].astype("f8") + raw[:, 25, 0]) / 2}


def sensors() -> dict[str, np.ndarray]:
    """Read what aeon has: accelerations of a walking patient, and a blood pressure."""
    found = find_spec("aeon")
    if found is None or found.origin is None:
        return {}
    folder = Path(found.origin).parent / "datasets/data"
    walk = folder / "Daphnet_S06R02E0/S06R02E0.csv"
    pressure = folder / "KDD-TSAD_135/135_UCR_Anomaly_InternalBleeding16_TEST.csv"
    read = {"delimiter": ",", "skip_header": 1}
    return {
        "acceleration": np.genfromtxt(walk, usecols=range(1, 10), dtype="i2", **read),
        "acceleration, as float32": np.genfromtxt(walk, usecols=range(1, 10), dtype="f4", **read),
        "blood pressure": np.genfromtxt(pressure, usecols=1, dtype="f4", **read),
    }


def main() -> None:
    """Measure, print a table, and draw if asked."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    arguments.add_argument("--seconds", type=float, default=5, help="time for each series")
    arguments.add_argument("--picture", type=Path, help="where to draw size against speed")
    options = arguments.parse_args()
    warn_if_busy()
    series = market() | sensors()
    advice = tempozarr.advise(series, seconds=options.seconds * len(series))
    rows = [["series", "by default", "", *(cell for goal in GOALS for cell in (goal, ""))]]
    for name, array in advice.items():
        usual = array.default
        row = [name, usual.chain, f"{usual.ratio:.2f}"]
        for goal in GOALS:
            best = array.candidate(goal)
            faster = best.decode_gbs / usual.decode_gbs
            row += [best.chain, f"**{best.ratio:.2f}**, {faster:.1f}x as fast"]
        rows.append(row)
    print(markdown(rows))
    print(f"\n{machine()}")
    if options.picture:
        advice.plot(options.picture)
        print(f"drawn: {options.picture}")
    print(f"\n{advice['book']}")


if __name__ == "__main__":
    main()
