"""Losses count the agents that the learner acts for, and no others: of every algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from endmark.algorithms import ALGORITHMS, A2CLearner, Learner, PPOLearner, QLearner, ValueLearner
from endmark.algorithms.actor_critic import ActorCritic
from endmark.algorithms.actor_critic_settings import OnPolicySettings
from endmark.episodes import EpisodeBatch, EpisodeSpec, Field
from support.helpers import garbage, make_spec
from support.padded_oracle import perturb
from support.seated import BESIDE_PARTNERS, in_double, make_omg, seated_batch

SIZES: dict[str, dict[str, int]] = {
    "qmix": {"mixer_embed_size": 5, "mixer_hyper_size": 7},
    "qplex": {"mixer_hyper_size": 7, "mixer_heads": 3},
    "ow-qmix": {"mixer_embed_size": 5, "mixer_hyper_size": 7, "central_size": 6},
    "cw-qmix": {"mixer_embed_size": 5, "mixer_hyper_size": 7, "central_size": 6},
    "qtran": {"joint_size": 6},
    "qatten": {"mixer_embed_size": 4, "mixer_hyper_size": 7, "mixer_heads": 3},
}
PLAIN = [name for name in ALGORITHMS if name not in BESIDE_PARTNERS]
NAMES = [*PLAIN, "omg"]
"""`omg-ppo` has tests of its own."""
"""Those that need no partners."""


def batch_of(name: str, seed: int, *, learners: int = 1, **options: Any) -> EpisodeBatch:
    """With what the algorithm stores beside; actions are legal, and agents may leave."""
    spec = make_spec(**options)
    if issubclass(ALGORITHMS[name], OnPolicySettings):
        spec = spec.extend(log_prob=Field((spec.n_agents,), torch.float32, per="step"))
    batch = seated_batch(seed, learners=learners, spec=spec)
    fields = dict(batch.fields)
    taken = batch.actions_taken.clamp(0, batch.spec.n_actions - 1)
    fields["avail_actions"] = batch.avail_actions.scatter(2, taken[..., None], True)
    if "log_prob" in fields:
        fields["log_prob"] = -fields["log_prob"].abs()
    return replace(batch, fields=fields, checked=True)


def make_learner(name: str, spec: EpisodeSpec, directory: Path | None = None, **settings: Any) -> Learner:
    if name == "omg":
        assert directory is not None
        return make_omg(directory, spec, sample_codes=False, mix_start=0.0, **settings)
    torch.manual_seed(0)
    kind: Any = ALGORITHMS[name]
    spec = replace(spec, fields={n: f for n, f in spec.fields.items() if n != "log_prob"})
    learner: Learner = kind(hidden_size=8, **SIZES.get(name, {}), **settings).learner(
        spec, torch.device("cpu")
    )
    perturb(learner.networks, torch.Generator().manual_seed(1))
    return learner


def outcome(learner: Learner, batch: EpisodeBatch) -> dict[str, Tensor]:
    """The loss, all that is logged with it, and all gradients."""
    named = {name: p for name, p in learner.networks.named_parameters() if p.requires_grad}
    terms: dict[str, Tensor] = learner.loss(batch)
    gradients = torch.autograd.grad(terms["loss"], list(named.values()), allow_unused=True)
    return {name: term.detach() for name, term in terms.items()} | {
        name: torch.zeros_like(p) if g is None else g
        for (name, p), g in zip(named.items(), gradients, strict=True)
    }


def assert_same(given: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> None:
    assert given.keys() == want.keys()
    for name, tensor in want.items():
        assert torch.isfinite(tensor).all(), name
        assert torch.equal(given[name], tensor), name


def partners_of(batch: EpisodeBatch) -> Tensor:
    """[F, N]: by a loop, the agents that partners acted for, at all frames of their episodes."""
    rows = []
    for episode in batch.split():
        rows += [~episode["learns"][0]] * int(episode.lengths[0] + 1)
    return torch.stack(rows)


def poisoned(batch: EpisodeBatch, seed: int, *names: str) -> EpisodeBatch:
    """NaN, infinities and actions that do not exist, in these fields of the partners' agents."""
    draws = torch.Generator().manual_seed(seed)
    theirs, fields = partners_of(batch), dict(batch.fields)
    for name in names:
        if name in fields:
            fields[name] = fields[name].clone()
            fields[name][theirs] = garbage(fields[name][theirs], draws)
    return replace(batch, fields=fields, checked=True)


