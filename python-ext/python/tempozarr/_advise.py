"""`advise`: which chain of codecs and which chunks suit an array, measured on a sample of it."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import index
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tempozarr import _chains
from tempozarr._advice import Advice, ArrayAdvice, Candidate, eligible, frontier, recommend
from tempozarr._array import Array, Group
from tempozarr._candidates import (
    Chain,
    Filters,
    Narrowing,
    chain_of,
    encodings,
    expanded,
    filters,
    first,
    narrowings,
    readers,
)
from tempozarr._compare import rounds
from tempozarr._config import size_pool
from tempozarr._copy import _stored
from tempozarr._errors import MetadataError
from tempozarr._jobs import Job, naming, pair
from tempozarr._plan import _ceil, _floor, _samples, check_access, chunked, sharded
from tempozarr._progress import Reporter
from tempozarr._sources import AT_ONCE, blocks, find, place_of, read_rows, stored_document
from tempozarr._trial import Sample, Trial, Windows
from tempozarr.schema import ArraySchema, GroupSchema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from tempozarr._array import Source
    from tempozarr._progress import Report

_MIB = 1 << 20
_RUN_NBYTES = 4 * _MIB
_FIRST_LOOK = 4 * _MIB
_LEAST_CHUNK = 64 << 10
_MOST_CHUNK_ROWS = 1 << 16
# Parts of the time that an array has: by then, the stage of that name is over.
_CHECKED, _LOOKED, _EXPANDED, _ENCODED = 0.35, 0.5, 0.65, 0.9
_KEPT_FILTERS, _KEPT = 6, 14
_IN_ANY_CASE = 4  # of each stage, however short the time is
_LEAST_ROUNDS, _ROUNDS, _MOST_ROUNDS = 3, 40, 1000
_TIMED_FOR = 0.02  # seconds of decoding of each candidate: small arrays take more rounds
# A candidate is given up when another one is better in both respects, and by so much in all.
_BY_FAR = 1.25
_MUCH_SLOWER = 5
# What transposing may cost before other filters are tried: they may make it good.
_BADLY = 1.5
_MOST_CORRECTION = 1.1


def advise(
    source: Source
    | Array
    | Group
    | ArrayLike
    | Mapping[str, ArrayLike]
    | ArraySchema
    | GroupSchema,
    *,
    sample: ArrayLike | Mapping[str, ArrayLike] | None = None,
    access: Literal["scan", "windows"] = "scan",
    window: int | None = None,
    max_error: float | None = None,
    relative: bool = False,
    candidates: Sequence[Sequence[Any]] | None = None,
    sample_bytes: int = 64 * _MIB,
    seconds: float = 30.0,
    seed: int = 0,
    progress: Report = False,
) -> Advice:
    """Measure which codecs and chunks suit an array, or the arrays of a group.

    Rows from all over an array are encoded by many chains, and decoded again, in memory and by all
    threads of this library on this machine: with and without a narrower type, XOR, delta, shuffle
    and transposition, with zstd, LZ4, Blosc and pcodec, in chunks of several sizes. What is
    clearly worse after a first look is not measured any further. Print what comes back.

    Recommended for "smallest" is the least size, for "fastest" the highest speed of decoding (or of
    windows), and for "balanced" what gains most in both against the chain that a schema has by
    default (with float16 if no value loses by it): the lesser of the two gains is the largest,
    where 1.4 times smaller counts as much as 2 times faster. It takes at most 400 times as long to
    encode as to decode, and of nearly equal ones (5 %) it is one that plain zarr-python reads.
    Speed is of decoding alone: a slow disk or network makes small sizes faster.

    Parameters
    ----------
    source
        A store, as for `tempozarr.open`, or what it returned, or a `zarr.Array` or `zarr.Group` of
        any store; or rows as a numpy array, or several by their names; or a schema, with a sample.
    sample
        Rows `(n, *row_shape)` of the array of a schema, or of its arrays by their paths.
    access, window
        How the arrays will be read: see `tempozarr.plan`. For "windows", speed is the number of
        windows a second that are read at random places.
    max_error
        Largest error that floats may have after being read back; None for none: every bit is the
        same, of NaN and -0.0 too. Infinities and NaN never change.
    relative
        Whether `max_error` is a part of each value instead of an absolute number.
    candidates
        Chains to measure instead of the usual ones, as for the `codecs` of a schema. What a store
        uses, and what an `ArraySchema` has by default, is always among them.
    sample_bytes
        Decoded bytes of the rows of an array that are looked at; smaller arrays are as a whole.
        A few times as much memory is used.
    seconds
        Time for all arrays, about. What there is no time for is left out.
    seed
        Of the choice of rows. With the same one, equal candidates have equal sizes.
    progress
        A function of a `tempozarr.Progress`, or True for a bar (needs tqdm).

    Returns
    -------
    What was measured and what is recommended, by array: print or plot it, or give `best()` and
    `layout()` to `Writer` or `copy`.

    Notes
    -----
    A narrower type is recommended if no value in the array loses by it. All rows are checked for
    that, in order, as long as there is time; `ArrayAdvice.checked` says how many were.

    Raises
    ------
    ValueError
        If a parameter cannot be, or there are no rows.
    MetadataError
        If no schema describes the only array (no dimensions, a data type of variable length), or a
        chain among the candidates cannot be.
    StoreError
        If there is nothing to open.

    Examples
    --------
    >>> import numpy as np, tempozarr
    >>> ticks = np.cumsum(np.random.default_rng(0).integers(0, 100, 10_000))
    >>> advice = tempozarr.advise(ticks)
    >>> advice[""].candidate("smallest").ratio > 4
    True
    >>> with tempozarr.Writer("ticks.zarr", advice.best(), layout=advice.layout()) as writer:
    ...     writer.append(ticks)
    """
    began = time.monotonic()
    window = None if window is None else index(window)
    _check(access, window, max_error, sample_bytes, seconds)
    size_pool()
    subjects, skipped, group = _subjects(source, sample)
    for path, subject in list(subjects.items()):
        if reason := subject.unfit(window):
            if group is None:
                raise ValueError(f"{reason}; give it more, or another array")
            skipped[path] = reason
            del subjects[path]
    if not subjects:
        raise ValueError(f"expected at least one array to measure, got {skipped or 'none'}")
    settings = _Settings(window, max_error, relative, candidates, sample_bytes, seed)
    report = Reporter(progress, sum(s.rows for s in subjects.values()), "advising")
    found = {}
    done = 0
    try:
        by_size = sorted(subjects, key=lambda path: subjects[path].nbytes)
        for n, path in enumerate(by_size):
            subject = subjects[path]
            now = time.monotonic()
            share = max(seconds - (now - began), 0.0) / (len(by_size) - n)
            measured = _Measured(subject, settings, now, share, lambda part: report(done + part))  # noqa: B023
            with subject.naming():
                found[path] = measured.advice()
            done += subject.rows
            report(done, now=True)
    finally:
        report.close()
    return Advice(
        {path: found[path] for path in subjects}, skipped, time.monotonic() - began, group
    )


def _check(
    access: str, window: int | None, max_error: float | None, sample_bytes: int, seconds: float
) -> None:
    check_access(access, window)
    if max_error is not None and not 0 <= max_error < math.inf:
        raise ValueError(
            f"max_error: expected a number of 0 or more, or None for no error, got {max_error}"
        )
    if sample_bytes < 1 or not seconds > 0:
        raise ValueError(
            f"sample_bytes, seconds: expected positive numbers, got {sample_bytes} and {seconds}"
        )


@dataclass(frozen=True)
class _Settings:
    window: int | None
    max_error: float | None
    relative: bool
    candidates: Sequence[Sequence[Any]] | None
    sample_bytes: int
    seed: int


@dataclass(frozen=True)
class _Subject:
    """An array to measure, stored or in memory."""

    path: str
    schema: ArraySchema
    job: Job | None  # of a store
    memory: NDArray[Any] | None
    current: Chain | None

    @property
    def rows(self) -> int:
        return self.job.rows if self.job else len(self.memory)  # type: ignore[arg-type]

    @property
    def nbytes(self) -> int:
        return self.rows * self.schema.row_nbytes

    @property
    def chunk_rows(self) -> int | None:
        """Rows of a chunk in the store."""
        return self.job.array.chunks[0] if self.job else None

    def unfit(self, window: int | None) -> str | None:
        """Why it cannot be measured."""
        if self.rows >= (window or 1):
            return None
        wanted = "rows" if window is None else f"at least one window of {window:,} rows"
        return f"{self.path or self.schema.name}: expected {wanted}, got {self.rows:,} rows"

    def read(self, start: int, stop: int, out: NDArray[Any]) -> None:
        """Read rows into memory."""
        if self.job:
            read_rows(self.job.array, start, stop, out)
        else:
            out[...] = self.memory[start:stop]  # type: ignore[index]

    def blocks(self) -> Iterator[NDArray[Any]]:
        """All rows, in order."""
        step = max(AT_ONCE // self.schema.row_nbytes, 1)
        if self.job:
            chunk_rows = self.job.array.chunks[0]
            yield from blocks(self.job.array, 0, self.rows, max(step // chunk_rows, 1) * chunk_rows)
        else:
            for start in range(0, self.rows, step):
                yield np.ascontiguousarray(self.memory[start : start + step])  # type: ignore[index]

    def naming(self) -> Any:
        """Note in errors which array they are about."""
        return naming(self.job, "measuring") if self.job else contextlib.nullcontext()


def _subjects(
    source: Any, sample: Any
) -> tuple[dict[str, _Subject], dict[str, str], GroupSchema | None]:
    """Arrays to measure; those that cannot be, and why; and the group that they are in."""
    if isinstance(source, ArraySchema | GroupSchema):
        if sample is None:
            raise ValueError("sample: expected rows of the arrays of the schema, got None")
        arrays = dict(source.walk())
        single = isinstance(source, ArraySchema)
        samples = _samples(sample, arrays, single=single)
        found = {
            path: _Subject(path, arrays[path], None, rows, _current(arrays[path]))
            for path, rows in samples.items()
        }
        skipped = {path: "the sample has no rows of it" for path in arrays if path not in samples}
        return found, skipped, None if single else source  # type: ignore[return-value]
    if sample is not None:
        raise ValueError("sample: expected none, as the source has rows itself: leave it out")
    if isinstance(source, np.ndarray):
        schema, rows = _described("array", source)
        return {"": _Subject("", schema, None, rows, None)}, {}, None
    if isinstance(source, Mapping) and not isinstance(source, Group):
        pairs = {
            str(name): _described(str(name), np.asarray(rows)) for name, rows in source.items()
        }
        group = GroupSchema(arrays=[schema for schema, _ in pairs.values()])
        return {n: _Subject(n, s, None, r, None) for n, (s, r) in pairs.items()}, {}, group
    return _stored_subjects(source)


def _described(name: str, rows: NDArray[Any]) -> tuple[ArraySchema, NDArray[Any]]:
    """Schema of rows in memory, and these in native byte order."""
    if rows.ndim == 0:
        raise MetadataError(f"{name}: expected an array of rows, got one without dimensions")
    try:
        schema = ArraySchema(name=name, dtype=rows.dtype, row_shape=rows.shape[1:])
    except ValueError as e:
        raise MetadataError(f"{name}: {e}") from e
    return schema, rows.astype(schema.numpy_dtype, copy=False)


def _current(schema: ArraySchema) -> Chain:
    return Chain(schema.codecs, schema.encoding)


def _stored_subjects(
    source: Any,
) -> tuple[dict[str, _Subject], dict[str, str], GroupSchema | None]:
    found = find(source)
    subjects, skipped = {}, {}
    for path, job in pair(found, None).items():
        if job.schema is None:
            shape, dtype = job.array.shape, job.array.dtype
            reason = f"expected rows of a data type of fixed size, got shape {shape}, {dtype}"
            if not found.groups:
                raise MetadataError(f"{path or 'array'}: {reason}")
            skipped[path] = reason
            continue
        subjects[path] = _Subject(path, job.schema, job, None, _stored_chain(job))
    if not found.groups:
        return subjects, skipped, None
    schemas = {path: s.schema for path, s in subjects.items()}
    return subjects, skipped, _group(found.groups, schemas)


def _stored_chain(job: Job) -> Chain | None:
    """The chain of a stored array; None if a schema cannot have it."""
    assert job.schema is not None  # noqa: S101
    document = stored_document(job.array)
    try:
        if document["zarr_format"] == 2:  # noqa: PLR2004
            codecs = _chains.from_v2(document, job.array.dtype)
        else:
            codecs = _chains.innermost(document["codecs"])
        return chain_of(codecs, job.schema)
    except (LookupError, TypeError, ValueError):
        return None


def _group(
    groups: Mapping[str, Mapping[str, Any]], schemas: Mapping[str, ArraySchema], path: str = ""
) -> GroupSchema:
    """Schema of the group at a path."""

    def inside(paths: Mapping[str, Any]) -> list[str]:
        return [p for p in paths if p and p.rpartition("/")[0] == path]

    return GroupSchema(
        name=path.rpartition("/")[2],
        arrays=[schemas[p] for p in inside(schemas)],
        groups=[_group(groups, schemas, p) for p in inside(groups)],
    )


class _Measured:
    """One array being measured, in stages that have parts of its time."""

    def __init__(
        self,
        subject: _Subject,
        settings: _Settings,
        began: float,
        seconds: float,
        told: Callable[[int], None],
    ) -> None:
        self.subject = subject
        self.schema = subject.schema
        self.settings = settings
        self._began, self._seconds = began, seconds
        self._told = told
        # Of the path, so that an array's rows do not depend on what is beside it.
        random = np.random.default_rng([settings.seed, *subject.path.encode()])
        self.sample = self._draw(random)
        self.windows = Windows.of(settings.window, self.sample, random) if settings.window else None
        self.stored_now = _stored(place_of(subject.job.array)) if subject.job else None
        # How it is stored: nothing in a store says how it was encoded, but for the size.
        self.current = subject.current
        self._currents = [subject.current] if subject.current else []
        if subject.current and self.stored_now:
            self._currents = list(encodings(subject.current))

    def advice(self) -> ArrayAdvice:
        """Measure; say what is best."""
        errors, checked = self._narrowings()
        self.default = self._default(errors)
        chunk_rows = self._chunk_rows()
        looked = self._first_look(self._chosen(errors), chunk_rows)
        trials = self._measure(looked, chunk_rows)
        self._find_current(trials)
        self._correct(trials)
        known = {trial.key for trial in trials}
        measured = [self._candidate(trial, errors, screened=False) for trial in trials]
        measured += [
            self._candidate(trial, errors, screened=True)
            for trial in looked
            if trial.key not in known
        ]
        goals = recommend(measured, self.settings.max_error)
        best = frontier(eligible(measured, self.settings.max_error))
        noted = (
            replace(
                c,
                pareto=any(c is b for b in best),
                recommended_for=tuple(goal for goal, b in goals.items() if b is c),
            )
            for c in measured
        )
        return ArrayAdvice(
            path=self.subject.path,
            schema=self.schema,
            rows=self.subject.rows,
            sampled=len(self.sample.rows),
            checked=checked,
            window=self.settings.window,
            max_error=self.settings.max_error,
            relative=self.settings.relative,
            stored_now=self.stored_now,
            candidates=tuple(sorted(noted, key=lambda c: (c.screened, c.stored, c.chunk_rows))),
        )

    def _until(self, part: float) -> Callable[[], bool]:
        """Whether the time of a stage is over; the others go on where it ended."""
        self._told(int(self.subject.rows * part))
        end = self._began + self._seconds * part
        return lambda: time.monotonic() > end

    def _draw(self, random: np.random.Generator) -> Sample:
        """Read runs of rows from all over the array, one at random in each part of it."""
        total, size = self.subject.rows, self.schema.row_nbytes
        run = max(_floor(_RUN_NBYTES // size), 4 * _ceil(self.settings.window or 1))
        run = min(run, max(self.settings.sample_bytes // size, 1, self.settings.window or 1))
        if (chunk_rows := self.subject.chunk_rows) and chunk_rows * size <= AT_ONCE:
            run = -(-run // chunk_rows) * chunk_rows
        if self.subject.nbytes <= max(self.settings.sample_bytes, run * size):
            begins, is_whole = [*range(0, total, run)], True
        else:
            count = max(self.settings.sample_bytes // (run * size), 1)
            parts = np.linspace(0, total // run, count + 1).astype(int)
            begins = [int(random.integers(a, b)) * run for a, b in pairwise(parts)]
            is_whole = False
        ends = [min(begin + run, total) for begin in begins]
        starts = [0, *np.cumsum([end - begin for begin, end in zip(begins, ends, strict=True)])]
        rows = np.empty((starts[-1], *self.schema.row_shape), self.schema.numpy_dtype)
        for begin, end, at in zip(begins, ends, starts[:-1], strict=True):
            self.subject.read(begin, end, rows[at : at + end - begin])
        tail = None
        if not is_whole:
            tail = np.empty((min(run, total), *rows.shape[1:]), rows.dtype)
            self.subject.read(total - len(tail), total, tail)
        return Sample(rows, tuple(map(int, starts)), total, tail)

    def _narrowings(self) -> tuple[list[tuple[Narrowing, float | None]], int]:
        """Narrowings that every row bears, with their errors; and the number of rows checked."""
        limit, relative = self.settings.max_error, self.settings.relative
        errors: list[tuple[Narrowing, float | None]] = [
            (option, None)
            for option in narrowings(self.schema.numpy_dtype, limit, relative=relative)
        ]

        def check(rows: NDArray[Any]) -> None:
            nonlocal errors
            exact: list[Narrowing] = []
            kept: list[tuple[Narrowing, float | None]] = []
            for option, worst in errors:
                if any(option.contains(narrower) for narrower in exact):
                    error = None
                else:
                    error = option.error(rows, relative=relative)
                if error is None:
                    exact.append(option)
                    kept.append((option, worst))
                elif limit is not None and error <= limit:
                    kept.append((option, max(error, worst or 0.0)))
            errors = kept

        check(self.sample.rows)
        checked = len(self.sample.rows)
        if errors and checked < self.subject.rows:
            is_over = self._until(_CHECKED)
            seen = 0
            for rows in self.subject.blocks():
                check(rows)
                seen += len(rows)
                if not errors or is_over():
                    break
            checked = max(checked, seen)
        return errors, checked if errors else self.subject.rows

    def _chosen(self, errors: list[tuple[Narrowing, float | None]]) -> list[Narrowing]:
        """The narrowest type without loss, one with loss that is narrower, and rounding."""
        exact = [option for option, error in errors if error is None and option.narrows][:1]
        lossy = [option for option, error in errors if error is not None and option.narrows][:1]
        if exact and lossy and lossy[0].dtype.itemsize >= exact[0].dtype.itemsize:
            lossy = []
        return [*exact, *lossy, *(option for option, _ in errors if not option.narrows)]

    def _default(self, errors: list[tuple[Narrowing, float | None]]) -> Chain:
        """What a schema has by default, with float16 if every value survives."""
        halves = any(o.narrows and o.dtype == np.float16 and e is None for o, e in errors)
        codecs = _chains.default(self.schema.numpy_dtype, float16=halves)
        return chain_of(codecs, self.schema)

    def _chunk_rows(self) -> int:
        """Rows of a chunk that the planner would choose."""
        part = self.sample.part(_MIB, 1)
        trial = Trial(chain_of(["zstd"], self.schema), self.schema, len(part.rows), part)
        trial.encode(np.empty_like(part.rows), None, relative=False)
        rows, size = self.subject.rows, self.schema.row_nbytes
        ratio = rows * size / max(trial.stored, 1)
        return min(chunked(rows, size, ratio, self.settings.window), _ceil(rows))

    def _first_look(self, found: Sequence[Narrowing], chunk_rows: int) -> list[Trial]:
        """Try everything on a small part of the sample."""
        window = self.settings.window or 1
        part = self.sample.part(_FIRST_LOOK, max(chunk_rows, 2 * window))
        out = np.zeros_like(part.rows)

        def look(chain: Chain) -> Trial:
            trial = Trial(chain, self.schema, chunk_rows, part)
            trial.encode(out, self.windows, relative=self.settings.relative)
            for _ in range(_LEAST_ROUNDS):
                trial.decode()
            trial.forget()
            return trial

        looked = [look(chain) for chain in self._always()]
        if self.settings.candidates is not None:
            return looked
        is_over = self._until(_LOOKED)
        tried: list[tuple[Filters, Trial]] = []
        for filtered in filters(self.schema, found):
            if filtered.turns and self._turns_badly(tried, filtered):
                continue
            for codecs in first(filtered):
                if len(tried) < _IN_ANY_CASE or not is_over():
                    tried.append((filtered, look(chain_of(codecs, self.schema))))
        trials = [trial for _, trial in tried]
        kept: list[Filters] = []
        for filtered, trial in sorted(tried, key=lambda pair: -pair[1].score):
            if not _is_beaten(trial, trials):
                kept.append(filtered)
        kept.insert(1, min(tried, key=lambda pair: pair[1].stored)[0])
        is_over = self._until(_EXPANDED)
        for n, filtered in enumerate(_once(kept)[:_KEPT_FILTERS]):
            for i, (codecs, encoding) in enumerate(expanded(filtered)):
                if (n + 1) * (i + 1) <= _IN_ANY_CASE or not is_over():
                    trials.append(look(chain_of(codecs, self.schema, encoding)))
        return list({trial.key: trial for trial in [*trials, *looked]}.values())

    @staticmethod
    def _turns_badly(tried: list[tuple[Filters, Trial]], filtered: Filters) -> bool:
        """Whether transposing alone made much more of the same values."""
        sizes = {f.names: t.stored for f, t in tried if f.narrowing is filtered.narrowing}
        turned = sizes.get(("transpose",))
        return turned is not None and turned > _BADLY * sizes.get((), math.inf)

    def _always(self) -> list[Chain]:
        """What is measured in any case: what is stored, the default, and what the user names."""
        chains = [chain_of(codecs, self.schema) for codecs in (self.settings.candidates or ())]
        chains.append(self.default)
        chains += self._currents
        return list({chain.key: chain for chain in chains}.values())

    def _measure(self, looked: list[Trial], chunk_rows: int) -> list[Trial]:
        """Measure on the whole sample what is left, in chunks of several sizes, and in turns."""
        self._until(_ENCODED)
        out = np.zeros_like(self.sample.rows)
        trials: dict[str, Trial] = {}

        def measure(chain: Chain, rows: int) -> None:
            trial = Trial(chain, self.schema, rows, self.sample)
            if trial.key not in trials:
                trial.encode(out, self.windows, relative=self.settings.relative)
                for _ in range(_LEAST_ROUNDS):
                    trial.decode()
                trials[trial.key] = trial

        currents = {chain.key for chain in self._currents}
        for chain in self._always():
            stored_rows = self.subject.chunk_rows if chain.key in currents else None
            measure(chain, stored_rows or chunk_rows)
        measure(self.default, chunk_rows)
        left = [trial for trial in looked if not _is_beaten(trial, looked)]
        left.sort(key=lambda trial: -trial.score)
        smallest = sorted(left, key=lambda trial: trial.stored)[:_IN_ANY_CASE]
        for n, trial in enumerate([*left[:2], *smallest, *left[2:_KEPT]]):
            if self._has_time(trial.encode_gbs, in_any_case=n < _IN_ANY_CASE):
                measure(trial.chain, chunk_rows)
        self._take_turns(trials.values(), _ROUNDS // 4, _ENCODED)
        base = [trial for trial in trials.values() if trial.chunk_rows == chunk_rows]
        goals = recommend([self._candidate(t, [], screened=False) for t in base], math.inf)
        best = {c.codecs.key: c for c in goals.values()}.values()
        for rows in self._other_chunk_rows(chunk_rows):
            for candidate in best:
                if self._has_time(candidate.encode_gbs):
                    measure(candidate.codecs, rows)
        rounds = int(_TIMED_FOR / min(trial.decode_seconds for trial in trials.values()))
        self._take_turns(trials.values(), min(max(rounds, _ROUNDS), _MOST_ROUNDS), 1.0)
        return list(trials.values())

    def _take_turns(self, trials: Iterable[Trial], rounds: int, until: float) -> None:
        """Decode each once more in turn, for so many rounds or until that part of the time."""
        is_over = self._until(until)
        for n in range(rounds):
            if n >= _LEAST_ROUNDS and is_over():
                break
            for trial in trials:
                trial.decode()

    def _find_current(self, trials: list[Trial]) -> None:
        """Choose, of the ways in which the source may have been encoded, that of its size."""
        if self.stored_now and self._currents:
            stored, keys = self.stored_now, {chain.key for chain in self._currents}
            rows = self.subject.chunk_rows
            known = [t for t in trials if t.chain.key in keys and t.chunk_rows == rows]
            self.current = min(known, key=lambda t: abs(t.stored - stored)).chain

    def _correct(self, trials: list[Trial]) -> None:
        """Correct sizes by how much the sample is smaller than the whole where that is known.

        Of what is stored, both sizes are: a sample that compresses better than the rest does so by
        other chains too. If they are far apart, the reason is another one.
        """
        current = next((trial for trial in trials if self._is_current(trial)), None)
        if current is None or not self.stored_now or self.sample.tail is None:
            return
        factor = (self.stored_now - self._index_nbytes(current)) / max(current.stored, 1)
        if 1 / _MOST_CORRECTION < factor < _MOST_CORRECTION:
            for trial in trials:
                trial.stored *= factor

    def _is_current(self, trial: Trial) -> bool:
        """Whether the source is stored so."""
        return (
            self.current is not None
            and trial.chain.key == self.current.key
            and trial.chunk_rows == (self.subject.chunk_rows or trial.chunk_rows)
        )

    def _index_nbytes(self, trial: Trial) -> int:
        """Bytes of the indexes of shards: 16 for each chunk, and a checksum."""
        rows, window = self.subject.rows, self.settings.window
        ratio = self.subject.nbytes / max(trial.stored, 1)
        file_rows = sharded(rows, self.schema.row_nbytes, ratio, trial.chunk_rows, window)
        if file_rows is None:
            return 0
        return -(-rows // file_rows) * (16 * file_rows // trial.chunk_rows + 4)

    def _has_time(self, gbs: float, *, in_any_case: bool = False) -> bool:
        """Whether the sample is encoded in time, at that speed; or in any case soon."""
        takes = self.sample.rows.nbytes / gbs / 1e9
        left = self._began + self._seconds * _ENCODED - time.monotonic()
        return takes < left or (in_any_case and takes < max(self._seconds / _IN_ANY_CASE, 1.0))

    def _other_chunk_rows(self, chunk_rows: int) -> list[int]:
        """Rows of smaller and larger chunks that may do as well."""
        if self.settings.window is None and chunk_rows >= self.subject.rows:
            return []  # so little that opening files and shards is what takes time
        least = max(_LEAST_CHUNK // self.schema.row_nbytes, 1)
        most = min(_ceil(self.subject.rows), _MOST_CHUNK_ROWS, self.sample.fitting(1 << 62))
        sizes = (chunk_rows // 4, chunk_rows // 2, chunk_rows * 2)
        return [rows for rows in sizes if least <= rows <= most]

    def _candidate(
        self, trial: Trial, errors: list[tuple[Narrowing, float | None]], *, screened: bool
    ) -> Candidate:
        known = {narrowing.key: error for narrowing, error in errors}
        worst = [trial.error]
        certain = True
        if rounds(trial.chain.schema(self.schema)):
            key = json.dumps(trial.chain.codecs[0], sort_keys=True)
            certain = key in known
            worst.append(known.get(key))
        wrong = [error for error in worst if error is not None]
        return Candidate(
            array=self.subject.path,
            chain=trial.chain.text,
            chunk_rows=trial.chunk_rows,
            nbytes=self.subject.nbytes,
            stored=round(trial.stored) + self._index_nbytes(trial),
            decode_gbs=trial.decode_gbs,
            encode_gbs=trial.encode_gbs,
            windows_per_s=trial.windows_per_s if self.windows else None,
            max_error=max(wrong, default=0.0),
            lossless=certain and not wrong,
            readers=readers(trial.chain.codecs, self.schema.numpy_dtype),
            is_default=trial.chain.key == self.default.key,
            is_current=not screened and self._is_current(trial),
            screened=screened,
            codecs=trial.chain,
        )


def _once(filtered: list[Filters]) -> list[Filters]:
    return [f for i, f in enumerate(filtered) if f not in filtered[:i]]


def _is_beaten(trial: Trial, others: list[Trial]) -> bool:
    """Whether another one is better in size and speed, by far in both together.

    One that encodes much more slowly is another choice.
    """
    return any(
        other.stored <= trial.stored
        and other.speed >= trial.speed
        and other.score > trial.score * _BY_FAR
        and other.encode_gbs * _MUCH_SLOWER > trial.encode_gbs
        for other in others
    )
