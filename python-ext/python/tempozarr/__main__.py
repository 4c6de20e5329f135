"""The command `tempozarr`; `tempozarr --help` teaches it."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tempozarr
from tempozarr._array import located
from tempozarr._errors import StoreError, TempozarrError
from tempozarr._objects import Prefix
from tempozarr._text import counted, in_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tempozarr._plan import Layout
    from tempozarr._progress import Progress
    from tempozarr._writer import Schema

FAULTS, FAILED, INTERRUPTED = 1, 3, 130

_HELP = f"""\
Look at stores of time series in zarr, check them, and encode them anew.

exit status:
  0    done, and nothing is wrong
  1    verify found faults, or differences
  2    the command is wrong
  3    it cannot be done: no store there, no room, ...; stderr says why, in a line
  {INTERRUPTED}  interrupted (Ctrl-C); what is stored stays valid
"""
_INFO = """\
Draw the tree of a store: shapes, data types, chunks and shards, codecs, whether they run in one
pass ("fused") or why not, sizes, and how many chunks are not stored. No chunk is opened, so that
large stores are quick, too.
"""
_VERIFY = """\
Decode every stored chunk, on all cores, and name each one that is damaged: array, index of the
chunk (and of the subchunk in a shard), rows, file. The store is only read; memory stays small.

Damage that decodes, to other values, cannot be seen in an array without a checksum; verify says
which these are. Chunks that are not stored are fill value by the rules of zarr: --complete calls
them faults.
"""
_ADVISE = """\
Measure, on a sample of the rows, which chain of codecs and which chunks suit an array or the arrays
of a group: stored size against speed of decoding, on this machine. Recommended are a "smallest", a
"fastest" and a "balanced" one, which `copy --advise` uses. The store is only read.
"""
_COPY = """\
Encode a store of zarr v2 or v3 anew, as zarr v3: with a layout for its way of reading, and with
other codecs if wanted. Attributes, names and values are kept. The target is a valid store at any
moment, of the rows so far: interrupt with Ctrl-C, go on with --resume.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; give the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        left = arguments.left(arguments) if arguments.left else ""
        return _complain(f"interrupted{left}", INTERRUPTED)
    except BrokenPipeError:
        # Nobody reads on, as behind `| head`; Python would flush once more, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (TempozarrError, ImportError, OSError, TypeError, ValueError) as e:
        return _complain("; ".join([str(e), *getattr(e, "__notes__", ())]), FAILED)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "tempozarr",
        description=_HELP,
        epilog="`tempozarr COMMAND --help` has the options of each, and examples.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=tempozarr.__version__)
    parser.set_defaults(left=None)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[Any], int], short: str, text: str, *examples: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=short,
            description=text,
            epilog="\n  ".join(["examples:", *examples]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(run=run)
        return added

    info = command(
        "info",
        _info,
        "what is in a store",
        _INFO,
        "tempozarr info books.zarr",
        "tempozarr info books.zarr/book --json | jq '.arrays[].ratio'",
    )
    info.add_argument("path", metavar="PATH", help="an array or a group")

    verify = command(
        "verify",
        _verify,
        "decode everything, name what is damaged",
        _VERIFY,
        "tempozarr verify books.zarr && echo sound",
        "tempozarr verify books.zarr --against backup/books.zarr",
        "tempozarr verify books.zarr --json | jq '.faults[] | .array + \"/\" + .file'",
    )
    verify.add_argument("path", metavar="PATH", help="an array or a group")
    verify.add_argument(
        "--complete", action="store_true", help="every chunk has to be stored, and every subchunk"
    )
    verify.add_argument(
        "--against", metavar="OTHER", help="compare every bit with that store, as rows of values"
    )

    advise = command(
        "advise",
        _advise,
        "which codecs and chunks suit the data",
        _ADVISE,
        "tempozarr advise books.zarr",
        "tempozarr advise books.zarr/book --access windows --window 512 --plot book.png",
        "tempozarr advise books.zarr --max-error 0.01 --seconds 120",
    )
    advise.add_argument("path", metavar="PATH", help="an array or a group")
    _reading(advise)
    advise.add_argument(
        "--max-error",
        type=float,
        metavar="E",
        help="how far floats may be off (default: not at all)",
    )
    advise.add_argument(
        "--relative", action="store_true", help="--max-error is a part of each value"
    )
    advise.add_argument(
        "--seconds", type=float, default=30.0, metavar="S", help="time for all (default: 30)"
    )
    advise.add_argument(
        "--plot", metavar="FILE", help="draw size against speed, as .png, .svg, ..."
    )

    copy = command(
        "copy",
        _copy,
        "encode a store anew",
        _COPY,
        "tempozarr copy old.zarr new.zarr --verify",
        "tempozarr copy old.zarr new.zarr --advise balanced --access windows --window 512",
        "tempozarr copy old.zarr new.zarr --schema market.json --resume",
    )
    copy.add_argument("source", metavar="SRC", help="an array or a group")
    copy.add_argument("target", metavar="DST", help="where to: a folder that does not exist")
    codecs = copy.add_mutually_exclusive_group()
    codecs.add_argument(
        "--advise",
        metavar="GOAL",
        choices=["balanced", "smallest", "fastest"],
        help="codecs and layout as `tempozarr advise` recommends: balanced, smallest or fastest",
    )
    codecs.add_argument(
        "--schema",
        metavar="JSON",
        help="file of a tempozarr.schema: GroupSchema(...).model_dump_json(); default: same codecs",
    )
    existing = copy.add_mutually_exclusive_group()
    existing.add_argument(
        "--resume", action="store_true", help="go on where DST ends, if it is there"
    )
    existing.add_argument("--overwrite", action="store_true", help="begin anew in the place of DST")
    copy.add_argument("--verify", action="store_true", help="read DST back, and compare every bit")
    _reading(copy)
    copy.set_defaults(left=_left)

    for added in commands.choices.values():
        added.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--access",
        choices=["scan", "windows"],
        default="scan",
        help="how it will be read: from beginning to end (the default), or by windows of rows",
    )
    parser.add_argument("--window", type=int, metavar="ROWS", help="rows of a window")


