"""A pytest plugin that records outcomes, and makes `tempozarr.CodecPipeline` the default pipeline.

`ZARR_CODEC_PIPELINE__PATH` chooses the pipeline of zarr-python's tests, also where these reset the
configuration. Some name the default one instead, to run once with each pipeline that zarr-python
has: if ours is chosen, that name leads to it too.

`RECORD` names the file for the outcomes and, if ours is chosen, `tempozarr.pipeline_stats()`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

DEFAULT = "zarr.core.codec_pipeline.BatchedCodecPipeline"
OURS = "tempozarr.CodecPipeline"

_is_ours = os.environ.get("ZARR_CODEC_PIPELINE__PATH") == OURS
_outcomes: dict[str, str] = {}


def pytest_sessionstart() -> None:
    """Lead zarr-python to our pipeline by both names."""
    import zarr
    from zarr.registry import _collect_entrypoints, get_pipeline_class

    if _is_ours:
        ours = get_pipeline_class()
        for registry in _collect_entrypoints():
            if registry.get(OURS) is ours:
                registry.register(ours, DEFAULT)
    with zarr.config.set({"codec_pipeline.path": DEFAULT}):
        names = {
            f"{found.__module__}.{found.__qualname__}"
            for found in (get_pipeline_class(), get_pipeline_class(reload_config=True))
        }
    if names != {OURS if _is_ours else DEFAULT}:
        raise pytest.UsageError(f"expected one pipeline, got {names}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the worst outcome of set-up, call and tear-down."""
    if report.failed or (report.nodeid not in _outcomes and report.outcome != "passed"):
        _outcomes[report.nodeid] = report.outcome
    elif report.when == "call":
        _outcomes.setdefault(report.nodeid, report.outcome)


def pytest_sessionfinish() -> None:
    """Write the record."""
    record: dict[str, object] = {"outcomes": _outcomes}
    if _is_ours:
        import tempozarr

        record["stats"] = tempozarr.pipeline_stats()
    Path(os.environ["RECORD"]).write_text(json.dumps(record, indent=1))
