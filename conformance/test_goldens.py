"""Every golden, read from Python: by `tempozarr.open`, through the pipeline, by zarr-python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tempozarr
import zarr

from goldens import goldens, same
from independent import independent

if TYPE_CHECKING:
    from pathlib import Path

    from goldens import Golden

pytestmark = [
    pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning"),
    pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning"),
]

# What zarr-python itself cannot read, or reads wrongly, by its version and how the names begin.
ZARR_CANNOT = {
    "3.1.6": {
        "astype-u1-f4": "does not keep `endian`",
        "cast-value": "codec unknown",
        "delta-big-endian-bytes": "reads other values",
        "scale-offset": "codec unknown",
        "structured": "the data type has another name since 3.2",
    },
    "3.4.2": {},
}


def cannot(golden: Golden) -> str | None:
    """Why zarr-python cannot read `golden`, which another release has written."""
    if golden.content["writer"]["zarr"] == zarr.__version__:
        return None
    reasons = ZARR_CANNOT.get(zarr.__version__, {})
    return next((why for name, why in reasons.items() if golden.file.stem.startswith(name)), None)


def selections(shape: tuple[int, ...]) -> list[Any]:
    """Basic selections across the edges of chunks, for an array of `shape`."""
    if not shape:
        return [(), ...]
    length = shape[0]
    found: list[Any] = [
        np.s_[1:],
        np.s_[: length // 2 + 1],
        np.s_[::2],
        np.s_[..., 0:1],
        np.s_[length // 3 : length // 3 + 2, ...],
    ]
    return [*found, np.s_[-1:, ...]] if length else found


def orthogonal(shape: tuple[int, ...]) -> list[Any]:
    """Selections by index and by mask along the first dimension."""
    if not shape or not shape[0]:
        return []
    mask = np.arange(shape[0]) % 2 == 0
    return [mask, np.flatnonzero(mask)[::-1]]


def test_open(golden: Golden, store: Path, not_yet: dict[str, str]) -> None:
    """`tempozarr.open_array` gives the expected bits, whole and in part."""
    error = not_yet.get(golden.file.stem)
    if error is not None:
        with pytest.raises(tempozarr.TempozarrError) as raised:
            tempozarr.open_array(store)[...]
        assert error in str(raised.value)
        return
    array = tempozarr.open_array(store)
    expected = golden.expected
    assert array.shape == expected.shape
    assert same(array[...], expected)
    for selection in selections(expected.shape) + orthogonal(expected.shape):
        assert same(array[selection], expected[selection]), selection


def test_pipeline(golden: Golden, store: Path, not_yet: dict[str, str]) -> None:
    """zarr-python gives the expected bits through our pipeline, without its own help."""
    if why := cannot(golden):
        pytest.skip(f"zarr-python cannot read it: {why}")
    expected = golden.expected
    is_text = expected.dtype.kind in "TO"
    native = not is_text and golden.file.stem not in not_yet
    with tempozarr.enable(strict=native):
        array = zarr.open_array(str(store), mode="r")
        assert same(array[...], expected)
        for selection in selections(expected.shape):
            assert same(array[selection], expected[selection]), selection
        for selection in orthogonal(expected.shape):
            assert same(array.oindex[selection], expected[selection]), selection
    if expected.size and not native and not is_text:
        with tempozarr.enable(strict=True), pytest.raises(tempozarr.TempozarrError):
            zarr.open_array(str(store), mode="r")[...]


@pytest.fixture(scope="session")
def read_by_others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a zarr-python without tempozarr reads of every golden, by its name."""
    folder = tmp_path_factory.mktemp("goldens")
    for golden in goldens():
        golden.unpack(folder / golden.name.replace("/", "!"))
    return {name.replace("!", "/"): read for name, read in independent(folder).items()}


def test_zarr_python(golden: Golden, read_by_others: dict[str, Any]) -> None:
    """The zarr-python of this environment reads it too, so a golden is no release's accident."""
    if cannot(golden):
        assert read_by_others[golden.name] != golden.content["expected"], "it can: off the list"
    else:
        assert read_by_others[golden.name] == golden.content["expected"]


def test_temporal_xor_of_the_wheel(golden: Golden, store: Path) -> None:
    """The codec that zarr-python's own pipelines find by its entry points reads the same."""
    if "temporal_xor" in repr(golden.content["store"]):
        assert same(zarr.open_array(str(store), mode="r")[...], golden.expected)
