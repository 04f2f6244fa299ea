"""Saving a run's parts and going on from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch

from endmark.run import Counters, Run, RunError, counters_from
from endmark.training.state_file import STATE, save_state


@runtime_checkable
class Part(Protocol):
    """Something that changes while training."""

    def state_dict(self) -> dict[str, Any]:
        """All that its future depends on."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        ...


def save(parts: Mapping[str, Part], run: Run, counters: Counters) -> None:
    """Write the state of every part, of the run directory and of torch. No update may be pending."""
    state: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
    state |= {"run": run.state_dict(), "counters": counters._asdict(), "torch": torch.get_rng_state()}
    save_state(state, run.directory)


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
        problem = " ".join(str(error).split())
        raise RunError(f"{run.directory / STATE} does not fit the run's config: {problem}") from None
    return counters
