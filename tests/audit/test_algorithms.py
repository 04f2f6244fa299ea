"""Every algorithm of endmark under the audit, on ragged and on padded input.

No leak anywhere. No coupling either, but for advantages that are normalised over the batch: that is meant.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from endmark.algorithms import ALGORITHMS, Learner, ValueLearner
from endmark.audit import Case, Report, audit, hard_batch
from endmark.episodes import EpisodeBatch, EpisodeSpec
from support.seated import BESIDE_PARTNERS

VALUE_BASED = ("iql", "vdn", "qmix", "qplex", "ow-qmix", "cw-qmix", "qtran", "qatten")
ACTOR_CRITIC = ("ia2c", "maa2c", "ippo", "mappo", "coma", "happo")
SIZES: dict[str, dict[str, int]] = {
    "qmix": {"mixer_embed_size": 4, "mixer_hyper_size": 5},
    "qplex": {"mixer_hyper_size": 5, "mixer_heads": 2},
    "ow-qmix": {"mixer_embed_size": 4, "mixer_hyper_size": 5, "central_size": 6},
    "cw-qmix": {"mixer_embed_size": 4, "mixer_hyper_size": 5, "central_size": 6},
    "qtran": {"joint_size": 6},
    "qatten": {"mixer_embed_size": 4, "mixer_hyper_size": 5, "mixer_heads": 2},
}


def test_every_algorithm_is_audited() -> None:
    elsewhere = {*BESIDE_PARTNERS, "maddpg"}  # test_omg_audit.py, and test_maddpg.py of the algorithms
    assert {*VALUE_BASED, *ACTOR_CRITIC} == set(ALGORITHMS) - elsewhere


def spec_of(*, state: bool, reward_per_agent: bool) -> EpisodeSpec:
    return EpisodeSpec.of(
        n_agents=3,
        n_actions=4,
        episode_limit=7,
        obs_shape=(5,),
        state_shape=(4,) if state else None,
        reward_per_agent=reward_per_agent,
    )


def learner_of(name: str, spec: EpisodeSpec, *, seed: int = 0, **settings: Any) -> Learner:
    """A learner whose target networks are not its online ones."""
    torch.manual_seed(seed)
    kind: Any = ALGORITHMS[name]
    config = kind(hidden_size=8, **SIZES.get(name, {}), **settings)
    learner: Learner = config.learner(spec, torch.device("cpu"))
    with torch.no_grad():
        for parameter in (p for p in learner.networks.parameters() if not p.requires_grad):
            parameter.add_(0.2 * torch.randn_like(parameter))
    return learner


def case_of(learner: Learner, layout: str, seed: int) -> Case:
    spec = learner.spec
    batch = hard_batch(spec, seed)
    if layout == "ragged":
        return Case(learner.loss, EpisodeBatch.from_padded(batch, spec), [learner.networks])
    return Case(
        lambda b: learner.loss(EpisodeBatch.from_padded(b, spec)),
        batch,
        [learner.networks],
        step_fields=tuple(spec.step_fields),
    )


def assert_clean(report: Report, layout: str) -> None:
    assert report.findings == ()
    want = {"causality"} if layout == "padded" else {"causality", "padding", "empty"}
    assert {*report.skipped} == want
    assert report.missing_cases == ()
    assert report.left_alone == ()


VARIANTS = [
    *itertools.product(VALUE_BASED, [{"td_lambda": 0.6}]),
    *itertools.product(("iql", "qmix", "qplex"), [{"td_lambda": 0.0}, {"double_q": False}, {"td_n": 2}]),
    *itertools.product(("qmix", "qplex"), [{"agent": "attention", "attention_window": 3}]),
    *itertools.product(["ippo"], [{"gae_lambda": 0.9, "agent": "attention"}]),
    *itertools.product(["mappo"], [{"gae_lambda": 0.9, "agent": "attention", "critic": "central"}]),
    *itertools.product(("ia2c", "ippo"), [{"gae_lambda": 0.9}, {"gae_lambda": 0.0, "agent": "feedforward"}]),
    *itertools.product(("maa2c", "mappo"), [{"gae_lambda": 0.9, "critic": "central"}]),
    *itertools.product(["coma"], [{"td_lambda": 0.6}, {"td_lambda": 0.0, "agent": "feedforward"}]),
    *itertools.product(
        ("maa2c", "mappo"), [{"gae_lambda": 0.0, "agent": "feedforward", "critic": "central"}]
    ),
]


@pytest.mark.parametrize("layout", ["ragged", "padded"])
@pytest.mark.parametrize(("name", "settings"), VARIANTS)
def test_no_leak_and_no_coupling(name: str, settings: dict[str, Any], layout: str) -> None:
    plain = {"normalise_reward": "none"} if name in VALUE_BASED else {"normalise_advantage": False}
    for seed, (state, per_agent) in enumerate(
        [(True, False), (False, True)] if layout == "ragged" else [(True, True)]
    ):
        spec = spec_of(state=state, reward_per_agent=per_agent)
        learner = learner_of(name, spec, seed=seed, **plain, **settings)
        quick = seed > 0 or not (settings.get("td_lambda") == 0.6 or settings.get("gae_lambda") == 0.9)
        assert_clean(audit(case_of(learner, layout, seed), seed=seed, quick=quick), layout)


@pytest.mark.parametrize("layout", ["ragged", "padded"])
@pytest.mark.parametrize("how", ["scale", "standardise"])
@pytest.mark.parametrize("name", VALUE_BASED)
def test_rewards_normalised_by_earlier_batches_couple_nothing(name: str, how: str, layout: str) -> None:
    learner = learner_of(name, spec_of(state=True, reward_per_agent=False), normalise_reward=how)
    assert isinstance(learner, ValueLearner)
    learner.reward_moments.add(torch.randn(50) * 3 + 1)
    assert_clean(audit(case_of(learner, layout, 3), quick=True), layout)


@pytest.mark.parametrize("name", VALUE_BASED)
def test_monte_carlo_targets_are_told_to_bootstrap_at_cuts(name: str) -> None:
    learner = learner_of(
        name, spec_of(state=True, reward_per_agent=False), td_lambda=1.0, normalise_reward="none"
    )
    assert_clean(audit(case_of(learner, "ragged", 1)), "ragged")


@pytest.mark.parametrize("name", ACTOR_CRITIC)
def test_normalised_advantages_couple_episodes_and_nothing_else_is_found(name: str) -> None:
    learner = learner_of(name, spec_of(state=True, reward_per_agent=False), normalise_advantage=True)
    report = audit(case_of(learner, "ragged", 2), quick=True)
    assert {finding.severity for finding in report.findings} == {"coupling"}
    assert report.leaks == ()


@pytest.mark.parametrize(
    ("name", "settings"), [("maa2c", {}), ("mappo", {}), ("happo", {}), ("happo", {"critic": "central"})]
)
def test_means_of_their_own_are_all_that_is_found(name: str, settings: dict[str, Any]) -> None:
    """A team's value has a mean over steps, the policy one over agents alive at them, and HAPPO one for each
    agent: so an episode's share of the loss varies."""
    spec = spec_of(state=True, reward_per_agent=False)
    learner = learner_of(name, spec, normalise_advantage=False, **settings)
    report = audit(case_of(learner, "ragged", 2), quick=True)
    assert {finding.severity for finding in report.findings} == {"coupling"}
    assert report.leaks == ()


def test_the_audit_sees_a_bug_put_into_the_learner() -> None:
    """So that the clean reports above mean something: the same learner with a termination forgotten."""
    spec = spec_of(state=True, reward_per_agent=False)
    plain: list[tuple[str, dict[str, Any]]] = [
        ("qmix", {"normalise_reward": "none"}),
        ("mappo", {"normalise_advantage": False}),
    ]
    for name, settings in plain:
        learner = learner_of(name, spec, **settings)
        batch = EpisodeBatch.from_padded(hard_batch(learner.spec, 0), learner.spec)

        def forgetful(given: EpisodeBatch, learner: Learner = learner) -> dict[str, Tensor]:
            nothing_ended = torch.zeros_like(given.terminated)
            return learner.loss(
                EpisodeBatch(given.spec, given.fields, given.lengths, nothing_ended, checked=True)
            )

        report = audit(Case(forgetful, batch, learner.networks), quick=True)
        assert {finding.probe for finding in report.leaks} == {"bootstrap"}
        fields = {finding.field for finding in report.leaks}
        assert fields == ({"obs", "state", "avail_actions"} if name == "qmix" else {"state"})
