"""Zarr stores of time series, read and written by Rust.

`tempozarr.open` indexes stores like numpy, in folders and at URLs, without zarr-python;
`tempozarr.enable` makes zarr-python itself decode and encode in Rust; `tempozarr.codecs` has our
codecs for zarr-python.
`tempozarr.Writer` appends rows to a store that `tempozarr.schema` describes and `tempozarr.plan`
lays out; `tempozarr.copy` makes such a store of another one, and `tempozarr.advise` measures which
codecs suit it. `tempozarr.info` tells what is in a store, `tempozarr.verify` whether it is sound:
`python -m tempozarr --help` has them as commands. `tempozarr.WindowLoader` gives batches of
windows, for training; `tempozarr.torch` has them as tensors. Nothing here imports zarr-python or
torch until something needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tempozarr._aliases import register_alias
from tempozarr._array import (
    Array,
    Explanation,
    Group,
    ReadStats,
    open,  # noqa: A004
    open_array,
    open_group,
)
from tempozarr._core import __version__
from tempozarr._errors import (
    CodecError,
    LimitError,
    MetadataError,
    StoreError,
    TempozarrError,
)
from tempozarr._limits import Limits, limits, set_limits

if TYPE_CHECKING:
    from tempozarr import codecs, schema, schemas
    from tempozarr import torch as torch
    from tempozarr._advice import Advice, ArrayAdvice, Candidate
    from tempozarr._advise import advise
    from tempozarr._copy import copy
    from tempozarr._info import Info, info
    from tempozarr._loader import LoaderStats, WindowLoader
    from tempozarr._pipeline import CodecPipeline, disable, enable, pipeline_stats
    from tempozarr._plan import Plan, plan
    from tempozarr._progress import Progress
    from tempozarr._report import CopyReport
    from tempozarr._verify import Fault, VerifyReport, verify
    from tempozarr._windows import Field
    from tempozarr._writer import Writer

__all__ = [
    "Advice",
    "Array",
    "ArrayAdvice",
    "Candidate",
    "CodecError",
    "CodecPipeline",
    "CopyReport",
    "Explanation",
    "Fault",
    "Field",
    "Group",
    "Info",
    "LimitError",
    "Limits",
    "LoaderStats",
    "MetadataError",
    "Plan",
    "Progress",
    "ReadStats",
    "StoreError",
    "TempozarrError",
    "VerifyReport",
    "WindowLoader",
    "Writer",
    "__version__",
    "advise",
    "codecs",
    "copy",
    "disable",
    "enable",
    "info",
    "limits",
    "open",
    "open_array",
    "open_group",
    "pipeline_stats",
    "plan",
    "register_alias",
    "schema",
    "schemas",
    "set_limits",
    "verify",
]

# What is not needed for reading alone, and where it is.
_LATER = {
    "Advice": "_advice",
    "ArrayAdvice": "_advice",
    "Candidate": "_advice",
    "advise": "_advise",
    "CodecPipeline": "_pipeline",
    "CopyReport": "_report",
    "copy": "_copy",
    "disable": "_pipeline",
    "enable": "_pipeline",
    "Fault": "_verify",
    "Field": "_windows",
    "Info": "_info",
    "info": "_info",
    "LoaderStats": "_loader",
    "WindowLoader": "_loader",
    "pipeline_stats": "_pipeline",
    "Plan": "_plan",
    "plan": "_plan",
    "Progress": "_progress",
    "VerifyReport": "_verify",
    "verify": "_verify",
    "Writer": "_writer",
}


def __getattr__(name: str) -> Any:
    if name in {"codecs", "schema", "schemas", "torch"}:
        return import_module(f"tempozarr.{name}")
    if name in _LATER:
        return getattr(import_module(f"tempozarr.{_LATER[name]}"), name)
    raise AttributeError(f"module 'tempozarr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__  # without `torch`: whoever goes through all names may not have it
