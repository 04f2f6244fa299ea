"""PPO beside partners, with a model of them: Algorithm 2 of Yu et al. (2024), and what it is compared with.

    ĝ(t)   the model's code of the partners; the policy reads it: π(· | s(t), ĝ(t))
    g(t)   ĝ(t), or at times the selected subgoal (8); the critic learns under it: V(s(t), g(t))
    A(t)   the GAE advantage of the values V(s(t), ĝ(t)), and G = A + V their λ-returns
    loss   = PPO's loss by A, G and the ratio π(u | s, ĝ) / π_before(u | s, ĝ)
             + the model's own loss (5), on weights of its own: codes have no gradient

The paper's V has no g, though its selector (6), (7) needs one. A does not read g: a selected subgoal is a
frame that the action led to, and a baseline that knew it would bias the policy's gradient.

Codes are those of the model before the batch, for all of its epochs, and so are the probabilities that the
ratio starts from: the ratio is 1 until the policy changes, and measures nothing but that. The model takes a
step wherever policy and critic do: what they read of it stays as it is till the next batch, so there is
nothing to wait for, and it sees each episode as often as they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from endmark.algorithms import actor_critic_settings, proximal
from endmark.algorithms.actor_critic import normalised
from endmark.algorithms.omg import settings
from endmark.algorithms.omg.goals import codes_of, diagnostics, select, told
from endmark.algorithms.omg.making import make_actor
from endmark.algorithms.omg.models import Goal, Lesson
from endmark.algorithms.omg.network import ModellingActor, ModellingCritic
from endmark.algorithms.omg.policy import ModellingPolicy, ModellingSoftmax
from endmark.algorithms.omg.selecting import mix_share
from endmark.algorithms.omg.settings import ModelSettings
from endmark.algorithms.omg.subgoals import History
from endmark.algorithms.omg.view import (
    GoalOf,
    View,
    check_spec,
    learning_at,
    of_batch,
    seat_at,
    sizes,
    taken_at,
)
from endmark.algorithms.proximal import PPOSettings, descend, moved, parts_of, surrogate, value_loss
from endmark.algorithms.values import agent_reward, anneal_, backward_, mean
from endmark.episodes import EpisodeBatch, EpisodeSpec, Field
from endmark.nets import RunningMoments
from endmark.ops.categorical import entropy, log_prob, log_softmax
from endmark.targets import gae


@dataclass(frozen=True)
class OMGPPOConfig(ModelSettings, PPOSettings):
    """Opponent modelling by subgoal inference, on PPO, and the models beside it."""

    critic_of: GoalOf = "obs"
    """What the critic reads: the learner's observation, or the state and where the learner sits."""
    mix_updates: int = 3_000
    """Updates until `mix_start` has fallen to 0; each is of `batch_size` new episodes."""

    METRICS: ClassVar[Mapping[str, str]] = {
        **actor_critic_settings.METRICS,
        "loss": "policy_loss + value_loss - entropy_coef * entropy + model_loss",
        "policy_kl": "estimate of KL(old policy, new policy), (r - 1) - log r, in nats",
        "acted_kl": "the same from the policy that acted to the old one, which reads the codes learned by",
        **proximal.METRICS,
        **settings.METRICS,
    }

    def __post_init__(self) -> None:
        ModelSettings.__post_init__(self)
        PPOSettings.__post_init__(self)

    def learner(self, spec: EpisodeSpec, device: torch.device) -> OMGPPOLearner:
        """The learner, untrained."""
        return OMGPPOLearner(spec, self, device)


class Networks(nn.Module):
    """What acts, with its model of the partners; a critic; the running moments of value targets."""

    def __init__(self, spec: EpisodeSpec, config: OMGPPOConfig) -> None:
        super().__init__()
        options: dict[str, Any] = {
            "kind": config.agent,
            "attention": config.attention.within(spec.episode_limit),
            "hidden_size": config.hidden_size,
            "last_action": config.last_action,
        }
        self.actor = make_actor(spec, config, duelling=False, **options)
        n_inputs = sizes(spec, config.goal_of)[0]
        if config.critic_of == "state":
            n_inputs = sizes(spec, "state")[1] + spec.n_agents
        code_size, n_actions = self.actor.model.code_size, spec.n_actions
        self.critic = ModellingCritic(code_size, n_inputs=n_inputs, n_actions=n_actions, **options)
        self.value_moments = RunningMoments()


