"""Opponent modelling under the audit, on ragged and on padded input: no leak anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from endmark.algorithms import Learner
from endmark.audit import Case, audit, hard_batch
from endmark.episodes import EpisodeBatch
from support.seated import MODELS, make_omg, make_omg_ppo, small_spec


def seated(padded: dict[str, Tensor]) -> dict[str, Tensor]:
    """Agent 0 learns in even episodes, agent 1 in odd ones, from the first column to the last."""
    rows, columns, n_agents = padded["learns"].shape[:3]
    learns = torch.zeros(rows, columns, n_agents, dtype=torch.bool)
    learns[::2, :, 0] = learns[1::2, :, 1] = True
    partner = torch.where(learns, -1, torch.arange(n_agents))
    return {**padded, "learns": learns, "partner": partner}


@pytest.mark.parametrize("layout", ["ragged", "padded"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("algorithm", ["omg", "omg-ppo"])
def test_no_leak_and_no_coupling(algorithm: str, model: Any, layout: str, tmp_path: Path) -> None:
    """Without draws, whose number depends on the batch's shape, and without advantages normalised over it."""
    learner: Learner
    settings = {"model": model, "sample_codes": False, "mix_start": 0.0}
    if algorithm == "omg":
        learner = make_omg(tmp_path, small_spec(), **settings)
    else:
        learner = make_omg_ppo(tmp_path, small_spec(), normalise_advantage=False, **settings)
    spec = learner.spec
    batch: Any = seated(hard_batch(spec, 0))

    def loss(given: Any) -> dict[str, Tensor]:
        if isinstance(given, EpisodeBatch):
            return learner.loss(given)
        return learner.loss(EpisodeBatch.from_padded(given, spec))

    if layout == "ragged":
        case = Case(loss, EpisodeBatch.from_padded(batch, spec), [learner.networks])
    else:
        case = Case(loss, batch, [learner.networks], step_fields=tuple(spec.step_fields))
    report = audit(case)
    # The final frame of an episode that terminated is a subgoal like any other, so what is seen there counts.
    meant: list[tuple[str, str | None]] = [("bootstrap", "obs")] if model in ("omg", "supervised") else []
    # The model's mean is over pairs of step and other, or steps with a subgoal; the values' is over steps.
    meant += [("company", None)] if model in ("naive", "liam", "omg", "supervised") else []
    assert [(f.probe, f.field) for f in report.findings if (f.probe, f.field) not in meant] == []
