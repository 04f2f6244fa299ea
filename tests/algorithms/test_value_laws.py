"""The defining laws of weighted QMIX and QTRAN by hand, and what each value method makes of a matrix game."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from endmark.algorithms import (
    ALGORITHMS,
    CWQMIXConfig,
    OWQMIXConfig,
    QTRANConfig,
    QTRANLearner,
    ValueLearner,
)
from endmark.algorithms.wqmix import central, optimistic
from endmark.envs.matrix_games import MatrixGame
from endmark.episodes import EpisodeBatch
from endmark.nets import Actor, LinearHead

CLIMBING = [[11, -30, 0], [-30, 7, 6], [0, 0, 5]]
"""Claus & Boutilier (1998)."""


def game_of(payoff: Sequence[Sequence[float]]) -> EpisodeBatch:
    """Each joint action of a game of one step, once: full exploration."""
    n_actions = len(payoff)
    spec = MatrixGame([payoff], [[-1] * n_actions]).spec
    joint = list(itertools.product(range(n_actions), repeat=2))
    n_frames = 2 * len(joint)
    first = torch.arange(0, n_frames, 2)
    fields = {
        "obs": torch.zeros(n_frames, 2, 1),
        "state": torch.zeros(n_frames, 1),
        "avail_actions": torch.ones(n_frames, 2, n_actions, dtype=torch.bool),
        "alive": torch.ones(n_frames, 2, dtype=torch.bool),
        "actions": torch.zeros(n_frames, 2, dtype=torch.int64),
        "reward": torch.full((n_frames,), torch.nan),
    }
    fields["obs"][first], fields["state"][first] = 1.0, 1.0
    fields["actions"][first] = torch.tensor(joint)
    fields["reward"][first] = torch.tensor([float(payoff[a][b]) for a, b in joint])
    ones = torch.ones(len(joint), dtype=torch.int64)
    return EpisodeBatch(spec, fields, ones, torch.ones(len(joint), dtype=torch.bool))


def set_constant(network: nn.Module, value: float) -> None:
    """Whatever it is given, it then gives this."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        layers[-1].weight.zero_()
        layers[-1].bias.fill_(value)


def set_values(actor: Actor, values: Sequence[float]) -> None:
    head = cast(LinearHead, actor.head)
    with torch.no_grad():
        head.linear.weight.zero_()
        head.linear.bias.copy_(torch.tensor(values))


# --- weighted QMIX ---


def test_weights_on_hand_made_cases() -> None:
    target = torch.tensor([3.0, 3.0, 3.0, -1.0])
    taken = torch.tensor([2.0, 3.0, 4.0, -5.0])
    assert optimistic(target, taken, 0.25).tolist() == [1, 0.25, 0.25, 1]
    greedy, as_greedy = torch.tensor([2.0, 3.0, 4.0, 4.0]), torch.tensor([False, False, False, True])
    assert central(target, greedy, as_greedy, 0.25).tolist() == [1, 0.25, 0.25, 1]


@pytest.mark.parametrize(
    ("kind", "weights"),
    [(OWQMIXConfig, [1.0, 0.25, 1.0, 0.25]), (CWQMIXConfig, [1.0, 0.25, 0.25, 1.0])],
)
def test_the_loss_of_weighted_qmix_by_hand(
    kind: type[OWQMIXConfig | CWQMIXConfig], weights: list[float]
) -> None:
    """Payoffs 8 -12 2 0 of (0, 0), (0, 1), (1, 0), (1, 1); Q_tot is 1, Q* 3, the slow Q* 5.

    The greedy joint action is (1, 1), and CW-QMIX counts it in full for that alone. Payoff 2 is more than
    Q_tot, and less than Q*'s of the greedy action.
    """
    batch = game_of([[8, -12], [2, 0]])
    learner = kind(alpha=0.25, td_lambda=0.0).learner(batch.spec, torch.device("cpu"))
    set_values(learner.actor, [0.0, 1.0])
    online: Any = learner.online
    for parameters in (online["mixer"].weight_1, online["mixer"].weight_2, online["mixer"].bias_1):
        set_constant(parameters, 0.0)
    set_constant(online["mixer"].bias_2, 1.0)
    slow: Any = learner.target
    for networks, value in [(online, 3.0), (slow, 5.0)]:
        set_constant(networks["central_mixer"].mix, 0.0)
        set_constant(networks["central_mixer"].value, value)
    terms = {name: float(term.detach()) for name, term in learner.loss(batch).items()}
    payoffs = [8, -12, 2, 0]
    weighted = sum(w * (y - 1) ** 2 for w, y in zip(weights, payoffs, strict=True)) / 4
    assert terms["central_loss"] == pytest.approx(sum((y - 3) ** 2 for y in payoffs) / 4)
    assert terms["loss"] == pytest.approx(weighted + terms["central_loss"])
    assert terms["weight"] == pytest.approx(sum(weights) / 4)
    assert (terms["q_taken"], terms["central_q_taken"]) == (1, 3)


