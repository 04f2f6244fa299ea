"""Whether training works on this machine: `endmark doctor`.

Neither torch nor what imports it is imported before it is looked at, so that a broken torch can be said.
"""

from __future__ import annotations

import contextlib
import getpass
import importlib
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from endmark.wording import one_line

LEAST_FREE = 1 << 30
"""Bytes of a disk below which its space is worth a note: a replay of images alone may take as many."""

REPORT = "please report it, with all of these lines"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    value: str
    status: Literal["ok", "note", "missing", "broken"] = "ok"
    """note: works, but less well than it could; missing: an option that is not there; broken: no training."""
    advice: str = ""


def examine(directory: Path) -> Iterator[Finding]:
    """All findings; training works here if none of them is broken. directory: where runs would be put."""
    yield Finding("endmark", _version("endmark") or "not installed by pip")
    python = f"{platform.python_version()} ({platform.python_implementation()}), {sys.executable}"
    yield Finding("Python", python)
    yield Finding("system", platform.platform())
    yield Finding("processor", f"{processor_name()}, {_cores()} cores for this process")
    yield from _guarded("this directory", lambda: _directory(directory))
    torch = _torch()
    yield torch
    if torch.status != "broken":  # nothing below could be imported
        yield from _guarded("kernels", _kernels)
        yield from _guarded("threads", _threads_and_gpu)
        yield from _guarded("training", _training)
        yield from _guarded("environments", _environments)
    yield from _guarded("extras", lambda: _extras(torch.status != "broken"))


def _guarded(name: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What `look` finds, and in place of the rest what it raises."""
    try:
        yield from look()
    except Exception as error:  # of any of the packages that are looked at
        yield Finding(name, one_line(error), "broken", REPORT)


def private(text: str) -> str:
    """The text without the home directory and the user's name in paths."""
    with contextlib.suppress(RuntimeError):  # a user without a home directory
        home = str(Path.home())
        if len(home) > 1:
            text = re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text)
    with contextlib.suppress(OSError, KeyError, ImportError):
        text = re.sub(rf"(?<=[/\\]){re.escape(getpass.getuser())}(?![\w.-])", "USER", text)
    return text


def processor_name() -> str:
    """As the system calls it."""
    with contextlib.suppress(OSError):
        found = re.search(r"(?m)^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"))
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _torch() -> Finding:
    try:
        torch = importlib.import_module("torch")
        return Finding("torch", str(torch.__version__))
    except Exception as error:  # whatever its libraries raise
        return Finding(
            "torch",
            f"cannot be imported: {one_line(error)}",
            "broken",
            "install it as pytorch.org says; its build for CPUs is enough",
        )


def _kernels() -> Iterator[Finding]:
    from endmark.ops import native

    if native.native is not None:
        yield Finding("kernels", f"{native.backend()}; in this build: {', '.join(native.native.built())}")
        return
    try:
        importlib.import_module("endmark._native")
        why = "they were not there a moment ago"
    except ModuleNotFoundError:
        why = "no compiler at installation"
    except ImportError as error:
        why = one_line(error)
    said = f"none ({why}): torch's operations, with which updates take some three times as long"
    advice = "install endmark again with GCC or Clang in PATH, and with --force-reinstall --no-cache-dir"
    yield Finding("kernels", said, "note", advice)


def _threads_and_gpu() -> Iterator[Finding]:
    import torch

    said = f"{torch.get_num_threads()} by torch's default; a run takes --threads, by default 1"
    yield Finding("threads", f"{said}; OMP_NUM_THREADS is {os.environ.get('OMP_NUM_THREADS', 'not set')}")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield Finding("GPU", ", ".join(names) or "none that torch sees; none is needed")


def _directory(directory: Path) -> Iterator[Finding]:
    try:
        with tempfile.TemporaryFile(dir=directory):
            yield Finding("this directory", "can be written to")
    except OSError as error:
        said = f"cannot be written to: {error.strerror or error}"
        yield Finding("this directory", said, "broken", "start in another one")
    free = shutil.disk_usage(directory).free
    said = f"{free / 2**30:.1f} GiB free"
    if free < LEAST_FREE:
        yield Finding("disk", said, "note", "a run that stores its replay may fill it")
    else:
        yield Finding("disk", said)


def _training() -> Iterator[Finding]:
    """A run of some seconds, from the environment to the files on the disk."""
    from endmark.algorithms import QMIXConfig
    from endmark.training import TrainConfig, load, train

    config = TrainConfig(
        QMIXConfig(batch_size=4, hidden_size=8, replay_frames=300),
        env="matrix:two-step",
        steps=64,
        n_envs=2,
        eval_every=64,
        eval_episodes=2,
        device="cpu",
    )
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        trained = train(config, Path(directory) / "run", lambda *_: None)
        load(Path(directory) / "run")
    seconds = time.perf_counter() - start
    did = f"{trained.counters.updates} updates of qmix on {config.env}, saved and loaded, in {seconds:.1f} s"
    if trained.counters.updates:
        yield Finding("training", f"works: {did}")
    else:
        yield Finding("training", did, "broken", REPORT)


def _environments() -> Iterator[Finding]:
    """The table of `endmark envs`, but for what comes with endmark."""
    from endmark.envs import installed

    for family in installed():
        if family.package == "endmark":
            continue
        if family.version:
            yield Finding(family.name, f"{family.package} {family.version}")
        else:
            yield Finding(family.name, "not installed", "missing", family.install)


def _extras(envs_are_told: bool) -> Iterator[Finding]:
    """The extras that the package's own metadata name; without those of environments, if they are told."""
    others = {"all"}
    if envs_are_told:
        from endmark.envs import installed

        others |= {family.extra for family in installed() if family.extra}
    packages: dict[str, list[str]] = {}
    for requirement in requires("endmark") or ():
        found = re.fullmatch(r"([\w.-]+)[^;]*;.*\bextra == ['\"]([\w-]+)['\"].*", requirement)
        if found and found[2] not in others:
            packages.setdefault(found[2], []).append(found[1])
    for extra, names in packages.items():
        versions = [_version(name) for name in names]
        said = ", ".join(f"{name} {v or 'not installed'}" for name, v in zip(names, versions, strict=True))
        if None in versions:
            yield Finding(extra, said, "missing", f'pip install "endmark[{extra}]"')
        else:
            yield Finding(extra, said)