class OMGPPOLearner:
    """Learns a policy beside partners, its critic, and a model of the partners. A `Learner`."""

    def __init__(self, spec: EpisodeSpec, config: OMGPPOConfig, device: torch.device | str = "cpu") -> None:
        check_spec(spec, config.goal_of)
        check_spec(spec, config.critic_of)
        self.spec = spec.extend(log_prob=Field((spec.n_agents,), torch.float32, per="step"))
        self.config, self.updates = config, 0
        self.networks = Networks(spec, config).to(device)
        actor, critic = self.networks.actor, self.networks.critic
        self._policy: list[Tensor] = [*actor.agent.parameters(), *actor.head.parameters()]
        self._critic: list[Tensor] = list(critic.parameters())
        self._model: list[Tensor] = [p for p in actor.model.parameters() if p.requires_grad]
        self._groups = [group for group in (self._policy, self._critic, self._model) if group]
        rates = (config.actor_lr, config.critic_lr, config.model_lr)
        self.optimiser = torch.optim.Adam(
            [{"params": group, "lr": lr} for group, lr in zip(self._groups, rates, strict=False)],
            eps=1e-5,
            fused=True,
        )
        self._generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))  # of the minibatches
        self._seed = int(torch.randint(2**62, ()))

    @property
    def actor(self) -> ModellingActor:
        """What acts."""
        return self.networks.actor

    def loss(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """The loss of the first optimiser step, and for the log scalars of `OMGPPOConfig.METRICS`.

        Codes are drawn by a generator whose seed is the number of updates: the same call gives the same loss.
        """
        draws = self._draws()
        batch, metrics = self._with_codes(batch, draws)
        return self._loss(self._with_targets(batch), draws) | metrics

    def update(self, batch: EpisodeBatch) -> dict[str, Tensor]:
        """`epochs` passes over the batch in minibatches, or fewer where KL says so."""
        config, draws = self.config, self._draws()
        batch, metrics = self._with_codes(batch, draws)
        if config.normalise_value:
            value_target = self._targets(batch)[1]
            self.networks.value_moments.add(value_target[learning_at(batch)])
        parts = parts_of(self._with_targets(batch), config, self._generator)
        metrics |= descend(
            parts, lambda part: self._loss(part, draws), self._step, config.target_kl, "policy_kl"
        )
        self.updates += 1
        return metrics

    def policy(self, actor: Any, n_envs: int, generator: torch.Generator) -> ModellingSoftmax:
        """Draw from the policy."""
        config = self.config
        return ModellingSoftmax(actor, n_envs, config.goal_of, generator, draw_codes=config.sample_codes)

    def greedy_policy(self, n_envs: int) -> ModellingPolicy:
        """The likeliest legal action, by the mean of the belief."""
        return ModellingPolicy(self.actor, n_envs, self.config.goal_of, torch.Generator())

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimiser, the number of updates, and what is drawn by."""
        return {
            "networks": self.networks.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "updates": self.updates,
            "seed": self._seed,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.networks.load_state_dict(state["networks"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.updates, self._seed = int(state["updates"]), int(state["seed"])
        self._generator.set_state(state["generator"])

    def _draws(self) -> torch.Generator:
        return torch.Generator().manual_seed((self._seed + self.updates) % 2**63)

    def _step(self, loss: Float[Tensor, ""]) -> dict[str, Tensor]:
        """One optimiser step down this loss; the norms of the gradients before they are clipped."""
        norms = backward_(loss, self._groups, self.config.max_grad_norm)
        anneal_(self.optimiser, self.updates, self.config.lr_updates)
        self.optimiser.step()
        names = ("grad_norm", "critic_grad_norm", "model_grad_norm")
        return dict(zip(names, norms, strict=False))

    @torch.no_grad()
    def _with_codes(
        self, batch: EpisodeBatch, draws: torch.Generator
    ) -> tuple[EpisodeBatch, dict[str, Tensor]]:
        """The batch with what its epochs read of the networks as they are now, as step fields.

        code, critic_code: ĝ and g. old_log_prob, old_value: π_before and V(s, g). value, next_value: V(s, ĝ)
        of the step and of its successor. Values are in normalised units. goal_mean, ..: of the subgoal.
        """
        config, actor, critic = self.config, self.networks.actor, self.networks.critic
        view, steps = of_batch(batch, config.goal_of), batch.step_frames
        counted = learning_at(batch)
        belief = actor.model(view, batch.time_major)
        codes = codes_of(belief, config, draws)
        features = self._critic_features(batch, view)
        value = critic.value(features, codes)
        code = critic_code = codes[steps]
        fields: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}
        if isinstance(actor.model, History):
            here = features[steps][:, None].expand(-1, config.horizon, -1)
            selected = select(
                batch, view, actor.model, config, lambda candidates: critic.value(here, candidates), draws
            )
            share = mix_share(config.mix_start, config.mix_updates, self.updates)
            critic_code, goal, metrics = told(selected, code, share, config, draws)
            inferred = belief.code[steps]
            metrics |= diagnostics(batch, view, actor.model, selected, inferred, config.horizon)
            fields |= {f"goal_{name}": tensor for name, tensor in goal._asdict().items()}
        old = log_prob(self._log_probs(batch, view, code), taken_at(batch))
        acted = batch.steps("log_prob").gather(1, seat_at(batch))[:, 0]
        metrics["acted_kl"] = moved(old - acted, counted)
        return (
            batch.with_steps(
                code=code,
                critic_code=critic_code,
                old_log_prob=old,
                value=value[steps],
                next_value=value[steps + 1],
                old_value=critic.value(features[steps], critic_code),
                **fields,
            ),
            metrics,
        )

    def _targets(self, batch: EpisodeBatch) -> tuple[Float[Tensor, " S"], Float[Tensor, " S"]]:
        """Advantages and λ-returns, in units of the reward."""
        config, seat = self.config, seat_at(batch)
        value, next_value = batch.steps("value"), batch.steps("next_value")
        if config.normalise_value:
            restore = self.networks.value_moments.restore
            value, next_value = restore(value), restore(next_value)
        reward = agent_reward(batch).gather(1, seat)[:, 0]
        discount = batch.agent_discount(config.gamma).gather(1, seat)[:, 0]
        advantage = gae(reward, discount, value, next_value, batch.lengths, config.gae_lambda)
        return advantage, advantage + value

    @torch.no_grad()
    def _with_targets(self, batch: EpisodeBatch) -> EpisodeBatch:
        """The batch with advantage and value target, this in normalised units, as step fields."""
        advantage, value_target = self._targets(batch)
        if self.config.normalise_advantage:
            advantage = normalised(advantage, learning_at(batch))
        if self.config.normalise_value:
            value_target = self.networks.value_moments.standardise(value_target)
        return batch.with_steps(advantage=advantage, value_target=value_target)

    def _loss(self, batch: EpisodeBatch, draws: torch.Generator) -> dict[str, Tensor]:
        config, actor, critic = self.config, self.networks.actor, self.networks.critic
        view, steps, counted = of_batch(batch, config.goal_of), batch.step_frames, learning_at(batch)
        value_target = batch.steps("value_target")

        log_probs = self._log_probs(batch, view, batch.steps("code"))
        policy = surrogate(
            log_prob(log_probs, taken_at(batch)),
            batch.steps("old_log_prob"),
            batch.steps("advantage"),
            counted,
            config.clip,
        )
        features = self._critic_features(batch, view)
        value = critic.value(features[steps], batch.steps("critic_code"))
        error = value_loss(value, batch.steps("old_value"), value_target, counted, config.value_clip)
        entropy_mean = mean(entropy(log_probs), counted)

        goal = None
        if isinstance(actor.model, History):
            goal = Goal(**{name: batch.steps(f"goal_{name}") for name in Goal._fields})
        lesson = Lesson(view, steps, goal, draws if config.sample_codes else None)
        model = actor.model.loss(actor.model(view, batch.time_major), lesson)
        restore = self.networks.value_moments.restore if config.normalise_value else nn.Identity()
        return {
            "loss": policy.loss + error - config.entropy_coef * entropy_mean + model["model_loss"],
            "policy_loss": policy.loss.detach(),
            "value_loss": error.detach(),
            "entropy": entropy_mean.detach(),
            "value": mean(restore(value.detach()), counted),
            "value_target": mean(restore(value_target), counted),
            "policy_kl": policy.kl,
            "clip_fraction": policy.clip_fraction,
            **model,
            "model_loss": model["model_loss"].detach(),
        }

    def _log_probs(self, batch: EpisodeBatch, view: View, code: Float[Tensor, "S D"]) -> Float[Tensor, "S A"]:
        """The policy at each step, under these codes."""
        features = self.actor.unroll(view, batch.time_major)[batch.step_frames]
        return log_softmax(self.actor.head(features, code), view.avail_actions[batch.step_frames])

    def _critic_features(self, batch: EpisodeBatch, view: View) -> Float[Tensor, "F H"]:
        """What the critic has seen so far, at every frame."""
        seen = view.obs
        if self.config.critic_of == "state":
            seen = torch.cat([batch.state, view.obs[:, -batch.spec.n_agents :]], 1)  # and its seat
        return self.networks.critic.unroll(seen, view.own_last, batch.time_major)
