"""What the players of a matrix are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from endmark.training.config import TrainConfig
from endmark.training.partners import PIN

OF_ONE_RUN = {"prior"}
"""Settings of an algorithm in which learners of one group may differ: files that each run has for itself."""


def short_names(sources: Sequence[str]) -> dict[str, str]:
    """Of each source, a pinned one, the last part of its path; more parts where two would be called alike.

    A checkpoint other than the last is called with its run, such as `run/best`.
    """
    parts = {source: _parts(source) for source in sources}
    taken = {source: 2 if _is_checkpoint(source) else 1 for source in sources}
    while True:
        names = {source: _joined(source, parts[source][-taken[source] :]) for source in sources}
        times = Counter(names.values())
        longer = [s for s in sources if times[names[s]] > 1 and taken[s] < len(parts[s])]
        if not longer:
            return names
        for source in longer:
            taken[source] += 1


def algorithm_groups(
    configs: Mapping[str, TrainConfig[Any] | None], names: Mapping[str, str]
) -> dict[str, str]:
    """Of each learner its algorithm, and those of its settings in which others of the matrix differ.

    So learners of one group differ by their seeds, and by how and for how long they were trained. A function
    (None) is a group of its own.
    """
    groups = {}
    for source, config in configs.items():
        if config is None:
            groups[source] = f"{names[source]} (script)"
            continue
        alike = [other for other in configs.values() if other is not None and other.name == config.name]
        settings = [asdict(other.algorithm) for other in alike]
        own = {name: value for name, value in asdict(config.algorithm).items() if name not in OF_ONE_RUN}
        words = [f"{name}={value}" for name, value in own.items() if any(s[name] != value for s in settings)]
        groups[source] = " ".join([config.name, *words])
    return groups


def _parts(source: str) -> tuple[str, ...]:
    path, pinned, _ = source.partition(PIN)
    if not pinned:
        return tuple(source.partition(":")[::2])
    whole = PurePath(path)
    return whole.with_suffix("").parts if _is_checkpoint(source) else whole.parts


def _is_checkpoint(source: str) -> bool:
    path, pinned, _ = source.partition(PIN)
    return bool(pinned) and path.endswith(".safetensors")


def _joined(source: str, parts: Sequence[str]) -> str:
    return ("/" if PIN in source else ":").join(parts).replace("//", "/")
