"""Q-learning beside partners, with a model of them: OMG (Yu et al. 2024) and what it is compared with.

    g(t)      the model's code of the partners; for OMG the inferred subgoal, at times the selected one (8)
    target(t) = r(t) + γ Q⁻(s(t+1), g(t), a*)   a* greedy by Q(s(t+1), g(t), ·): the subgoal is held (4)
    loss      = mean over steps at which the learner takes part of (target(t) - Q(s(t), g(t), a(t)))²
                + the model's own loss (5), on weights of its own: g has no gradient

One agent of each episode learns, the others follow partners. The subgoal of a step is the frame, of the next
H of its episode, whose code the learner values most (6) or least (7).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from endmark.algorithms.learner import check_positive, check_ranges
from endmark.algorithms.omg import settings
from endmark.algorithms.omg.goals import Selected, codes_of, diagnostics, select, told
from endmark.algorithms.omg.making import make_actor
from endmark.algorithms.omg.models import Lesson
from endmark.algorithms.omg.network import ModellingActor
from endmark.algorithms.omg.policy import ModellingPolicy
from endmark.algorithms.omg.selecting import Over, mix_share, state_value
from endmark.algorithms.omg.settings import ModelSettings
from endmark.algorithms.omg.subgoals import History
from endmark.algorithms.omg.view import View, check_spec, of_batch, seat_at, taken_at
from endmark.algorithms.replay_settings import EpsilonSettings
from endmark.algorithms.values import agent_reward, anneal_, backward_, importance, mean, priority
from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.targets import lambda_return


@dataclass(frozen=True)
class OMGConfig(ModelSettings, EpsilonSettings):
    """Opponent modelling by subgoal inference, on double, duelling Q-learning, and the models beside it."""

    value_over: Over = "mean"
    """How the values of the legal actions make that of a candidate."""
    held: bool | None = None
    """Read the successor's value under the step's own code, as in (4), rather than under its own. None: where
    the code is a subgoal."""
    td_lambda: float = 0.0
    """Mix of n-step returns in the target. Above 0 it mixes values under several codes."""
    lr: float = 5e-4
    """Adam's learning rate."""
    duelling: bool = True
    """Values as a state's value and advantages (Wang et al. 2016)."""
    target_tau: float = 0.01
    """The share of the way that the target network goes at every update."""
    max_grad_norm: float = 10.0
    """The values' gradient, and the model's, are scaled down to this norm where theirs is larger."""

    METRICS: ClassVar[Mapping[str, str]] = {
        "loss": "mean squared TD error over steps at which the learner takes part, and the model's loss",
        "q_taken": "mean value of the actions taken",
        "target": "mean return that these values should have",
        "td_error_abs": "mean absolute difference of the two",
        "grad_norm": "norm of the values' gradient before it is clipped",
        **settings.METRICS,
    }

    def __post_init__(self) -> None:
        ModelSettings.__post_init__(self)
        EpsilonSettings.__post_init__(self)
        check_ranges(self, td_lambda=(0, 1), target_tau=(0, 1))
        check_positive(self, "lr", "max_grad_norm")

    def learner(self, spec: EpisodeSpec, device: torch.device) -> OMGLearner:
        """The learner, untrained."""
        return OMGLearner(spec, self, device)


