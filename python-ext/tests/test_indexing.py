"""Indexing: what `zarr.Array` gives; where it refuses, what numpy gives, errors included."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tempozarr
from conftest import ARRAYS, equal

i = np.array
S = slice
X = Ellipsis
N = None
MASK7 = i([True, False, True, True, False, False, True])
ONE_DIMENSIONAL: list[Any] = [
    (), X, 0, -1, 10, 11, -12, np.int64(3), np.uint8(3), np.uint64(3), (1,), (1, X), (X, 1), (1, 2),
    S(None), S(2, 9), S(2, 9, 3), S(-3, None), S(9, 2), S(50, 60), S(None, None, -1), S(9, 2, -3),
    S(1.5, 3), S(0, 5, 0), S(np.int64(1), np.int64(7)),
    [1, 2], [2, 1, 1, 10], [-1, -11], [11], [], [[1, 2], [3, 4]], [True] * 11, [True] * 10, [1.5],
    (i([1, 2]),), i([[1, 2], [3, 4]]), i(3), i(-1), i([3], "u1"), i([1.0]),
    np.zeros(11, bool), np.ones(11, bool), np.arange(11) % 3 == 0, np.zeros(10, bool),
    True, False, np.True_, i(True), N, (N, 1), (1, N), (S(1, 3), N), (N, [1, 2]), (True, [1]),
    "x", b"x", 1.5, {1}, range(3), (X, X), object(), [None],
]  # fmt: skip
THREE_DIMENSIONAL: list[Any] = [
    (), 0, -7, 7, (0, 1), (0, 1, 2), (np.int64(0), 1, 2), (0, 1, X), (0, 1, 2, X), (0, 1, 2, 3),
    (S(1, 6, 2), 1), (S(None), S(None, None, 3), -1), (X, -1), (X, S(None, None, -1)),
    (S(None, None, -2), 1, S(2, 0, -1)), (S(0, 0),), (S(4, 2), X, S(None)),
    ([0, 1], [0, 1], [0, 1]), ([0, 1], 0, 1), ([0, 1], np.int64(0), 1), ([0, 1], 0, S(None)),
    (0, S(None), [1, 2]), (np.int64(0), S(None), [1, 2]), (0, X, [1, 2]), (0, S(None, None, -1), [1]),
    ([0, 1], S(None), [1, 2]), ([0, 1], [1, 2]), (X, [1, 2]), ([0, 1], X), ([5, -7, 0, 0],),
    ([0, 1], [0, 1, 2], 0), ([0, 1], [0, 1, 2], S(None)), ([7], 0, 0), ([7],), ([], [], []), [],
    (i([6, 6, 1]), S(None, None, 2), 0), np.ix_([0, 1], [1, 2], [0]), ([[0], [1]], [0, 1], 0),
    ([[0], [1]], S(None)), (i(1), 0, 0), (i(1), S(None)), (S(None), i(1)), (i(1), 0, [0, 1]),
    MASK7, (MASK7,), list(MASK7), (MASK7, [1, 2], [0, 1]), (MASK7, S(1, 4), 0), (MASK7, MASK7[:5], 0),
    MASK7[:5], (S(None), MASK7[:5]), (S(None), np.zeros(5, bool)), np.ones((7, 5), bool),
    (np.arange(35).reshape(7, 5) % 3 == 0, 1), (0, np.arange(20).reshape(5, 4) % 3 == 0),
    np.arange(140).reshape(7, 5, 4) % 7 == 0, np.zeros((7, 5, 4), bool), np.ones((5, 7, 4), bool),
    (True, 0), (N, 0), (0, N, [1, 2]), (X, N), (True, [1, 2], S(None), [0, 1]), "x", (0, "x"),
]  # fmt: skip
TABLE: dict[str, list[Any]] = {
    "one": ONE_DIMENSIONAL,
    "three": THREE_DIMENSIONAL,
    "scalar": [(), X, 0, S(None), True, False, N, i(1), [0], i(True), (X, N), (0, 0), []],
    "empty": [(), X, 0, (X, 0), S(None), S(None, None, -1), [], (S(None), [2, 0]), np.ones((0, 3), bool)],
    "sharded": [(), 12, S(3, 11, 2), (S(None, None, -1), 1), ([12, 0, 7, 0], S(1, 4)), ([1, 9], [2, 4])],
}  # fmt: skip
OTHERS: list[Any] = [
    (), X, 1, S(1, 5, 2), S(None, None, -1), [4, 0, 0], S(3, 3), [-1], (np.int64(1), X),
]  # fmt: skip
TABLE["blobs"] = OTHERS[:-1]  # zarr-python's scalars are arrays of one, of another type
CASES = [
    (name, s)
    for name in ARRAYS
    for s in TABLE.get(name, OTHERS)
    if ARRAYS[name][0].ndim or name in TABLE
]


def expected(array: Any, data: Any, selection: Any) -> tuple[Any, Exception | None]:
    """What the law says: the result, or numpy's error."""
    try:
        return array[selection], None
    except Exception:  # noqa: BLE001
        try:
            return data[selection], None
        except (IndexError, TypeError, ValueError) as e:
            return None, e


def check(folder: Path, name: str, selection: Any) -> None:
    theirs = zarr.open_array(folder / name, mode="r")
    ours = tempozarr.open_array(folder / name)
    want, error = expected(
        theirs, theirs[...] if theirs.shape else np.asarray(theirs[...]), selection
    )
    if error is None:
        equal(ours[selection], want)
    else:
        with pytest.raises(type(error)) as caught:
            ours[selection]
        assert str(caught.value) == str(error)


