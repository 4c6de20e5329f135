"""The pictures that the demo draws: the order book, and who read how fast."""

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.dates as mdates
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.image import AxesImage

import tempozarr

OURS, OTHERS = ("#e4572e", "#f2a65a", "#ffcf99"), ("#4a5568", "#8795a8")


def heat_map(group: Path, picture: Path) -> Path:
    """Draw the book of one market over time: where orders wait, coloured by their size."""
    store = tempozarr.open_group(group)
    raw, book, time_ms = (np.asarray(store[n][...]) for n in ("book_raw", "book", "time_ms"))
    time = time_ms.astype("datetime64[ms]")

    figure, axes = plt.subplots(2, 1, figsize=(12, 9), sharex=True, layout="constrained")
    market = store.attrs["market"]
    figure.suptitle(f"{market}: orders waiting at the best 25 prices of each side", fontsize=14)
    colours = LogNorm(*np.percentile(raw[..., 1], [5, 99.5]))
    image = draw_book(axes[0], time, raw[..., 0], raw[..., 1], price_step=0.5, colours=colours)
    axes[0].set_ylabel("price (USD)")
    axes[0].set_title(f"book_raw: {len(raw):,} books", fontsize=10)
    size = np.expm1(book[..., 1])
    draw_book(axes[1], time, book[..., 0], size, price_step=0.04, colours=colours)
    axes[1].set_ylabel("price relative to mid (basis points)")
    axes[1].set_title("book: the same, normalised for float16", fontsize=10)
    axes[1].set_ylim(-4, 4)
    axes[1].set_xlabel(f"time of {time[0].astype('datetime64[D]')} (UTC)")
    figure.colorbar(image, ax=axes, label=f"size (unit: {store.attrs['size_unit']})", pad=0.01)
    figure.savefig(picture, dpi=130)
    plt.close(figure)
    return picture


def draw_book(
    axes: Axes,
    time: np.ndarray,
    price: np.ndarray,
    size: np.ndarray,
    *,
    price_step: float,
    colours: LogNorm,
) -> AxesImage:
    """Draw sizes on a grid of time and price: each column shows the last book before its end."""
    columns = np.linspace(time[0].astype(int), time[-1].astype(int), 1200)
    rows = np.searchsorted(time.astype(int), columns, side="right") - 1
    price, size = price[rows], size[rows]
    prices = np.arange(price.min() - price_step / 2, price.max() + price_step, price_step)
    level = np.digitize(price, prices) - 1
    grid = np.zeros((len(prices), len(rows)))
    np.add.at(grid, (level, np.arange(len(rows))[:, None]), size)
    start, end = mdates.date2num(time[[0, -1]])
    image = axes.imshow(
        np.ma.masked_equal(grid, 0),
        norm=colours,
        extent=(start, end, prices[0], prices[-1] + price_step),
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap="inferno",
    )
    axes.set_facecolor("black")
    axes.xaxis_date()
    axes.xaxis.set_major_formatter(mdates.DateFormatter("%H:%M:%S"))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    return image


def bar_chart(speeds: dict[str, dict[str, float]], caption: str, picture: Path) -> Path:
    """Draw decoded GB/s for each array (outer keys) and each reader (inner keys)."""
    readers = list(next(iter(speeds.values())))
    ours, others = iter(OURS), iter(OTHERS)
    height = 0.8 / len(readers)
    figure, axes = plt.subplots(figsize=(10, 6), layout="constrained")
    for i, reader in enumerate(readers):
        values = [speed[reader] for speed in speeds.values()]
        bars = axes.barh(
            np.arange(len(values)) + i * height,
            values,
            height * 0.92,
            label=reader,
            color=next(ours if "tempozarr" in reader else others),
        )
        axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    axes.set_yticks(np.arange(len(speeds)) + height * (len(readers) - 1) / 2, list(speeds))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("decoded GB/s, whole array, more is better")
    figure.legend(
        title="Reading zarr arrays",
        title_fontsize="x-large",
        frameon=False,
        loc="outside upper center",
        ncols=len(readers),
        fontsize="small",
    )
    figure.text(0.99, -0.01, caption, ha="right", va="top", fontsize=6, color="grey")
    figure.savefig(picture, dpi=130, bbox_inches="tight")
    plt.close(figure)
    return picture
