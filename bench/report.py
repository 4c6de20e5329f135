"""Tables and a chart from `results.json`: `python bench/report.py [FOLDER]` makes them anew."""

import json
import math
import re
import statistics
import sys
from pathlib import Path
from string import Template
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

from measuring import markdown

HERE = Path(__file__).parent
BEST = "tempozarr a.read(out=)"
# Readers of windows, and the limits (with any number of threads) that they are compared with.
WINDOW_LIMITS = {
    "tempozarr a.windows()": ("zstd alone, chunks of each batch", "memcpy"),
    "tempozarr WindowLoader, epoch, global": ("zstd alone, chunks of each batch", "memcpy"),
    "tempozarr WindowLoader, epoch, chunk": ("zstd alone, each chunk once", "memcpy"),
}
COLOURS = {"peer": "#8795a8", "tempozarr": "#e4572e", "limit": "#2f3b4c"}

Entry = dict[str, Any]


def speed(entry: Entry | None) -> float | None:
    """Return decoded GB/s, or windows a second, if there are times."""
    if not entry or not entry["seconds"]:
        return None
    amount = entry["windows"] or entry["decoded"] / 1e9
    return float(amount / statistics.median(entry["seconds"]))


class Speeds:
    """Entries by competitor and case; the first competitor is the baseline."""

    def __init__(self, entries: list[Entry]) -> None:
        self.names = list(dict.fromkeys(entry["name"] for entry in entries))
        self.cases = list(dict.fromkeys(entry["case"] for entry in entries))
        self._entries = {(entry["name"], entry["case"]): entry for entry in entries}

    def entry(self, name: str, case: str) -> Entry | None:
        """Return the entry of a competitor on a case."""
        return self._entries.get((name, case))

    def ratio(self, name: str, other: str, case: str) -> float | None:
        """Return how many times faster one is than another."""
        ours, theirs = (speed(self.entry(n, case)) for n in (name, other))
        return ours / theirs if ours and theirs else None

    def table(self, head: str, cases: list[str]) -> str:
        """Format GB/s and ratios to the baseline, a competitor a row."""
        rows = [[head, *cases]]
        rows += ([name, *(self.cell(name, case) for case in cases)] for name in self.names)
        return markdown(rows) if cases else "(none in this run)"

    def cell(self, name: str, case: str) -> str:
        """Format a speed and its ratio to the baseline."""
        entry, ratio = self.entry(name, case), self.ratio(name, self.names[0], case)
        fast = speed(entry)
        if not entry or fast is None:
            return "cannot"
        text = f"{fast:,.0f}" if entry["windows"] else f"{fast:.2f}"
        return f"{text} ({ratio:.1f}x)" if ratio else text

    def bars(self, cores: int) -> str:
        """Format how many times faster than the others the best of tempozarr is; limits first."""
        first = {name: self._entries[name, self.cases[0]] for name in self.names}
        ours = {e["threads"]: name for name, e in first.items() if name.startswith(BEST)}
        rows = [["divided by", *self.cases]]
        for other in sorted(self.names, key=lambda name: first[name]["kind"] != "limit"):
            best = ours[first[other]["threads"] or cores]
            if best == other:
                continue
            ratios = [self.ratio(best, other, case) for case in self.cases]
            rows.append([other, *(f"{ratio:.2f}" if ratio else "cannot" for ratio in ratios)])
        return markdown(rows)


def case_rows(cases: dict[str, Any]) -> str:
    """Format the cases as rows of a table."""
    return "\n".join(
        f"| {key} | `{case['array']}` | {case['chain']} | {case['rows']} rows"
        + (f", {case['shard']} in a shard" if case["shard"] else ", not sharded")
        + f" | {case['decoded'] / 1e6:.0f} / {case['stored'] / 1e6:.1f} |"
        for key, case in cases.items()
    )


def process_table(measures: dict[str, list[dict[str, float]]], decoded: int) -> str:
    """Format processor time and memory."""
    if not measures:
        return "(P1 was not in this run)"
    seconds, user, system = (
        statistics.median(run[key] for run in measures["full"])
        for key in ("seconds", "user", "system")
    )
    share = f"{system / user:.2f}" if user else ""
    rate = f"{decoded / seconds / 1e9:.2f} GB/s"
    peak = statistics.median(run["peak"] for run in measures["memory"])
    return markdown(
        [
            ["", "seconds", "user s", "system s", "system/user", ""],
            ["everything", f"{seconds:.2f}", f"{user:.2f}", f"{system:.2f}", share, rate],
            ["memory", "", "", "", "", f"{peak / 1e6:.1f} MB"],
        ]
    )


def window_tables(windows: Speeds, cases: dict[str, Any]) -> str:
    """Format windows a second and MB decoded for one, a table for each size of chunks."""
    tables = []
    for size in dict.fromkeys(cases[case]["rows"] for case in windows.cases):
        some = [case for case in windows.cases if cases[case]["rows"] == size]
        rows = [["windows/s", *(text for case in some for text in (case, "MB"))]]
        for name in windows.names:
            cells = ((windows.cell(name, case), decoded_each(windows, name, case)) for case in some)
            rows.append([name, *(text for pair in cells for text in pair)])
        tables.append(f"### Chunks of {size} rows\n\n{markdown(rows)}")
    return "\n\n".join(tables) or "(none in this run)"