def other(batch: EpisodeBatch, seed: int, *, actions: bool = True) -> EpisodeBatch:
    """Other real observations and actions of the partners' agents, and so other values of an own critic."""
    draws = torch.Generator().manual_seed(seed)
    theirs, fields = partners_of(batch), dict(batch.fields)
    fields["obs"] = torch.where(theirs[..., None], torch.randn(batch.obs.shape, generator=draws), batch.obs)
    n_actions = batch.spec.n_actions
    drawn = torch.randint(0, n_actions, batch["actions"].shape, generator=draws)
    drawn = torch.where(theirs, drawn, batch["actions"]) if actions else batch["actions"]
    fields["actions"] = drawn
    legal = torch.rand(batch.avail_actions.shape, generator=draws) < 0.5
    legal = legal.scatter(2, drawn.clamp(0, n_actions - 1)[..., None], True)  # final frames hold garbage
    fields["avail_actions"] = torch.where(theirs[..., None], legal, batch.avail_actions)
    return replace(batch, fields=fields, checked=True)


@pytest.mark.parametrize(
    ("name", "reward_per_agent"), [*((name, True) for name in NAMES), *((name, False) for name in PLAIN)]
)
def test_what_partners_earn_and_thought_counts_nothing(
    name: str, reward_per_agent: bool, tmp_path: Path
) -> None:
    """Bit for bit in loss, log and gradients; so do their seats, but for an oracle."""
    for seed in range(4):
        learners = 1 if name == "omg" else 1 + seed % 2
        batch = batch_of(name, seed, learners=learners, reward_per_agent=reward_per_agent)
        learner = make_learner(name, batch.spec, tmp_path)
        want = outcome(learner, batch)
        names = [
            "log_prob",
            *(["reward"] if reward_per_agent else []),
            *(["partner"] if name != "omg" else []),
        ]
        given = poisoned(batch, seed, *names)
        assert_same(outcome(learner, given), want)


@pytest.mark.parametrize("settings", [{}, {"agent": "feedforward"}, {"share": "none"}], ids=str)
@pytest.mark.parametrize("name", sorted({*PLAIN} - {"maddpg"}))  # whose critic sees what all do
def test_what_partners_see_and_do_counts_nothing(name: str, settings: dict[str, Any]) -> None:
    """Their values, their entropy, their log-probabilities; the state is a field of its own, and stays.

    COMA's critic reads what the others do, and partners are others.
    """
    for seed in range(3):
        batch = batch_of(name, seed, learners=2, reward_per_agent=True, state=True)
        learner = make_learner(name, batch.spec, **settings)
        want = outcome(learner, batch)
        given = other(batch, seed, actions=name != "coma")
        assert_same(outcome(learner, given), want)
        assert_same(outcome(learner, poisoned(given, seed, "reward", "log_prob")), want)


@pytest.mark.parametrize("name", ["maa2c", "mappo"])
def test_values_that_a_central_critic_gives_partners_count_nothing(name: str) -> None:
    """An output for each agent; agent 0 learns in all episodes."""
    batch = batch_of(name, 5, reward_per_agent=True)
    learns = torch.zeros_like(batch["learns"])
    learns[:, 0] = True
    batch = replace(batch, fields={**batch.fields, "learns": learns}, checked=True)
    learner = make_learner(name, batch.spec, critic="central")
    want = outcome(learner, batch)
    assert isinstance(learner, ActorCritic)
    head: Any = learner.networks.critic.head
    with torch.no_grad():
        head.weight[1:] += 3.0
        head.bias[1:] -= 5.0
    given = outcome(learner, batch)
    for key, tensor in want.items():
        torch.testing.assert_close(given[key], tensor, rtol=1e-5, atol=1e-6, msg=key)
    assert (given["critic.head.weight"][1:] == 0).all()
    assert (given["critic.head.weight"][0] != 0).any()