# --- QTRAN ---


def test_the_losses_of_qtran_by_hand() -> None:
    """Agents' values (1, 2), joint value 4, V = 0.5; payoffs 8 -12 2 0.

    The sums of values of the joint actions are 2 3 3 4, so they exceed the joint value less V, 3.5, by
    -1.5 -0.5 -0.5 0.5; the greedy one is (1, 1).
    """
    batch = game_of([[8, -12], [2, 0]])
    config = QTRANConfig(td_lambda=0.0, opt_coef=2.0, nopt_coef=3.0)
    learner = config.learner(batch.spec, torch.device("cpu"))
    set_values(learner.actor, [1.0, 2.0])
    joint: Any = learner.online["joint"]
    set_constant(joint.joint, 4.0)
    set_constant(joint.value, 0.5)
    terms = {name: float(term.detach()) for name, term in learner.loss(batch).items()}
    assert terms["td_loss"] == pytest.approx((4**2 + 16**2 + 2**2 + 4**2) / 4)
    assert terms["opt_loss"] == pytest.approx(0.5**2)
    assert terms["nopt_loss"] == pytest.approx((1.5**2 + 0.5**2 + 0.5**2) / 4)
    assert terms["loss"] == pytest.approx(terms["td_loss"] + 2 * terms["opt_loss"] + 3 * terms["nopt_loss"])


def test_the_joint_value_learns_from_its_td_error_alone() -> None:
    """L_opt and L_nopt teach the agents' values and V, and nothing to the layers of Q."""
    batch = game_of(CLIMBING)
    gradients = []
    for coef in (0.0, 1.0):
        torch.manual_seed(0)
        config = QTRANConfig(td_lambda=0.0, opt_coef=coef, nopt_coef=coef)
        learner = config.learner(batch.spec, torch.device("cpu"))
        joint: Any = learner.online["joint"]
        weights = [joint.joint[0].weight, joint.first.weight, joint.second.weight, joint.value[0].weight]
        gradients.append(torch.autograd.grad(learner.loss(batch)["loss"], weights))
    *without, none = gradients[0]
    *beside, some = gradients[1]
    for given, want in zip(beside, without, strict=True):
        assert want.abs().max() > 0
        torch.testing.assert_close(given, want)
    assert (none == 0).all()
    assert some.abs().max() > 0


# --- what they make of a game ---


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trained(
    name: str, batch: EpisodeBatch, updates: int, seed: int
) -> tuple[ValueLearner, dict[str, Tensor]]:
    torch.manual_seed(seed)
    kind: Any = ALGORITHMS[name]
    config = kind(agent="feedforward", last_action=False, lr=5e-3, td_lambda=0.0)
    learner = config.learner(batch.spec, torch.device("cpu"))
    for _ in range(updates):
        metrics = learner.update(batch)
    assert isinstance(learner, ValueLearner)
    return learner, metrics


def greedy_payoff(learner: ValueLearner, batch: EpisodeBatch, payoff: Sequence[Sequence[float]]) -> float:
    features = learner.actor.agent.features(batch)
    first, second = learner.actor.head.greedy(features, batch.avail_actions)[0].tolist()
    return float(payoff[first][second])


@pytest.mark.parametrize("name", ["vdn", "qmix", "qatten"])
def test_no_monotone_value_represents_the_climbing_game(name: str) -> None:
    """Under full exploration its best fit has the safe joint action on top, and misses by 5 and more."""
    batch = game_of(CLIMBING)
    learner, metrics = trained(name, batch, 300, 0)
    assert greedy_payoff(learner, batch, CLIMBING) == 5
    assert metrics["td_error_abs"] > 5


def test_qplex_represents_the_climbing_game_and_finds_its_optimum() -> None:
    batch = game_of(CLIMBING)
    learner, metrics = trained("qplex", batch, 1300, 3)
    assert greedy_payoff(learner, batch, CLIMBING) == 11
    assert metrics["td_error_abs"] < 1


def test_qtran_finds_the_optimum_of_the_climbing_game_and_meets_its_conditions() -> None:
    """Σ Q_i - Q + V is 0 at the greedy joint action, and below 0 at none: theorem 1 of Son et al. (2019)."""
    batch = game_of(CLIMBING)
    learner, metrics = trained("qtran", batch, 1100, 0)
    assert greedy_payoff(learner, batch, CLIMBING) == 11
    assert metrics["td_error_abs"] < 1
    assert isinstance(learner, QTRANLearner)
    assert metrics["opt_loss"] < 0.5
    assert metrics["nopt_loss"] < 0.5


@pytest.mark.parametrize(("name", "seed"), [("ow-qmix", 0), ("cw-qmix", 1)])
def test_weighted_qmix_finds_the_optimum_of_the_climbing_game(name: str, seed: int) -> None:
    batch = game_of(CLIMBING)
    learner, _ = trained(name, batch, 300, seed)
    assert greedy_payoff(learner, batch, CLIMBING) == 11
