"""The padded losses of COMA and HAPPO: loops over rows, time and agents, with an exact mask."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from endmark.algorithms.coma import COMALearner
from endmark.algorithms.happo import HAPPOLearner
from endmark.nets import CounterfactualCritic
from support.padded_actor_critic import padded_terms
from support.padded_oracle import real_steps, unroll


def padded_coma_loss(learner: COMALearner, padded: Mapping[str, Tensor]) -> Tensor:
    """The loss of `COMALearner` on the layout of `EpisodeBatch.to_padded`."""
    config, networks = learner.config, learner.networks
    obs, alive, avail = padded["obs"], padded["alive"], padded["avail_actions"]
    actions, reward = padded["actions"][..., 0], padded["reward"]
    n_rows, n_columns, n_agents = actions.shape
    lengths = real_steps(padded["filled"], padded["terminated"]).sum(1).tolist()
    logits = unroll(networks.actor, obs, actions)

    def legal_log_probs(b: int, t: int, n: int) -> Tensor:
        legal = avail[b, t, n] if avail[b, t, n].any() else torch.ones_like(avail[b, t, n])
        return functional.log_softmax(logits[b, t, n].masked_fill(~legal, -torch.inf), -1)

    targets = torch.zeros(n_rows, n_columns - 1, dtype=obs.dtype)
    for b in range(n_rows):
        following: Tensor | None = None
        for t in reversed(range(lengths[b])):
            final = t + 1 == lengths[b]
            earned = reward[b, t][alive[b, t]].sum() if reward.shape[-1] > 1 else reward[b, t, 0]
            future = torch.zeros((), dtype=obs.dtype)
            if not (final and padded["terminated"][b, t, 0]):
                here = [n for n in range(n_agents) if alive[b, t + 1, n]]
                if final:
                    joint = {n: int(legal_log_probs(b, t + 1, n).argmax()) for n in here}
                else:
                    joint = {n: int(actions[b, t + 1, n]) for n in here}
                values = []
                for n in here:
                    q = counterfactual(networks.target_critic, padded, b, t + 1, n, joint)
                    p = legal_log_probs(b, t + 1, n).exp()
                    values.append((p * q).sum() if final else q[joint[n]])
                future = torch.stack(values).mean() if values else future
                if following is not None:
                    future = (1 - config.td_lambda) * future + config.td_lambda * following
                future = config.gamma * future
            following = targets[b, t] = (earned + future).detach()

    terms = []
    for b in range(n_rows):
        for t in range(lengths[b]):
            joint = {n: int(actions[b, t, n]) for n in range(n_agents) if alive[b, t, n]}
            for n, u in joint.items():
                q, log_p = counterfactual(networks.critic, padded, b, t, n, joint), legal_log_probs(b, t, n)
                legal = log_p > -torch.inf
                baseline = sum(log_p[a].exp() * q[a] for a in legal.nonzero()[:, 0])
                entropy = -sum(log_p[a].exp() * log_p[a] for a in legal.nonzero()[:, 0])
                weight = (log_p[u].detach() - padded["log_prob"][b, t, n]).exp().clamp(max=1)
                terms.append((log_p[u], weight, (q[u] - baseline).detach(), q[u] - targets[b, t], entropy))
    log_p, weight, advantage, error, entropy = (torch.stack(column) for column in zip(*terms, strict=True))
    if config.normalise_advantage:
        advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
    policy = -(log_p * weight * advantage).mean()
    return policy + 0.5 * (error**2).mean() - config.entropy_coef * entropy.mean()


def counterfactual(
    critic: CounterfactualCritic,
    padded: Mapping[str, Tensor],
    b: int,
    t: int,
    n: int,
    joint: Mapping[int, int],
) -> Tensor:
    """Q_n(t, ·) where the others do what `joint` says, with all inputs written out."""
    obs, alive = padded["obs"], padded["alive"]
    n_agents, n_actions = padded["avail_actions"].shape[2:]
    seen = torch.where(alive[b, t, :, None], obs[b, t].flatten(1), torch.zeros((), dtype=obs.dtype))
    state = padded["state"][b, t].flatten() if "state" in padded else seen.flatten()
    others = torch.zeros(n_agents, n_actions, dtype=obs.dtype)
    for m, u in joint.items():
        if m != n:
            others[m, u] = 1
    which = functional.one_hot(torch.tensor(n), n_agents).to(obs.dtype)
    x = torch.cat([state, obs[b, t, n].flatten(), others.flatten(), which])
    q: Tensor = critic.head(critic.second(critic.first(x).relu()).relu())
    return q


def padded_happo_loss(learner: HAPPOLearner, padded: Mapping[str, Tensor]) -> Tensor:
    """The loss of `HAPPOLearner`: the mean of the agents' surrogates, each over its own steps."""
    config = learner.config
    p = padded_terms(learner.networks, config, padded)
    ratio = (p.log_prob - padded["log_prob"][:, :-1]).exp()
    clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
    gain = torch.min(ratio * p.advantage, clipped * p.advantage) + config.entropy_coef * p.entropy
    n_agents = gain.shape[-1]
    policy = -sum(gain[..., n][p.counted[..., n]].mean() for n in range(n_agents)) / n_agents
    old = p.value.detach()
    near = old + (p.value - old).clamp(-(config.value_clip or 0), config.value_clip or 0)
    error = torch.max((p.value - p.value_target) ** 2, (near - p.value_target) ** 2)
    return policy + 0.5 * error[p.value_counted.expand_as(error)].mean()