@pytest.mark.parametrize("reward_per_agent", [True, False])
@pytest.mark.parametrize("name", PLAIN)
def test_where_all_agents_learn_the_loss_is_that_without_partners(name: str, reward_per_agent: bool) -> None:
    draws = torch.Generator().manual_seed(7)
    batch = batch_of(name, 3, reward_per_agent=reward_per_agent)
    everybody = torch.ones_like(batch["learns"])
    everybody[batch.final_frames] = garbage(everybody[batch.final_frames], draws)
    fields = {**batch.fields, "learns": everybody}
    without = {key: value for key, value in batch.fields.items() if key not in ("learns", "partner")}
    spec = replace(batch.spec, fields={key: batch.spec.fields[key] for key in without})
    learner = make_learner(name, batch.spec)
    given = outcome(learner, replace(batch, fields=fields, checked=True))
    want = outcome(learner, replace(batch, spec=spec, fields=without, checked=True))
    assert_same(given, want)
    different = outcome(learner, batch)["loss"]
    assert different != want["loss"], "who learns matters"


def alive_and_learning(episode: EpisodeBatch) -> list[tuple[int, int]]:
    """Steps and agents that count, by a loop."""
    return [
        (t, n)
        for t in range(int(episode.lengths[0]))
        for n in range(episode.spec.n_agents)
        if episode.alive[t, n] and episode["learns"][0, n]
    ]


@pytest.mark.parametrize("reward_per_agent", [True, False])
@pytest.mark.parametrize("td_lambda", [0.0, 0.6, 1.0])
def test_iql_by_a_loop_in_double(td_lambda: float, reward_per_agent: bool) -> None:
    gamma = 0.9
    batch = in_double(batch_of("iql", 11, learners=2, reward_per_agent=reward_per_agent))
    learner = make_learner("iql", batch.spec, td_lambda=td_lambda, gamma=gamma)
    assert isinstance(learner, QLearner)
    learner.networks.double()
    errors = []
    with torch.no_grad():
        for episode in batch.split():
            q, target_q = learner.online["actor"](episode), learner.target["actor"](episode)
            length = int(episode.lengths[0])
            returns: dict[tuple[int, int], float] = {}
            for n in range(episode.spec.n_agents):
                for t in reversed(range(length)):
                    reward = float(episode["reward"][t, n] if reward_per_agent else episode["reward"][t])
                    over = t == length - 1 and bool(episode.terminated[0])
                    discount = 0.0 if over or not episode.alive[t + 1, n] else gamma
                    legal = episode.avail_actions[t + 1, n]
                    best = int(torch.where(legal, q[t + 1, n], -torch.inf).argmax())
                    value = float(target_q[t + 1, n, best])
                    following = value if t == length - 1 else returns[t + 1, n]
                    mixed = (1 - td_lambda) * value + td_lambda * following if t < length - 1 else value
                    returns[t, n] = reward + discount * mixed
            errors += [
                returns[t, n] - float(q[t, n, episode["actions"][t, n]])
                for t, n in alive_and_learning(episode)
            ]
    want = sum(error**2 for error in errors) / len(errors)
    given = float(learner.loss(batch)["loss"].detach())
    assert given == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("name", ["ippo", "mappo", "ia2c", "maa2c"])