@pytest.mark.parametrize(("name", "selection"), CASES, ids=repr)
def test_getitem(stores: Path, name: str, selection: Any) -> None:
    check(stores, name, selection)


@pytest.mark.parametrize("name", ARRAYS)
def test_memory_order_and_data_type_of_a_whole_array(stores: Path, name: str) -> None:
    theirs = zarr.open_array(stores / name, mode="r")
    ours = tempozarr.open_array(stores / name)
    equal(ours[...], theirs[...])
    assert ours.dtype == theirs.dtype
    if ours.metadata["zarr_format"] == 2 and ours.ndim:
        assert ours[...].flags.f_contiguous == np.asarray(theirs[...]).flags.f_contiguous


@pytest.mark.parametrize(
    "selection",
    [
        (), 0, (0, 0, 0), (X, 1), ([0, 1], [0, 1], [0, 1]), ([6, 0, 0],), (MASK7, [0]), (0, MASK7[:5]),
        (S(None, None, 3), [1], -1), ([], [0]), (np.uint64(3),), i([1, 2], "u1"), list(MASK7),
    ],
    ids=repr,
)  # fmt: skip
def test_oindex(stores: Path, selection: Any) -> None:
    ours = tempozarr.open_array(stores / "three").oindex[selection]
    if isinstance(selection, tuple) and [] in [s for s in selection if isinstance(s, list)]:
        selection = (i([], int), *selection[1:])  # zarr-python takes an empty list for floats
    equal(ours, zarr.open_array(stores / "three", mode="r").oindex[selection])


def test_oindex_takes_negative_steps(stores: Path) -> None:
    want = ARRAYS["three"][0][::-2][:, [3, 1]]
    equal(tempozarr.open_array(stores / "three").oindex[::-2, [3, 1]], want)


@pytest.mark.parametrize(
    "selection",
    [
        (0, 0, 0), ([0, 1], [0, 1], [0, 1]), ([[0], [1]], [0, 1], 0), ([6, -7, 0, 6], [0], -1),
        np.arange(140).reshape(7, 5, 4) % 7 == 0, (i([], int),) * 3,
    ],
    ids=repr,
)  # fmt: skip
def test_vindex(stores: Path, selection: Any) -> None:
    equal(
        tempozarr.open_array(stores / "three").vindex[selection],
        zarr.open_array(stores / "three", mode="r").vindex[selection],
    )


@pytest.mark.parametrize(
    ("how", "selection"),
    [
        ("oindex", (0, 0, 0, 0)), ("oindex", ([[0]],)), ("oindex", 7), ("oindex", MASK7[:5]),
        ("oindex", [1.5]), ("oindex", N), ("oindex", np.ones((7, 5), bool)), ("oindex", "x"),
        ("vindex", 0), ("vindex", (S(None), 0, 0)), ("vindex", ([7], 0, 0)), ("vindex", MASK7),
        ("vindex", ([0, 1], [0, 1, 2], 0)), ("vindex", ([1.5], 0, 0)),
    ],
    ids=repr,
)  # fmt: skip
def test_oindex_and_vindex_refuse(stores: Path, how: str, selection: Any) -> None:
    with pytest.raises(IndexError, match=f"{how} expects"):
        getattr(tempozarr.open_array(stores / "three"), how)[selection]


def test_unsigned_indices(stores: Path) -> None:
    """zarr-python 3.1 turns those of 64 bits into floats, and refuses them."""
    equal(tempozarr.open_array(stores / "one")[i([3, 1], "u8")], i([3, 1]))


def test_huge_unsigned_indices_do_not_wrap_around(stores: Path) -> None:
    with pytest.raises(IndexError, match="index 18446744073709551615 is out of bounds for axis 0"):
        tempozarr.open_array(stores / "one")[i([2**64 - 1], "u8")]


def test_zarr_arrays_and_numpy_lookalikes_select(stores: Path) -> None:
    ours, mask = tempozarr.open_array(stores / "one"), np.arange(11) % 2 == 0
    picks = zarr.array([3, 1])
    equal(ours[picks], ARRAYS["one"][0][[3, 1]])
    equal(ours[zarr.array(mask)], ARRAYS["one"][0][mask])


@st.composite
def selections(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Basic selections with arrays of indices and masks strewn in, right and wrong ones."""
    basic = draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True))
    items: list[Any] = list(basic) if isinstance(basic, tuple) else [basic]
    for at in range(len(items)):
        kind = draw(st.sampled_from(["keep"] * 4 + ["list", "array", "mask"]))
        size = shape[min(at, len(shape) - 1)]
        if kind == "list":
            items[at] = draw(st.lists(st.integers(-size, size - 1), max_size=5))
        elif kind == "array":
            picks = hnp.array_shapes(max_dims=2, max_side=3)
            items[at] = draw(hnp.arrays(np.int64, picks, elements=st.integers(-size, size - 1)))
        elif kind == "mask":
            items[at] = draw(hnp.arrays(np.bool_, size))
    return items[0] if len(items) == 1 and draw(st.booleans()) else tuple(items)


@pytest.mark.hypothesis  # the examples are drawn inside
@pytest.mark.parametrize("name", ["three", "sharded", "v2_f", "strings"])
def test_any_selection(stores: Path, name: str) -> None:
    @given(selections(ARRAYS[name][0].shape))
    def law(selection: Any) -> None:
        check(stores, name, selection)

    law()
