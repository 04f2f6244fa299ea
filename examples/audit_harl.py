"""HARL's HAPPO, as it is: `HARL=folder endmark audit examples/audit_harl.py:happo`, or recurrent, seams.

HARL names the folder of a checkout of https://github.com/PKU-MARL/HARL. It imports absl-py, setproctitle and
tensorboardX. Settings are those of its config file, which PyYAML reads, in fewer epochs. Its own runner's
`compute` and `train` are called; its constructor, which starts environments, is not. `seams` has no
statistics of all rows, so that the probe `reset` can run.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import torch
import yaml
from gymnasium.spaces import Box, Discrete

from endmark.audit import ON_POLICY, Report, audit_learner, checkout

T, ROWS, AGENTS, HIDDEN = 8, 5, 3, 16
SIZES = {"episode_length": T, "n_rollout_threads": ROWS, "hidden_sizes": [HIDDEN, HIDDEN]}
SIZES |= {"data_chunk_length": 4, "ppo_epoch": 2, "critic_epoch": 2}
FIELDS: dict[str, Any] = {
    "rows": ON_POLICY,
    "frame_fields": ("obs", "share_obs", "available_actions"),
    "step_fields": ("actions", "action_log_probs", "rewards"),
    "reward": "rewards",
}
ENDS = [(2, 0), (5, 0), (4, 1), (8, 2), (3, 3), (6, 3)]  # (column, row) that begins an episode


def arrays() -> dict[str, Any]:
    """(T + 1, rows, agents, ...) as random play leaves them; row 1 holds a truncated episode."""
    rng = np.random.default_rng(0)
    shape = (T + 1, ROWS, AGENTS)
    masks, bad_masks, active_masks = (np.ones((*shape, 1)) for _ in range(3))
    for t, row in ENDS:
        masks[t, row] = 0
    bad_masks[4, 1] = 0
    active_masks[1, 0, 1] = active_masks[6:8, 1, 0] = 0  # agents that left
    batch = {
        "obs": rng.normal(size=(*shape, 6)),
        "share_obs": rng.normal(size=(T + 1, ROWS, 7)),
        "available_actions": np.ones((*shape, 5)),
        "rnn_states": rng.normal(size=(*shape, 1, HIDDEN)),
        "rnn_states_critic": rng.normal(size=(T + 1, ROWS, 1, HIDDEN)),
        "value_preds": rng.normal(size=(T + 1, ROWS, 1)),
        "actions": rng.integers(0, 5, (T, ROWS, AGENTS, 1)),
        "action_log_probs": -1.6 + 0.1 * rng.normal(size=(T, ROWS, AGENTS, 1)),
        "rewards": rng.normal(size=(T, ROWS, 1)),
        "masks": masks,
        "bad_masks": bad_masks,
        "active_masks": active_masks,
    }
    return {name: x.astype(np.float32) for name, x in batch.items()}


def train(
    runner: Any, batch: dict[str, Any], buffers: Callable[[int], tuple[list[Any], Any]]
) -> dict[str, float]:
    """Fill new buffers with the arrays, agent by agent; then the runner's own returns and update."""
    rows = runner.algo_args["train"]["n_rollout_threads"] = batch["obs"].shape[1]
    runner.actor_buffer, runner.critic_buffer = actors, critic = buffers(rows)
    for i, own in enumerate(actors):
        vars(own).update({name: x[:, :, i].copy() for name, x in batch.items() if hasattr(own, name)})
    for name in ("share_obs", "rnn_states_critic", "value_preds", "rewards"):
        setattr(critic, name, batch[name].copy())
    critic.masks, critic.bad_masks = batch["masks"][:, :, 0].copy(), batch["bad_masks"][:, :, 0].copy()
    with torch.no_grad():
        runner.compute()
    of_actors, of_critic = runner.train()
    del runner.actor_buffer, runner.critic_buffer  # they hold the batch, which is no state of the learner
    logged = {f"{name} {i}": x for i, info in enumerate(of_actors) for name, x in info.items()} | of_critic
    return {name: float(torch.as_tensor(x).detach()) for name, x in logged.items()}


def happo(steps: Literal["held", "real"] = "real", **settings: Any) -> Callable[..., Report]:
    source = checkout("HARL")
    torch.manual_seed(0)
    config = yaml.safe_load((source / "harl/configs/algos_cfgs/happo.yaml").read_text())
    args = config["train"] | config["model"] | config["algo"] | SIZES | settings
    module = import_module("harl.runners.on_policy_base_runner")  # it imports the other classes, too
    runner = object.__new__(import_module("harl.runners.on_policy_ha_runner").OnPolicyHARunner)
    obs, actions, state = Box(-1, 1, (6,)), Discrete(5), Box(-1, 1, (7,))
    vars(runner).update(
        algo_args={"train": {"episode_length": T}},
        state_type="EP",
        num_agents=AGENTS,
        fixed_order=True,
        action_aggregation=args["action_aggregation"],
        value_normalizer=module.ValueNorm(1) if args["use_valuenorm"] else None,
        actor=[module.ALGO_REGISTRY["happo"](args, obs, actions) for _ in range(AGENTS)],
        critic=module.VCritic(args, state),
    )

    def buffers(rows: int) -> tuple[list[Any], Any]:
        sized = args | {"n_rollout_threads": rows}
        actors = [module.OnPolicyActorBuffer(sized, obs, actions) for _ in range(AGENTS)]
        return actors, module.OnPolicyCriticBufferEP(sized, state)

    memories = ("rnn_states", "rnn_states_critic") if args["use_recurrent_policy"] else ()
    fields = FIELDS | {"frame_fields": (*FIELDS["frame_fields"], *memories)}
    return partial(audit_learner, runner, arrays(), partial(train, buffers=buffers), steps=steps, **fields)


def recurrent() -> Callable[..., Report]:
    """Its recurrent policy, in chunks of four columns."""
    return happo(use_recurrent_policy=True)


def seams() -> Callable[..., Report]:
    """Recurrent, with a mean of 0 and a deviation of 1 for advantages, and steps that move no parameter."""
    ready = happo("held", use_recurrent_policy=True, use_valuenorm=False)
    fixed = {"nanmean": lambda _: 0.0, "nanstd": lambda _: 1.0}
    import_module("harl.algorithms.actors.happo").__dict__["np"] = SimpleNamespace(**vars(np) | fixed)
    return ready
