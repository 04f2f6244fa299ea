"""The baseline of MAPPO: recurrent PPO with a central critic on padded tensors, the usual way, tuned.

Tensors are time-major inside, (C, B, ...), with C = T+1 columns; T is the longest episode of the batch. As in
the forks of PyMARL and in on-policy's code, there is a Python loop over time with `nn.GRUCell` for the actor
and for the critic, a backward loop for the advantages, and a masked mean for every term. Avoidable costs of
those code bases are left out, so that the layout is the only difference:

- The mask is exact, and all that no epoch changes is prepared once for a batch: inputs, legal actions, masks.
- The actor does not see the final frame, at which nobody acts. A minibatch ends with its own longest episode.
- Log-probabilities come from one `log_softmax`, not from a `torch.distributions` object, which checks its
  arguments and normalises twice.
- The old values are computed once; running moments, advantages and targets are made of them.
- Loops run over `unbind`; heads run on all columns at once; so does the encoder on a GPU, while on a CPU it
  runs frame by frame, which is faster.
- There are no copies, no dictionaries, no logging; Adam is fused.

This file does not import endmark. Parameters have the same names as endmark's, so weights are copied by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.baseline import PaddedBatch, padded_gae

ILLEGAL = -1e10
"""The logit of an illegal action: its probability is exactly 0, and 0 times its logarithm is 0, not NaN."""


@dataclass(frozen=True)
class PPOBaselineConfig:
    """Sizes and settings, as in `endmark.algorithms.MAPPOConfig`; value targets are normalised."""

    n_agents: int
    n_actions: int
    obs_size: int
    state_size: int
    gamma: float
    gae_lambda: float
    actor_lr: float
    critic_lr: float
    entropy_coef: float
    max_grad_norm: float
    clip: float
    value_clip: float
    epochs: int
    hidden_size: int


@dataclass(frozen=True)
class Prepared:
    """A batch as the loss reads it, time first, T columns where steps count and C where frames do.

    inputs (T, B N, I): the actor's. state (C, B, D). legal (T, B, N, A) bool, all True where no action is.
    taken (T, B, N, 1) int64. counted (T, B, N) bool: a real step of an agent that is there. mask (T, B) bool.
    log_prob (T, B, N): when the action was taken. advantage, old_value, value_target (T, B).
    """

    inputs: Tensor
    state: Tensor
    legal: Tensor
    taken: Tensor
    counted: Tensor
    mask: Tensor
    log_prob: Tensor
    advantage: Tensor
    old_value: Tensor
    value_target: Tensor

    def rows(self, rows: Tensor) -> Prepared:
        """These episodes, up to the last step of the longest."""
        mask = self.mask[:, rows]
        n_steps, n_agents = int(mask.any(1).sum()), self.taken.shape[2]
        wide = self.inputs[:n_steps].view(n_steps, self.mask.shape[1], n_agents, -1)
        named = {
            name: getattr(self, name)[:n_steps, rows]
            for name in ("legal", "taken", "counted", "log_prob", "advantage", "old_value", "value_target")
        }
        return Prepared(
            inputs=wide[:, rows].flatten(1, 2),
            state=self.state[: n_steps + 1, rows],
            mask=mask[:n_steps],
            **named,
        )


class Recurrent(nn.Module):
    """Linear, ReLU, GRUCell, linear, over columns of rows."""

    def __init__(self, n_inputs: int, hidden_size: int, n_outputs: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.encoder = nn.Linear(n_inputs, hidden_size)
        self.recurrence = nn.GRUCell(hidden_size, hidden_size)
        self.head = nn.Linear(hidden_size, n_outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (C, R, O) from inputs (C, R, I)."""
        hidden = inputs.new_zeros(inputs.shape[1], self.hidden_size)
        states, at_once = [], inputs.is_cuda
        for frame in (torch.relu(self.encoder(inputs)) if at_once else inputs).unbind(0):
            hidden = self.recurrence(frame if at_once else torch.relu(self.encoder(frame)), hidden)
            states.append(hidden)
        outputs: Tensor = self.head(torch.stack(states))
        return outputs