def test_the_policy_term_by_a_loop_in_double(name: str, normalise: bool) -> None:
    batch = in_double(batch_of(name, 12, learners=2, reward_per_agent=True))
    learner = make_learner(name, batch.spec, normalise_advantage=normalise, normalise_value=False)
    assert isinstance(learner, PPOLearner | A2CLearner)
    learner.networks.double()
    config, team = learner.config, name in ("mappo", "maa2c")
    advantages: list[float] = []
    terms: list[tuple[float, float, int]] = []
    with torch.no_grad():
        for episode in batch.split():
            value, logits = learner.networks.critic(episode), learner.actor(episode)
            length, counted = int(episode.lengths[0]), alive_and_learning(episode)
            gae: dict[tuple[int, int], float] = {}
            place: dict[tuple[int, int], int] = {}
            for v in range(value.shape[1]):
                for t in reversed(range(length)):
                    agents = range(episode.spec.n_agents) if team else [v]
                    reward = sum(float(episode["reward"][t, n]) for n in agents if (t, n) in counted)
                    over = t == length - 1 and bool(episode.terminated[0])
                    stays = not over and (team or bool(episode.alive[t + 1, v]))
                    future = float(value[t + 1, v]) if stays else 0.0
                    delta = reward + config.gamma * future - float(value[t, v])
                    decay = config.gamma * config.gae_lambda if stays else 0.0
                    gae[t, v] = delta + decay * gae.get((t + 1, v), 0.0)
                    if team or (t, v) in counted:
                        place[t, v] = len(advantages)
                        advantages.append(gae[t, v])
            for t, n in counted:
                legal = episode.avail_actions[t, n]
                log_p = torch.where(legal, logits[t, n], -torch.inf).log_softmax(0)
                taken = log_p[episode["actions"][t, n]]
                ratio = (taken - episode["log_prob"][t, n]).exp()
                terms.append((float(taken), float(ratio), place[t, 0 if team else n]))
    advantage = torch.tensor(advantages, dtype=torch.float64)
    clip: float = learner.config.clip if isinstance(learner, PPOLearner) else 0.0
    if normalise:
        advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
    policy_loss = 0.0
    for log_prob, rho, at in terms:
        a = float(advantage[at])
        if name.endswith("ppo"):
            bounded: float = min(max(rho, 1.0 - clip), 1.0 + clip)
            gain: float = min(rho * a, bounded * a)
        else:
            gain = log_prob * min(rho, 1.0) * a
        policy_loss -= gain / len(terms)
    assert float(learner.loss(batch)["policy_loss"]) == pytest.approx(policy_loss, rel=1e-5)


@pytest.mark.parametrize("name", PLAIN)
def test_an_update_in_which_nobody_learns_leaves_sound_weights(name: str) -> None:
    """The learner's agents had left before they could act: nothing is learned, and nothing is NaN."""
    batch = batch_of(name, 4, learners=2, reward_per_agent=True)
    alive = batch.alive & partners_of(batch)
    batch = replace(batch, fields={**batch.fields, "alive": alive}, checked=True)
    learner = make_learner(name, batch.spec)
    if isinstance(learner, ValueLearner):
        learner = make_learner(name, batch.spec, normalise_reward="scale")
    metrics = learner.update(batch)
    assert all(torch.isfinite(value).all() for value in metrics.values()), metrics
    assert all(torch.isfinite(tensor).all() for tensor in learner.networks.state_dict().values())


@pytest.mark.parametrize("normalise", ["scale", "standardise"])
def test_moments_of_rewards_are_those_of_the_learners_agents(normalise: str) -> None:
    for name in ("iql", "vdn"):
        batch = batch_of(name, 6, learners=2, reward_per_agent=True)
        learner = make_learner(name, batch.spec, normalise_reward=normalise)
        assert isinstance(learner, QLearner)
        learner.update(poisoned(batch, 1, "reward"))
        own = torch.tensor(
            [
                float(episode["reward"][t, n])
                for episode in batch.split()
                for t, n in alive_and_learning(episode)
            ],
            dtype=torch.float64,
        )
        if name == "iql":
            torch.testing.assert_close(learner.reward_moments.mean, own.mean())
            assert int(learner.reward_moments.count) == len(own)
        else:
            torch.testing.assert_close(learner.reward_moments.mean * learner.reward_moments.count, own.sum())


@pytest.mark.parametrize("name", ["ia2c", "ippo"])
def test_moments_of_values_are_those_of_the_learners_agents(name: str) -> None:
    batch = batch_of(name, 6, learners=2, reward_per_agent=True)
    learner = make_learner(name, batch.spec)
    assert isinstance(learner, ActorCritic)
    learner.update(poisoned(batch, 1, "reward", "log_prob"))
    assert int(learner.networks.value_moments.count) == sum(
        len(alive_and_learning(episode)) for episode in batch.split()
    )
    assert torch.isfinite(learner.networks.value_moments.mean)
