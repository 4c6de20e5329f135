"""Zarr stores of time series, read and written by Rust.

`tempozarr.open` indexes local stores like numpy, without zarr-python; `tempozarr.enable` makes
zarr-python itself decode and encode in Rust; `tempozarr.codecs` has our codecs for zarr-python.
Nothing here imports zarr-python until something that needs it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tempozarr._aliases import register_alias
from tempozarr._array import (
    Array,
    Explanation,
    Group,
    open,  # noqa: A004
    open_array,
    open_group,
)
from tempozarr._core import __version__
from tempozarr._errors import CodecError, MetadataError, StoreError, TempozarrError

if TYPE_CHECKING:
    from tempozarr import codecs
    from tempozarr._pipeline import CodecPipeline, disable, enable, pipeline_stats

__all__ = [
    "Array",
    "CodecError",
    "CodecPipeline",
    "Explanation",
    "Group",
    "MetadataError",
    "StoreError",
    "TempozarrError",
    "__version__",
    "codecs",
    "disable",
    "enable",
    "open",
    "open_array",
    "open_group",
    "pipeline_stats",
    "register_alias",
]


def __getattr__(name: str) -> Any:
    if name == "codecs":
        return import_module("tempozarr.codecs")
    if name in {"CodecPipeline", "disable", "enable", "pipeline_stats"}:
        return getattr(import_module("tempozarr._pipeline"), name)
    raise AttributeError(f"module 'tempozarr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
