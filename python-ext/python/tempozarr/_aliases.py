"""Codec names that a user declared to mean one of ours."""

from tempozarr import _core

aliases: set[str] = set()


def register_alias(name: str, target: str) -> None:
    """Read codec `name` as codec `target`, in this process.

    For stores whose codec was registered under another name: with
    `register_alias("my_company.xor", "temporal_xor")` they open unchanged, and
    `tempozarr.CodecPipeline` runs codec `my_company.xor` in Rust, whatever class implements it
    in zarr-python.

    Raises
    ------
    ValueError
        If `target` is no codec of tempozarr.
    """
    _core.register_alias(name, target)
    aliases.add(name)