class OMGLearner:
    """Learns values beside partners, and a model of them. A `Learner`."""

    def __init__(self, spec: EpisodeSpec, config: OMGConfig, device: torch.device | str = "cpu") -> None:
        check_spec(spec, config.goal_of)
        self.spec, self.config, self.updates = spec, config, 0
        actor = make_actor(
            spec,
            config,
            kind=config.agent,
            attention=config.attention,
            hidden_size=config.hidden_size,
            last_action=config.last_action,
            duelling=config.duelling,
        )
        target = copy.deepcopy(actor).requires_grad_(False)
        target.model = nn.Module()  # type: ignore[assignment] # codes come from the online one
        self._actor, self._target = actor, target
        self.networks = nn.ModuleDict({"actor": actor, "target": target}).to(device)
        self._values: list[Tensor] = [*actor.agent.parameters(), *actor.head.parameters()]
        self._model: list[Tensor] = [p for p in actor.model.parameters() if p.requires_grad]
        groups = [{"params": self._values, "lr": config.lr}, {"params": self._model, "lr": config.model_lr}]
        self.optimiser = torch.optim.Adam(groups[: 1 + bool(self._model)], fused=True)
        self._seed = int(torch.randint(2**62, ()))

    @property
    def actor(self) -> ModellingActor:
        """What acts."""
        return self._actor

    def loss(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """`loss` to minimise, and for the log, without gradient, scalars of `OMGConfig.METRICS`.

        Codes are drawn by a generator whose seed is the number of updates: the same call gives the same loss.
        """
        config, actor, target = self.config, self._actor, self._target
        draws = torch.Generator().manual_seed((self._seed + self.updates) % 2**63)
        view = of_batch(batch, config.goal_of)
        steps, successors = batch.step_frames, batch.step_frames + 1
        seat = seat_at(batch)
        counted = view.alive[steps]

        features = actor.unroll(view, batch.time_major)
        belief = actor.model(view, batch.time_major)
        with torch.no_grad():
            target_features = target.unroll(view, batch.time_major)
            codes = codes_of(belief, config, draws)
            code, goal = codes[steps], None
            metrics: dict[str, Tensor] = {}
            if isinstance(actor.model, History):
                selected = self._select(batch, view, features, draws)
                share = mix_share(config.mix_start, config.mix_updates, self.updates)
                code, goal, metrics = told(selected, code, share, config, draws)
                inferred = belief.code[steps]
                metrics |= diagnostics(batch, view, actor.model, selected, inferred, config.horizon)
            held = config.held if config.held is not None else isinstance(actor.model, History)
            next_code = code if held else codes[successors]

        q = actor.head(features[steps], code)
        q_taken = q.gather(1, taken_at(batch)[:, None])[:, 0]
        with torch.no_grad():
            next_q = actor.head(features[successors], next_code)
            best = torch.where(view.avail_actions[successors], next_q, -torch.inf).argmax(1, keepdim=True)
            next_value = target.head(target_features[successors], next_code).gather(1, best)[:, 0]
            reward = agent_reward(batch).gather(1, seat)[:, 0]
            discount = batch.agent_discount(config.gamma).gather(1, seat)[:, 0]
            value = lambda_return(reward, discount, next_value, batch.lengths, config.td_lambda)
        td_error, weight = torch.where(counted, value - q_taken, 0.0), importance(batch)
        drawing = draws if config.sample_codes else None
        model = actor.model.loss(belief, Lesson(view, steps, goal, drawing, weight))
        return {
            "loss": mean(td_error.square(), counted, weight) + model["model_loss"],
            "q_taken": mean(q_taken.detach(), counted),
            "target": mean(value, counted),
            "td_error_abs": mean(td_error.detach().abs(), counted),
            **model,
            "model_loss": model["model_loss"].detach(),
            **metrics,
            **priority(batch, td_error),
        }

    def update(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """One optimiser step of the values and of the model."""
        metrics = self.loss(batch)
        groups = [self._values, self._model][: 1 + bool(self._model)]
        norms = backward_(metrics["loss"], groups, self.config.max_grad_norm)
        metrics["loss"] = metrics["loss"].detach()
        metrics |= dict(zip(("grad_norm", "model_grad_norm"), norms, strict=False))
        anneal_(self.optimiser, self.updates, self.config.lr_updates)
        self.optimiser.step()
        self.updates += 1
        with torch.no_grad():
            slow: list[Tensor] = [*self._target.agent.parameters(), *self._target.head.parameters()]
            torch._foreach_lerp_(slow, self._values, self.config.target_tau)
        return metrics

    def policy(self, actor: Any, n_envs: int, generator: torch.Generator) -> ModellingPolicy:
        """ε-greedy, with ε falling over time."""
        config = self.config
        return ModellingPolicy(
            actor, n_envs, config.goal_of, generator, config.epsilon_at, exploring=config.sample_codes
        )

    def greedy_policy(self, n_envs: int) -> ModellingPolicy:
        """Greedy, by the mean of the belief."""
        return ModellingPolicy(self._actor, n_envs, self.config.goal_of, torch.Generator())

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimiser, the number of updates and the seed of draws."""
        return {
            "networks": self.networks.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "updates": self.updates,
            "seed": self._seed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.networks.load_state_dict(state["networks"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.updates, self._seed = int(state["updates"]), int(state["seed"])

    def _select(
        self, batch: EpisodeBatch, view: View, features: Float[Tensor, "F H"], draws: torch.Generator
    ) -> Selected:
        """The subgoal of each step, by the values of its candidates."""
        config, actor, steps = self.config, self._actor, batch.step_frames
        assert isinstance(actor.model, History)

        def value_of(codes: Float[Tensor, "S H D"]) -> Float[Tensor, "S H"]:
            q = actor.head(features[steps][:, None].expand(-1, config.horizon, -1), codes)
            return state_value(q, view.avail_actions[steps][:, None].expand_as(q), config.value_over)

        return select(batch, view, actor.model, config, value_of, draws)