def decoded_each(windows: Speeds, name: str, case: str) -> str:
    """Format the MB that are decoded for one window, if they are known."""
    entry = windows.entry(name, case)
    if not entry or entry["decoded"] is None:
        return ""
    return f"{entry['decoded'] / entry['windows'] / 1e6:.2f}"


def window_limits(windows: Speeds) -> str:
    """Format our windows a second, divided by those of the limits."""
    rows = [["divided", *windows.cases]]
    for ours, limits in WINDOW_LIMITS.items():
        for other in windows.names:
            if other.startswith(limits):
                ratios = [windows.ratio(ours, other, case) for case in windows.cases]
                cells = [f"{ratio:.2f}" if ratio else "cannot" for ratio in ratios]
                rows.append([f"{ours} / {other}", *cells])
    return markdown(rows)


def cannot(entries: list[Entry]) -> str:
    """List what competitors refused, and what they warned of, in their own words."""
    said: dict[str, dict[str, None]] = {}
    for entry in entries:
        for text in [entry["cannot"], *entry["notes"]]:
            if text:
                verb = "cannot" if text == entry["cannot"] else "warns"
                line = f"**{entry['name'].partition(':')[0]}** {verb}: `{words(text)}`"
                said.setdefault(line, {})[entry["case"]] = None
    lines = [f"- {line} ({', '.join(cases)})" for line, cases in sorted(said.items())]
    return "\n".join(lines) or "Everybody read everything."


def words(error: str) -> str:
    """Shorten an error: no folders, and nothing of what tensorstore adds about itself."""
    error = re.sub(r"/\S*/stores/\S*/", "", error.split(" [tensorstore_spec=", maxsplit=1)[0])
    return " ".join(error.split()).replace("`", "'")


def chart(results: dict[str, Any], picture: Path) -> None:
    """Draw a panel of bars for each case."""
    speeds = Speeds(results["reads"])
    names = [
        entry["name"]
        for entry in results["reads"]
        if entry["case"] == speeds.cases[0]
        and entry["threads"] in {None, results["cores"]}
        and not entry["name"].startswith("memcpy")
    ]
    columns = min(4, len(speeds.cases))
    rows = math.ceil(len(speeds.cases) / columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(2.2 + 2.9 * columns, 1 + 2.9 * rows),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat[len(speeds.cases) :]:
        axis.set_axis_off()
    for axis, case in zip(axes.flat, speeds.cases, strict=False):
        about = results["cases"][case]
        entries = [speeds.entry(name, case) for name in names]
        values = [speed(entry) or 0 for entry in entries]
        colours = [COLOURS[entry["kind"]] for entry in entries if entry]
        bars = axis.barh(names, values, color=colours, height=0.8)
        labels = [f"{value:.2f}" if value else "cannot" for value in values]
        axis.bar_label(bars, labels, padding=3, fontsize=8)
        axis.set_xlim(0, 1.2 * max(values))
        sharded = "" if about["shard"] else ", not sharded"
        title = f"{case}: {about['array']}, {about['rows']} rows{sharded}\n{about['chain']}"
        axis.set_title(title, fontsize=8)
        axis.tick_params(labelsize=8)
        axis.locator_params(axis="x", nbins=4)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].invert_yaxis()
    host, _, versions = results["machine"].partition("; ")
    figure.suptitle(f"Reading zarr arrays, decoded GB/s (more is better): {host}", fontsize=13)
    figure.supxlabel(versions, fontsize=8, color="grey")
    picture.parent.mkdir(exist_ok=True)
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def write(folder: Path) -> str:
    """Write the page and its chart beside `results.json`; return the page."""
    results = json.loads((folder / "results.json").read_text())
    reads, writes, windows = (Speeds(results[part]) for part in ("reads", "writes", "windows"))
    cases = results["cases"]
    if reads.cases:
        chart(results, folder / "images" / "benchmarks.png")
    kernels = folder / "kernels.txt"
    busy = results["load"] > 1 + results["cores"] / 2
    page = Template((HERE / "template.md").read_text()).substitute(
        {key: results[key] for key in ("machine", "date", "repeats", "symbol")},
        size=f"{results['size']:g}",
        load=f" The machine was busy: a load of {results['load']:.1f}." if busy else "",
        cases=case_rows(cases),
        filtered=reads.table("GB/s", [case for case in reads.cases if cases[case]["filters"]]),
        plain=reads.table("GB/s", [case for case in reads.cases if not cases[case]["filters"]]),
        best=BEST,
        bars=reads.bars(results["cores"]),
        writes=writes.table("GB/s", writes.cases),
        windows=window_tables(windows, cases),
        window_limits=window_limits(windows),
        processes=process_table(
            results.get("processes", {}), cases["P1"]["decoded"] if "P1" in cases else 0
        ),
        cannot=cannot(results["reads"] + results["writes"] + results["windows"]),
        kernels=f"\n## Kernels\n\n```text\n{kernels.read_text().strip()}\n```\n"
        if kernels.exists()
        else "",
    )
    page = page.rstrip() + "\n"
    (folder / "benchmarks.md").write_text(page)
    return page


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "output")
