"""on-policy's R_MAPPO, as it is: `ON_POLICY=checkout endmark audit examples/audit_on_policy.py:r_mappo`.

ON_POLICY names the folder of a checkout of https://github.com/marlbenchmark/on-policy. Settings are the
defaults of its command line, with its recurrent policy, chunks of 4 columns and rows of 8. `time_limits` has
the flag `--use_proper_time_limits`, `feed_forward` no memory, `naive` whole rows instead of chunks.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete

from endmark.audit import ON_POLICY, Report, audit_learner, checkout

SIZES = {
    "episode_length": 8,
    "data_chunk_length": 4,
    "n_rollout_threads": 5,
    "hidden_size": 16,
    "ppo_epoch": 2,
}
MEMORIES = ("rnn_states", "rnn_states_critic")
FRAME_FIELDS = ("obs", "share_obs", "available_actions")
STEP_FIELDS = ("actions", "action_log_probs", "rewards")
ENDS = [(2, 0), (5, 0), (4, 1), (8, 2), (3, 3), (6, 3)]  # (column, row) that begins an episode


def fill(buffer: Any) -> Any:
    """A buffer (8 + 1, rows, agents, ...) as random play leaves it; row 1 holds a truncated episode."""
    rng = np.random.default_rng(0)
    for name in (*MEMORIES, *FRAME_FIELDS[:2], "value_preds", "rewards", "action_log_probs"):
        getattr(buffer, name)[...] = rng.normal(size=getattr(buffer, name).shape)
    buffer.actions[...] = rng.integers(0, 5, buffer.actions.shape)
    buffer.action_log_probs[...] = -1.6 + 0.1 * buffer.action_log_probs
    for t, row in ENDS:
        buffer.masks[t, row] = 0
    buffer.bad_masks[4, 1] = 0
    buffer.active_masks[1, 0, 1] = buffer.active_masks[6:8, 1, 0] = 0  # agents that left
    return buffer


def train(trainer: Any, buffer: Any) -> dict[str, float]:
    """Returns and an update, as on-policy's runners make them."""
    state, memory, masks = (
        np.concatenate(x[-1]) for x in (buffer.share_obs, buffer.rnn_states_critic, buffer.masks)
    )
    with torch.no_grad():
        values = trainer.policy.get_values(state, memory, masks).numpy()
    buffer.compute_returns(values.reshape(buffer.value_preds[-1].shape), trainer.value_normalizer)
    logged = trainer.train(buffer)
    return {name: float(torch.as_tensor(value).detach()) for name, value in logged.items()}


def r_mappo(*named: str, **settings: Any) -> Callable[..., Report]:
    checkout("ON_POLICY")
    torch.manual_seed(0)
    args = import_module("onpolicy.config").get_config().parse_known_args([])[0]
    vars(args).update({"algorithm_name": "rmappo", "use_recurrent_policy": True} | SIZES | settings)
    spaces = Box(-1, 1, (6,)), Box(-1, 1, (7,)), Discrete(5)
    policy = import_module("onpolicy.algorithms.r_mappo.algorithm.rMAPPOPolicy").R_MAPPOPolicy(args, *spaces)
    trainer = import_module("onpolicy.algorithms.r_mappo.r_mappo").R_MAPPO(args, policy)
    buffer = fill(import_module("onpolicy.utils.shared_buffer").SharedReplayBuffer(args, 2, *spaces))
    memories = MEMORIES if args.use_recurrent_policy or args.use_naive_recurrent_policy else ()
    return partial(
        audit_learner,
        trainer,
        buffer,
        train,
        rows=ON_POLICY,
        frame_fields=(*FRAME_FIELDS, *memories, *named),
        step_fields=STEP_FIELDS,
        reward="rewards",
    )


def values() -> Callable[..., Report]:
    """With the values that were stored as the episodes were played, of which the returns are made."""
    return r_mappo("value_preds")


def seams() -> Callable[..., Report]:
    """Without the two statistics of all rows, so that the probe `reset` can run; the losses are its own."""
    ready = r_mappo(use_valuenorm=False)
    sums = {"nanmean": lambda _: 0.0, "nanstd": lambda _: 1.0}
    import_module("onpolicy.algorithms.r_mappo.r_mappo").__dict__["np"] = SimpleNamespace(**vars(np) | sums)
    return ready


def time_limits() -> Callable[..., Report]:
    return r_mappo(use_proper_time_limits=True)


def feed_forward() -> Callable[..., Report]:
    return r_mappo(algorithm_name="mappo", use_recurrent_policy=False)


def naive() -> Callable[..., Report]:
    return r_mappo(use_recurrent_policy=False, use_naive_recurrent_policy=True)
