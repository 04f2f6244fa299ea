"""Saving a run's parts and going on from them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import torch

from endmark.episodes import Store
from endmark.run import Counters, Run, RunError, counters_from
from endmark.training.state_file import STATE, save_state
from endmark.wording import joined


@runtime_checkable
class Part(Protocol):
    """Something that changes while training."""

    def state_dict(self) -> dict[str, Any]:
        """All that its future depends on."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        ...


class Saver:
    """Saves states in a thread, while the run goes on: most of the time is the disk's.

    A context manager: leaving it waits until the last state is on the disk.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "save")
        self._pending: Future[None] | None = None

    def save(self, parts: Mapping[str, Part], run: Run, counters: Counters) -> None:
        """Save the state of every part, of the run directory and of torch. No update may be pending.

        Waits for the one before, and raises its error: OSError if the disk is full.
        """
        self.wait()
        # A copy, since the parts go on. A store gives copies itself, which may be gigabytes.
        state: dict[str, Any] = {
            name: part.state_dict() if isinstance(part, Store) else copy.deepcopy(part.state_dict())
            for name, part in parts.items()
        }
        if not getattr(parts["rollout"], "exact", True):
            run.mark_inexact()
        state |= {"run": run.state_dict(), "counters": counters._asdict(), "torch": torch.get_rng_state()}
        self._pending = self._thread.submit(save_state, state, run.directory)

    def wait(self) -> None:
        """Wait until the state is on the disk."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        if error is None:
            self.wait()


def restore(parts: Mapping[str, Part], run: Run, state: Mapping[str, Any]) -> Counters:
    """Put every part into its saved state; how far the run is. RunError if a part does not fit its state."""
    try:
        counters = counters_from(state["counters"])
        for name, part in parts.items():
            part.load_state_dict(state[name])
        run.load_state_dict(state["run"], counters)
        torch.set_rng_state(state["torch"])
    except OSError:
        raise
    except Exception as error:  # a part given what it never wrote may raise anything
        if isinstance(error, RunError):
            raise
        raise RunError(f"{run.directory / STATE} does not fit the run's config: {joined(error)}") from None
    return counters