class Moments:
    """Running mean and variance of value targets, in float64 (Chan et al. 1979)."""

    def __init__(self) -> None:
        self.count = self.mean = self.squares = torch.zeros((), dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        """Take in all of these values."""
        values = values.double()
        n, mean = values.numel(), values.mean()
        total, delta = self.count + n, mean - self.mean
        within = (values - mean).square().sum()
        self.squares = self.squares + within + delta.square() * self.count * n / total
        self.count, self.mean = total, self.mean + delta * n / total

    def std(self) -> Tensor:
        """The standard deviation; 1 before anything was added."""
        std = (self.squares / self.count.clamp(min=1)).sqrt().clamp(min=1e-6)
        return torch.where(self.count > 0, std, 1.0)


class PPOBaselineLearner(nn.Module):
    """MAPPO: a shared recurrent actor, a recurrent critic of the state, a value for the team."""

    def __init__(self, config: PPOBaselineConfig) -> None:
        super().__init__()
        self.config = config
        ids = config.n_agents if config.n_agents > 1 else 0
        n_inputs = config.obs_size + config.n_actions + ids
        self.actor = Recurrent(n_inputs, config.hidden_size, config.n_actions)
        self.critic = Recurrent(config.state_size, config.hidden_size, 1)
        self.ids: Tensor
        self.register_buffer("ids", torch.eye(config.n_agents)[:, :ids], persistent=False)
        self.moments = Moments()
        self.groups = [list(self.actor.parameters()), list(self.critic.parameters())]
        rates = config.actor_lr, config.critic_lr
        groups = [{"params": own, "lr": lr} for own, lr in zip(self.groups, rates, strict=True)]
        self.optimiser = torch.optim.Adam(groups, eps=1e-5, fused=True)

    @torch.no_grad()
    def prepare(self, batch: PaddedBatch, log_prob: Tensor, *, take_in: bool) -> Prepared:
        """All that the epochs of a batch share. log_prob (B, C, N): when the action was taken.

        take_in: add the value targets to the running moments first.
        """
        mask = batch.mask[:, :-1].t().contiguous()
        avail, alive = batch.avail_actions[:, :-1].transpose(0, 1), batch.alive[:, :-1].transpose(0, 1)
        state = batch.states().transpose(0, 1).contiguous()
        given = batch.reward[:, :-1].t(), mask, batch.terminated[:, :-1].t()
        raw = self.critic(state)[..., 0]
        if take_in:
            advantage, value = self._advantage(raw, *given)
            self.moments.add((advantage + value)[mask])
        advantage, value = self._advantage(raw, *given)
        target = ((advantage + value - self.moments.mean) / self.moments.std()).float()
        std, mean = torch.std_mean(advantage[mask], correction=0)
        return Prepared(
            inputs=self._inputs(batch),
            state=state,
            legal=(avail | ~avail.any(-1, keepdim=True)).contiguous(),
            taken=batch.actions[:, :-1].transpose(0, 1)[..., None].contiguous(),
            counted=mask[..., None] & alive,
            mask=mask,
            log_prob=log_prob[:, :-1].transpose(0, 1).contiguous(),
            advantage=(advantage - mean) / (std + 1e-8),
            old_value=raw[:-1],
            value_target=target,
        )

    def loss(self, p: Prepared) -> Tensor:
        """The loss of an optimiser step."""
        config, n_counted = self.config, p.counted.sum()
        logits = self.actor(p.inputs).view(p.legal.shape)
        log_probs = torch.where(p.legal, logits, ILLEGAL).log_softmax(-1)
        log_prob = log_probs.gather(-1, p.taken)[..., 0]
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        ratio = torch.where(p.counted, log_prob - p.log_prob, 0.0).exp()
        advantage = torch.where(p.counted, p.advantage[..., None], 0.0)
        clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
        policy = -torch.minimum(ratio * advantage, clipped * advantage).sum() / n_counted
        value = self.critic(p.state[:-1])[..., 0]
        near = p.old_value + (value - p.old_value).clamp(-config.value_clip, config.value_clip)
        errors = torch.maximum((value - p.value_target).square(), (near - p.value_target).square())
        error = 0.5 * torch.where(p.mask, errors, 0.0).sum() / p.mask.sum()
        bonus = torch.where(p.counted, entropy, 0.0).sum() / n_counted
        return policy + error - config.entropy_coef * bonus

    def update(
        self, batch: PaddedBatch, log_prob: Tensor, divisions: Sequence[Sequence[Tensor]] | None = None
    ) -> None:
        """All epochs of a batch. divisions: of each epoch the rows of each minibatch; None: all at once."""
        prepared = self.prepare(batch, log_prob, take_in=True)
        for epoch in range(self.config.epochs):
            parts = [prepared] if divisions is None else [prepared.rows(rows) for rows in divisions[epoch]]
            for part in parts:
                loss = self.loss(part)
                self.optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                for group in self.groups:
                    nn.utils.clip_grad_norm_(group, self.config.max_grad_norm)
                self.optimiser.step()

    def _inputs(self, batch: PaddedBatch) -> Tensor:
        """Observation, one-hot last action, one-hot agent id, (T, B N, I)."""
        obs = batch.obs[:, :-1]
        onehot = batch.actions_onehot[:, :-1]
        last = torch.cat([torch.zeros_like(onehot[:, :1]), onehot[:, :-1]], 1)
        ids = self.ids.expand(*obs.shape[:2], -1, -1)
        return torch.cat([obs, last, ids], -1).transpose(0, 1).flatten(1, 2).contiguous()

    def _advantage(
        self, raw: Tensor, reward: Tensor, mask: Tensor, terminated: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Advantages (T, B) by GAE, and the values in units of the reward."""
        value = (raw * self.moments.std() + self.moments.mean).float()
        gamma, gae_lambda = self.config.gamma, self.config.gae_lambda
        advantage = padded_gae(reward, value[:-1], value[1:], mask, terminated, gamma, gae_lambda)
        return advantage, value[:-1]
