"""What a learner knows about its partners at a frame, as a code of D numbers that its values read.

| model | code | learned from |
|---|---|---|
| `none` | zeros | |
| `index` | which members of the pool sit there: an oracle | |
| `actions` | what the others do at this very frame: an oracle | |
| `naive` | the actions that it expects of them, from its observation alone | their actions |
| `liam` | an embedding of what it has seen and done so far | their observations and actions |
| `supervised` | the subgoal, regressed | the code of the selected frame |
| `omg` | the subgoal, inferred as a Gaussian | what it sees, and the selected frame's code |

naive: He et al. (2016), arXiv:1609.05559, as Yu et al. (2024) have it. liam: Papoudakis et al. (2021),
arXiv:2006.09447. omg, supervised: Yu et al. (2024), OpenReview Lt6wO0oZ8k, eq. (5).

A model reads a `View` and owns its memory, as agents do: `step` on one frame, `forward` on whole episodes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from endmark.algorithms.omg.view import View, as_one_hot
from endmark.algorithms.values import mean
from endmark.episodes import NO_ACTION
from endmark.episodes.ragged import TimeMajor
from endmark.nets import Inputs, Memory, RecurrentAgent

ModelKind = Literal["none", "index", "actions", "naive", "liam", "supervised", "omg"]


class Belief(NamedTuple):
    """A model's code at R frames, and what it was made from. log_var: None where the code is certain."""

    code: Float[Tensor, "R D"]
    log_var: Float[Tensor, "R D"] | None
    history: Float[Tensor, "R I"] | None


class Goal(NamedTuple):
    """The selected frame of each step: its code and its features. has_one: False if there is no candidate."""

    mean: Float[Tensor, "S D"]
    log_var: Float[Tensor, "S D"]
    features: Float[Tensor, "S G"]
    has_one: Bool[Tensor, " S"]


class Lesson(NamedTuple):
    """What a model learns from: the frames that carry a step, and for subgoal models the selected frames.

    generator: for draws; None: take means instead. weight: of each step in the loss; None: 1.
    """

    view: View
    steps: Int[Tensor, " S"]
    goal: Goal | None
    generator: torch.Generator | None
    weight: Float[Tensor, " S"] | None = None


class Model(nn.Module, ABC):
    """The contract of a model. code_size: D."""

    code_size: int

    @abstractmethod
    def start(self, n_rows: int) -> Memory:
        """The memory before the first frame of so many episodes."""

    @abstractmethod
    def step(self, view: View, memory: Memory) -> tuple[Belief, Memory]:
        """The belief at one frame of K episodes, and the memory for the next frame."""

    @abstractmethod
    def forward(self, view: View, packing: TimeMajor) -> Belief:
        """The beliefs at all frames of whole episodes: those of `step`, frame by frame."""

    @abstractmethod
    def loss(self, belief: Belief, lesson: Lesson) -> dict[str, Tensor]:
        """`model_loss`, and its parts for the log."""


class Memoryless(Model):
    """A model for which each frame stands for itself. It learns nothing, unless its kind has a loss."""

    @abstractmethod
    def believe(self, view: View) -> Belief:
        """The beliefs at any frames."""

    def start(self, n_rows: int) -> Memory:  # noqa: ARG002
        """Nothing to remember."""
        return {}

    def step(self, view: View, memory: Memory) -> tuple[Belief, Memory]:
        """The belief at one frame of K episodes."""
        return self.believe(view), memory

    def forward(self, view: View, packing: TimeMajor) -> Belief:  # noqa: ARG002
        """The beliefs at all frames."""
        return self.believe(view)

    def loss(self, belief: Belief, lesson: Lesson) -> dict[str, Tensor]:  # noqa: ARG002
        """Zero."""
        return {"model_loss": belief.code.new_zeros(())}


class Nothing(Memoryless):
    """No model: a code of one zero."""

    code_size = 1

    def believe(self, view: View) -> Belief:
        """Zero."""
        return Belief(view.obs.new_zeros(len(view.obs), 1), None, None)


class Index(Memoryless):
    """An oracle: how many seats each member of the pool has, out of so many members at most."""

    def __init__(self, max_partners: int) -> None:
        super().__init__()
        self.code_size = max_partners

    def believe(self, view: View) -> Belief:
        """One-hot where there is one partner."""
        if (most := int(view.partner.max()) + 1) > self.code_size:
            raise ValueError(f"max_partners: given {self.code_size}, want at least {most}, the pool")
        who = as_one_hot(view.partner, self.code_size).view(*view.partner.shape, -1).to(view.obs.dtype)
        return Belief(who.sum(1), None, None)


