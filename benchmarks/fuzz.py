"""Random padded batches against the naive rule, and damaged files against every reader: `make fuzz`.

Exit status 1 if a batch was read wrongly, a file gave anything but a result or its reader's own line, or an
input was changed. What is said about each can be made again with `--seed` and `--first`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks import fuzz_batches, fuzz_files

BATCHES_A_CHUNK, FILES_A_CHUNK = 500, 240
SHOWN = 20
CHANGED = "an input was changed"


class Done(NamedTuple):
    """What came of a chunk: how many were tried, and a line for each failure."""

    tried: int
    failures: list[str]


def batches(seed: int, chunk: int, n: int = BATCHES_A_CHUNK) -> Done:
    """`n` random padded batches."""
    torch.set_num_threads(1)
    failures = [
        f"seed {seed}, chunk {chunk}, batch {i}: {problem}; {case}"
        for i, case in enumerate(fuzz_batches.cases(seed, chunk, n))
        if (problem := fuzz_batches.check(case)) is not None
    ]
    return Done(n, failures)


def files(
    seed: int,
    chunk: int,
    n: int = FILES_A_CHUNK,
    replace: Callable[[list[fuzz_files.Reader]], list[fuzz_files.Reader]] = lambda readers: readers,
) -> Done:
    """`n` damaged files, one reader after the other. replace: other readers, as the tests want."""
    torch.set_num_threads(1)
    failures = []
    with tempfile.TemporaryDirectory() as name, fuzz_files.readers(Path(name)) as known:
        readers = replace(known)
        for i in range(n):
            reader = readers[i % len(readers)]
            draw = random.Random(f"{seed} {chunk} {i}")
            if (problem := fuzz_files.check(reader, Path(name), draw)) is not None:
                failures.append(f"seed {seed}, chunk {chunk}, file {i}, {reader.name}: {problem}")
    return Done(n, failures)


def fuzz(
    what: str,
    work: Callable[[int], Done],
    chunks: range,
    pool: multiprocessing.pool.Pool,
    say: Callable[[str], None],
) -> list[str]:
    """Work through the chunks in several processes, and say how far it is; all failures."""
    began, tried, failures = time.monotonic(), 0, list[str]()
    for k, done in enumerate(_results(pool, work, chunks), 1):
        tried += done.tried
        failures += done.failures
        for failure in done.failures[:SHOWN]:
            say(failure)
        if k == len(chunks) or k % max(1, len(chunks) // 20) == 0:
            say(f"{tried:,} {what}, {len(failures):,} wrong, {time.monotonic() - began:.0f} s")
    return failures


def _results(pool: multiprocessing.pool.Pool, work: Callable[[int], Done], chunks: range) -> Iterator[Done]:
    results = pool.imap_unordered(work, chunks)
    for _ in chunks:
        yield results.next(timeout=600)  # a process that hangs in C++ is noticed here


def main() -> None:
    """Run, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the first chunk")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()

    def chunks(n: int, size: int) -> range:
        return range(options.first, options.first + -(-n // size))

    def say(line: str) -> None:
        print(line, flush=True)

    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        wrong = fuzz(
            "padded batches",
            partial(batches, options.seed),
            chunks(options.batches, BATCHES_A_CHUNK),
            pool,
            say,
        )
        lines = fuzz(
            "damaged files", partial(files, options.seed), chunks(options.files, FILES_A_CHUNK), pool, say
        )
    changed = sum(CHANGED in failure for failure in wrong + lines)
    n_batches = len(chunks(options.batches, BATCHES_A_CHUNK)) * BATCHES_A_CHUNK
    n_files = len(chunks(options.files, FILES_A_CHUNK)) * FILES_A_CHUNK
    say(
        f"{n_batches:,} padded batches: {len(wrong)} wrong; {n_files:,} damaged files: {len(lines)} "
        f"tracebacks; {changed} inputs changed (seed {options.seed})"
    )
    sys.exit(1 if wrong or lines else 0)


if __name__ == "__main__":
    main()
