"""Hostile stores do no harm: some thousand mutated ones, always the same. `mutate.py` tries others."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mutants import Case, Pools, draw, goldens, groups

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
CASES = 2000


def fuzz(*arguments: object, program: str = "mutate.py") -> subprocess.CompletedProcess[str]:
    """Run the fuzzer in a process of its own: it forks, so it must have no threads."""
    command = [sys.executable, str(HERE / program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


@pytest.mark.parametrize("seed", [15])
def test_mutated_stores_do_no_harm(seed: int) -> None:
    ran = fuzz("--seed", seed, "--cases", CASES, "--jobs", 2)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_case_is_always_the_same() -> None:
    seeds = goldens()
    seeds |= groups(seeds)

    def drawn() -> list[Case]:
        pools = Pools(seeds)
        return [draw(7, number, seeds, pools) for number in range(200)]

    again = drawn()
    assert drawn() == again
    assert all(case.changes for case in again)
    assert len({str(case.tree) for case in again}) > 190


def test_each_kind_of_harm_is_found(tmp_path: Path) -> None:
    """Cases that do what must not be: what is reported of them."""
    program = tmp_path / "harmful.py"
    program.write_text(
        textwrap.dedent(
            f"""
            import os, signal, sys, time
            sys.path.insert(0, {str(HERE)!r})
            import numpy as np
            import exercise, mutate, tempozarr

            class Harmful(exercise.Exercise):
                def _open(self):
                    number = int(self.case.name.partition(":")[2])
                    match number:
                        case 0: raise TypeError("of nobody")
                        case 1: raise tempozarr.StoreError("internal error: please report it")
                        case 2: raise tempozarr.StoreError("as it should be")
                        case 3: os.kill(os.getpid(), signal.SIGSEGV)
                        case 4: time.sleep(1000)
                        case 5:
                            while True: pass
                        case 6: (self._box.folder / "sentinel/secret").write_text("changed")
                        case 7: (self._box.folder / ".store.zarr.left.new").mkdir()
                        case 8: np.ones(3 << 30, "u1")
                        case 9: print("thread panicked at src/x.rs:1:2:", file=sys.stderr)
                        case 10: os._exit(3)
                        case 11: self._same("windows", np.zeros(3), np.ones(3))
                        case 12: self._same("windows", np.zeros(3), np.zeros(3))

                _info = _verify = _compare = _load = _through_zarr = _copy = lambda self: None
                _append = _write_through_zarr = _info

            mutate.Exercise = Harmful
            mutate.IDLE_SECONDS, mutate.CPU_SECONDS = 3.0, 1.5
            sys.exit(mutate.main())
            """
        )
    )
    ran = fuzz("--cases", 15, "--brief", program=str(program))
    assert ran.returncode == 1, ran.stderr
    found = {line.rsplit("[0:")[1].removesuffix("]"): line for line in ran.stdout.splitlines()[:-1]}
    expected = {
        0: "TypeError",
        1: "StoreError",
        3: "SIGSEGV",
        4: "hang",
        6: "changed outside",
        8: "MemoryError",
        9: "panic at src/x.rs",
        10: "exit status 3",
        11: "windows differs",
    }
    reported = {int(number): line for number, line in found.items()}
    # The same kind of finding is one line: 5 hangs too, 7 leaves something.
    assert "2x hang" in reported[4]
    assert "2x changed outside" in reported[6]
    assert reported.keys() == expected.keys(), ran.stdout
    for number, text in expected.items():
        assert text in reported[number]
    assert "15 cases" in ran.stdout
