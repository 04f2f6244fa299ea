"""Models that infer the partners' subgoal: the frame, of the next few, that matters most to the learner.

Yu, Jiang and Lu (2024), OpenReview Lt6wO0oZ8k. Equations by their numbers there.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from endmark.algorithms.omg.models import Belief, Lesson, Model, mlp, recur
from endmark.algorithms.omg.prior import Prior, gaussian_kl, sample
from endmark.algorithms.omg.view import View, as_one_hot
from endmark.algorithms.values import mean
from endmark.episodes import NO_ACTION
from endmark.episodes.ragged import TimeMajor
from endmark.nets import Inputs, Memory, RecurrentAgent

Reconstruct = Literal["state", "subgoal"]


class History(Model):
    """What the two subgoal models share: x, the frame, and h, a recurrence over frames and actions before.

    The recurrence reads the frame before, what the others did there, and the learner's own action there.
    """

    def __init__(self, prior: Prior, n_agents: int, n_actions: int, hidden_size: int) -> None:
        super().__init__()
        self.prior = prior
        self.n_actions, self.code_size = n_actions, prior.code_size
        size = prior.n_features + n_agents * n_actions
        inputs = Inputs((size,), 1, n_actions, last_action=True, agent_id=False)
        self.recurrence = RecurrentAgent(inputs, hidden_size)
        self.frame = nn.Linear(prior.n_features, hidden_size // 2)
        self.width = hidden_size + hidden_size // 2

    def start(self, n_rows: int) -> Memory:
        """Hidden states, and the frame before: zeros."""
        zeros = self.frame.weight.new_zeros(n_rows, self.frame.in_features)
        return {**self.recurrence.start(n_rows), "before": zeros}

    def histories(self, view: View, packing: TimeMajor) -> Float[Tensor, "F I"]:
        """x and h at all frames of whole episodes."""
        seen_now = self.prior.standardised(view.goal_obs)
        begins = view.own_last == NO_ACTION
        before = torch.where(begins[:, None], 0.0, seen_now.roll(1, 0))
        seen = torch.cat([before, as_one_hot(view.others_last, self.n_actions)], 1)
        h = self.recurrence.unroll(seen[:, None], view.own_last[:, None], packing)[:, 0]
        return torch.cat([self.frame(seen_now).relu(), h], 1)

    def next_history(self, view: View, memory: Memory) -> tuple[Float[Tensor, "K I"], Memory]:
        """x and h at one frame, and the memory for the next."""
        seen_now = self.prior.standardised(view.goal_obs)
        seen = torch.cat([memory["before"], as_one_hot(view.others_last, self.n_actions)], 1)
        h, hidden = recur(self.recurrence, seen, view.own_last, memory)
        return torch.cat([self.frame(seen_now).relu(), h], 1), {**hidden, "before": seen_now}

    def step(self, view: View, memory: Memory) -> tuple[Belief, Memory]:
        """One more frame."""
        history, memory = self.next_history(view, memory)
        return self.infer(history), memory

    def forward(self, view: View, packing: TimeMajor) -> Belief:
        """All frames of whole episodes."""
        return self.infer(self.histories(view, packing))

    @abstractmethod
    def infer(self, history: Float[Tensor, "R I"]) -> Belief:
        """The belief from x and h."""


class Supervised(History):
    """The mean of the selected frame's code, regressed."""

    def __init__(self, prior: Prior, n_agents: int, n_actions: int, hidden_size: int) -> None:
        super().__init__(prior, n_agents, n_actions, hidden_size)
        self.net = mlp(self.width, hidden_size, self.code_size)

    def infer(self, history: Float[Tensor, "R I"]) -> Belief:
        """The code."""
        return Belief(self.net(history), None, history)

    def loss(self, belief: Belief, lesson: Lesson) -> dict[str, Tensor]:
        """The squared error, mean over the code and over the steps that have a subgoal."""
        goal = lesson.goal
        assert goal is not None
        loss = mean((belief.code[lesson.steps] - goal.mean).square().mean(-1), goal.has_one, lesson.weight)
        return {"model_loss": loss, "reconstruction": loss.detach()}


class OMG(History):
    """The subgoal as a Gaussian: a conditional autoencoder, whose prior is the selected frame's code.

    reconstruct: what is decoded from the code and the history, the frame itself ("state", as printed in
        eq. 5) or the selected frame ("subgoal").
    """

    def __init__(
        self,
        prior: Prior,
        n_agents: int,
        n_actions: int,
        hidden_size: int,
        kl_weight: float,
        reconstruct: Reconstruct,
    ) -> None:
        super().__init__(prior, n_agents, n_actions, hidden_size)
        self.kl_weight, self.reconstruct = kl_weight, reconstruct
        self.posterior = mlp(self.width, hidden_size, 2 * self.code_size)
        self.decoder = mlp(self.code_size + hidden_size, hidden_size, prior.n_features)

    def infer(self, history: Float[Tensor, "R I"]) -> Belief:
        """Mean and log-variance of the code."""
        code, log_var = self.posterior(history).chunk(2, -1)
        return Belief(code, log_var.clamp(-10.0, 10.0), history)

    def loss(self, belief: Belief, lesson: Lesson) -> dict[str, Tensor]:
        """(5): mean squared error of the decoded frame, and the weighted KL from the selected code."""
        goal, steps = lesson.goal, lesson.steps
        assert goal is not None
        assert belief.log_var is not None
        assert belief.history is not None
        target = (
            goal.features
            if self.reconstruct == "subgoal"
            else self.prior.standardised(lesson.view.goal_obs[steps])
        )
        code, log_var = belief.code[steps], belief.log_var[steps]
        h = belief.history[steps][:, self.frame.out_features :]
        drawn = code if lesson.generator is None else sample(code, log_var, lesson.generator)
        decoded = self.decoder(torch.cat([drawn, h], 1))
        counted = goal.has_one
        reconstruction = mean((decoded - target).square().mean(-1), counted, lesson.weight)
        kl = mean(gaussian_kl(code, log_var, goal.mean, goal.log_var), counted, lesson.weight)
        return {
            "model_loss": reconstruction + self.kl_weight * kl,
            "reconstruction": reconstruction.detach(),
            "kl": kl.detach(),
        }