class Actions(Memoryless):
    """An oracle: what the others do at this frame."""

    def __init__(self, n_agents: int, n_actions: int) -> None:
        super().__init__()
        self.n_actions, self.code_size = n_actions, n_agents * n_actions

    def believe(self, view: View) -> Belief:
        """One-hot for each agent; zeros in the learner's place, and where nobody acts."""
        return Belief(as_one_hot(view.others_now, self.n_actions).to(view.obs.dtype), None, None)


class Naive(Memoryless):
    """The others' actions, predicted from the learner's observation alone."""

    def __init__(self, obs_size: int, n_agents: int, n_actions: int, hidden_size: int) -> None:
        super().__init__()
        self.n_actions, self.code_size = n_actions, n_agents * n_actions
        self.net = mlp(obs_size, hidden_size, self.code_size)

    def believe(self, view: View) -> Belief:
        """Probabilities; zeros in the learner's place. history: the logits."""
        logits: Tensor = self.net(view.obs)
        likely = logits.view(len(logits), -1, self.n_actions).softmax(-1)
        return Belief(torch.where(view.others[..., None], likely, 0.0).flatten(1), None, logits)

    def loss(self, belief: Belief, lesson: Lesson) -> dict[str, Tensor]:
        """Cross-entropy with what they did, the mean over steps and others."""
        assert belief.history is not None
        loss = action_loss(belief.history[lesson.steps], lesson, self.n_actions)
        return {"model_loss": loss, "action_loss": loss.detach()}


class LIAM(Model):
    """An embedding of the learner's own observations and actions, from which the others' are decoded.

    obs_size: numbers that the learner sees, its seat among them. other_size: those of another's observation.
    """

    def __init__(
        self, obs_size: int, other_size: int, n_agents: int, n_actions: int, hidden_size: int, code_size: int
    ) -> None:
        super().__init__()
        self.n_actions, self.code_size = n_actions, code_size
        inputs = Inputs((obs_size,), 1, n_actions, last_action=True, agent_id=False)
        self.recurrence = RecurrentAgent(inputs, hidden_size)
        self.embed = nn.Linear(hidden_size, code_size)
        self.decoder = mlp(code_size, hidden_size, n_agents * (other_size + n_actions))

    def start(self, n_rows: int) -> Memory:
        """The recurrence's hidden states."""
        return self.recurrence.start(n_rows)

    def step(self, view: View, memory: Memory) -> tuple[Belief, Memory]:
        """One more frame."""
        history, memory = recur(self.recurrence, view.obs, view.own_last, memory)
        return Belief(self.embed(history), None, None), memory

    def forward(self, view: View, packing: TimeMajor) -> Belief:
        """All frames of whole episodes."""
        history = self.recurrence.unroll(view.obs[:, None], view.own_last[:, None], packing)[:, 0]
        return Belief(self.embed(history), None, None)

    def loss(self, belief: Belief, lesson: Lesson) -> dict[str, Tensor]:
        """Half the mean squared error of the others' observations, and the cross-entropy of their actions."""
        view, steps = lesson.view, lesson.steps
        decoded: Tensor = self.decoder(belief.code[steps])
        n_actions = view.partner.shape[1] * self.n_actions
        obs, logits = decoded[:, n_actions:], decoded[:, :n_actions]
        error = (obs.view_as(view.others_obs[steps]) - view.others_obs[steps]).square().mean(-1)
        reconstruction = 0.5 * mean(error, view.others[steps] & view.alive[steps, None], lesson.weight)
        actions = action_loss(logits, lesson, self.n_actions)
        return {
            "model_loss": reconstruction + actions,
            "reconstruction": reconstruction.detach(),
            "action_loss": actions.detach(),
        }


def recur(
    agent: RecurrentAgent, obs: Float[Tensor, "K I"], last: Tensor, memory: Memory
) -> tuple[Float[Tensor, "K H"], Memory]:
    """One frame of a recurrent agent that is alone: its features, and its memory."""
    hidden, after = agent.advance(obs[:, None], last[:, None], memory)
    return hidden[:, 0], after


def action_loss(logits: Float[Tensor, "S _"], lesson: Lesson, n_actions: int) -> Float[Tensor, ""]:
    """Cross-entropy of what others did: the mean over steps and others, while they and it take part."""
    logits = logits.view(len(logits), -1, n_actions)
    view, steps = lesson.view, lesson.steps
    taken = torch.where(view.alive[steps, None], view.others_now[steps], NO_ACTION)
    if lesson.weight is None:
        return cross_entropy(logits.flatten(0, 1), taken.flatten(), ignore_index=NO_ACTION)
    each = cross_entropy(logits.flatten(0, 1), taken.flatten(), ignore_index=NO_ACTION, reduction="none")
    return mean(each.view_as(taken), taken != NO_ACTION, lesson.weight)


def mlp(n_in: int, hidden_size: int, n_out: int) -> nn.Sequential:
    """Two layers."""
    return nn.Sequential(nn.Linear(n_in, hidden_size), nn.ReLU(), nn.Linear(hidden_size, n_out))
