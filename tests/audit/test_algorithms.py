"""Every algorithm of endmark under the audit, on ragged and on padded input: no leak, and no coupling."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest
import torch
from torch import Tensor

from endmark.algorithms import Mixing, QLearner, QLearningConfig
from endmark.audit import Case, Report, audit, hard_batch
from endmark.episodes import EpisodeBatch, EpisodeSpec

SIZES = {"hidden_size": 8, "mixer_embed_size": 4, "mixer_hyper_size": 5}


def spec_of(*, state: bool, reward_per_agent: bool) -> EpisodeSpec:
    return EpisodeSpec.of(
        n_agents=3,
        n_actions=4,
        episode_limit=7,
        obs_shape=(5,),
        state_shape=(4,) if state else None,
        reward_per_agent=reward_per_agent,
    )


def learner_of(mixing: Mixing, spec: EpisodeSpec, config: QLearningConfig, *, seed: int = 0) -> QLearner:
    """A learner whose target networks are not its online ones."""
    torch.manual_seed(seed)
    learner = QLearner(mixing, spec, config)
    with torch.no_grad():
        for parameter in (p for p in learner.parameters() if not p.requires_grad):
            parameter.add_(0.2 * torch.randn_like(parameter))
    return learner


def case_of(learner: QLearner, batch: dict[str, Tensor], layout: str, spec: EpisodeSpec) -> Case:
    modules = [learner]
    if layout == "ragged":
        return Case(learner.loss, EpisodeBatch.from_padded(batch, spec), modules)
    return Case(lambda b: learner.loss(EpisodeBatch.from_padded(b, spec)), batch, modules)


def assert_clean(report: Report, layout: str) -> None:
    assert report.findings == ()
    want = {"causality"} if layout == "padded" else {"causality", "padding", "empty"}
    assert {*report.skipped} == want
    assert report.missing_cases == ()
    assert report.left_alone == ()


VARIANTS = [
    (mixing, td_lambda, double_q)
    for mixing in get_args(Mixing)
    for td_lambda, double_q in [(0.0, True), (0.6, True), (0.6, False)]
]


@pytest.mark.parametrize("layout", ["ragged", "padded"])
@pytest.mark.parametrize(("mixing", "td_lambda", "double_q"), VARIANTS)
def test_no_leak_and_no_coupling(mixing: Mixing, td_lambda: float, double_q: bool, layout: str) -> None:
    config = QLearningConfig(td_lambda=td_lambda, double_q=double_q, **SIZES)  # type: ignore[arg-type]
    for seed, (state, per_agent) in enumerate(itertools.product([True, False], repeat=2)):
        spec = spec_of(state=state, reward_per_agent=per_agent)
        learner = learner_of(mixing, spec, config, seed=seed)
        case = case_of(learner, hard_batch(spec, seed), layout, spec)
        assert_clean(audit(case, seed=seed, quick=(seed, double_q, td_lambda) != (0, True, 0.6)), layout)


@pytest.mark.parametrize("layout", ["ragged", "padded"])
@pytest.mark.parametrize("mixing", get_args(Mixing))
def test_rewards_standardised_by_what_was_seen_couple_nothing(mixing: Mixing, layout: str) -> None:
    """The moments are of batches before this one."""
    spec = spec_of(state=True, reward_per_agent=False)
    learner = learner_of(mixing, spec, QLearningConfig(standardise_reward=True, **SIZES))  # type: ignore[arg-type]
    learner.reward_moments.add(torch.randn(50) * 3 + 1)
    assert_clean(audit(case_of(learner, hard_batch(spec, 3), layout, spec), quick=True), layout)


@pytest.mark.parametrize("mixing", get_args(Mixing))
def test_monte_carlo_targets_are_told_to_bootstrap_at_cuts(mixing: Mixing) -> None:
    spec = spec_of(state=True, reward_per_agent=False)
    learner = learner_of(mixing, spec, QLearningConfig(td_lambda=1.0, **SIZES))  # type: ignore[arg-type]
    assert_clean(audit(case_of(learner, hard_batch(spec, 1), "ragged", spec)), "ragged")


def test_the_audit_sees_a_bug_put_into_the_learner() -> None:
    """So that the clean reports above mean something: the same learner with a termination forgotten."""
    spec = spec_of(state=True, reward_per_agent=False)
    learner = learner_of("qmix", spec, QLearningConfig(**SIZES))  # type: ignore[arg-type]
    batch = EpisodeBatch.from_padded(hard_batch(spec, 0), spec)

    def forgetful(given: EpisodeBatch) -> dict[str, Tensor]:
        nothing_ended = torch.zeros_like(given.terminated)
        return learner.loss(EpisodeBatch(spec, given.fields, given.lengths, nothing_ended, checked=True))

    report = audit(Case(forgetful, batch, learner), quick=True)
    assert {finding.probe for finding in report.leaks} == {"bootstrap"}
    assert {finding.field for finding in report.leaks} == {"obs", "state", "avail_actions"}