def _info(arguments: Any) -> int:
    found = tempozarr.info(arguments.path)
    if arguments.json:
        arrays = {
            path: asdict(array) | {"missing": array.missing, "ratio": array.ratio}
            for path, array in found.arrays.items()
        }
        return _print_json(asdict(found) | {"arrays": arrays})
    return _print(str(found))


def _verify(arguments: Any) -> int:
    line = _Line()

    def told(fault: tempozarr.Fault) -> None:
        line.clear()
        _print(str(fault))

    report = tempozarr.verify(
        arguments.path,
        complete=arguments.complete,
        against=arguments.against,
        progress=line,
        **({} if arguments.json else {"found": told}),
    )
    line.clear()
    if arguments.json:
        _print_json({"path": arguments.path, "ok": report.ok} | asdict(report))
    else:
        _print(report.summary())
    return 0 if report.ok else FAULTS


def _advise(arguments: Any) -> int:
    line = _Line()
    advice = tempozarr.advise(
        arguments.path,
        access=arguments.access,
        window=arguments.window,
        max_error=arguments.max_error,
        relative=arguments.relative,
        seconds=arguments.seconds,
        progress=line,
    )
    line.clear()
    if arguments.plot:
        advice.plot(arguments.plot)
    return _print(advice.as_json() if arguments.json else str(advice))


def _copy(arguments: Any) -> int:
    if not arguments.resume and not arguments.overwrite and _is_store(arguments.target):
        raise StoreError(
            f"expected nothing at {arguments.target}, found a store: --resume goes on where it "
            "ends, --overwrite begins anew in its place"
        )
    line = _Line()
    schema, layout = _codecs(arguments, line)
    report = tempozarr.copy(
        arguments.source,
        arguments.target,
        schema,
        layout=layout,
        access=arguments.access,
        window=arguments.window,
        verify=arguments.verify,
        overwrite=arguments.overwrite,
        progress=line,
    )
    line.clear()
    if arguments.json:
        totals = ("rows", "nbytes", "stored_before", "stored_after", "verified")
        return _print_json(
            {"source": arguments.source, "target": arguments.target}
            | {name: getattr(report, name) for name in totals}
            | asdict(report)
        )
    return _print(str(report))


def _codecs(arguments: Any, line: _Line) -> tuple[Schema | None, Layout | None]:
    """Give the schema and the layout that were asked for."""
    if arguments.schema:
        return _schema(arguments.schema), None
    if not arguments.advise:
        return None, None
    if not arguments.overwrite and _is_store(arguments.target):
        # To go on: another measurement may recommend other codecs.
        return _as_begun(arguments.target), None
    advice = tempozarr.advise(
        arguments.source, access=arguments.access, window=arguments.window, progress=line
    )
    return advice.best(arguments.advise), advice.layout(arguments.advise)


def _as_begun(target: str) -> Schema:
    """Give the schema of a target, with the encodings that its sizes tell if it has rows."""
    from tempozarr.schema import schema_of

    schema = schema_of(target)
    with contextlib.suppress(ValueError):
        schema = tempozarr.advise(target, candidates=[], seconds=5).now()
    return schema


def _left(arguments: Any) -> str:
    """Say what an interrupted copy has left."""
    if _is_store(arguments.target):
        return f": {arguments.target} has the rows so far; --resume goes on there"
    return ": nothing was written"


def _is_store(path: str) -> bool:
    root, inside = located(path)
    if isinstance(root, Prefix):  # which cannot be written to
        return False
    folder = Path(root, inside)
    return any((folder / name).exists() for name in ("zarr.json", ".zgroup", ".zarray"))


def _schema(file: str) -> Schema:
    from tempozarr.schema import ArraySchema, GroupSchema

    document = json.loads(Path(file).read_bytes())
    kind = ArraySchema if isinstance(document, dict) and "dtype" in document else GroupSchema
    return kind.model_validate(document)


class _Line:
    """Progress in one line of the terminal that stderr is; nothing if it is none."""

    def __init__(self) -> None:
        self._shown = False

    def __call__(self, progress: Progress) -> None:
        if sys.stderr.isatty():
            number = in_bytes if progress.unit == "bytes" else lambda rows: counted(rows, "row")
            share = f"{progress.done / progress.total:4.0%} of " if progress.total else ""
            amount = number(progress.total or progress.done)
            text = f"{progress.what}: {share}{amount}, {progress.seconds:.0f} s"
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
            self._shown = True

    def clear(self) -> None:
        """Make room for other lines."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


def _print(text: str) -> int:
    sys.stdout.write(_shown(text) + "\n")
    return 0


def _shown(text: str) -> str:
    """Spell out what a terminal might obey, or not show: names and messages come from stores."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text
    )


def _print_json(document: Any) -> int:
    return _print(json.dumps(_finite(document), indent=2))


def _finite(value: Any) -> Any:
    """Spell the floats that JSON has not."""
    if isinstance(value, dict):
        return {key: _finite(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(below) for below in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _complain(text: str, status: int) -> int:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
    sys.stderr.write(f"tempozarr: {_shown(text)}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
