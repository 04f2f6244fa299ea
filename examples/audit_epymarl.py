"""EPyMARL's learners, as they are: `EPYMARL=checkout endmark audit examples/audit_epymarl.py:q_learner`.

EPYMARL names the folder of a checkout of https://github.com/uoe-agents/epymarl. Settings are those of its
config files, which PyYAML reads; logging is its own, and what it logs is compared, too. `*_plain` has
`standardise_rewards: False`: what is found beside the statistic over all columns.
"""

import logging
from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch
import yaml

from endmark.audit import Report, audit_learner, checkout, pymarl_batch

SIZES = {"n_agents": 3, "n_actions": 5, "state_shape": 7, "use_cuda": False}
SCHEME = {"obs": {"vshape": 6}, "state": {"vshape": 7}, "actions_onehot": {"vshape": (5,)}}


def train(learner: Any, batch: Any) -> dict[str, float]:
    """One call of the learner's `train`; what it logged."""
    learner.logger.stats.clear()
    learner.train(batch, 0, 0)
    return {name: float(values[-1][1]) for name, values in learner.logger.stats.items()}


def learner(module: str, name: str, algorithm: str, **settings: Any) -> Callable[..., Report]:
    source = checkout("EPYMARL", "src")
    configs = [yaml.safe_load((source / "config" / c).read_text()) for c in ("default.yaml", algorithm)]
    torch.manual_seed(0)
    args = SimpleNamespace(**configs[0] | configs[1] | SIZES | settings)
    mac = import_module("controllers").REGISTRY[args.mac](SCHEME, None, args)
    logger = import_module("utils.logging").Logger(logging.getLogger("epymarl"))
    audited = getattr(import_module(f"learners.{module}"), name)(mac, SCHEME, logger, args)
    batch = pymarl_batch(n_agents=3, n_actions=5, obs_size=6, state_size=7, episode_limit=8)
    return partial(audit_learner, audited, batch, train)


def q_learner(**settings: Any) -> Callable[..., Report]:
    """QMIX."""
    return learner("q_learner", "QLearner", "algs/qmix.yaml", **settings)


def q_learner_plain() -> Callable[..., Report]:
    return q_learner(standardise_rewards=False)


def vdn(**settings: Any) -> Callable[..., Report]:
    return learner("q_learner", "QLearner", "algs/vdn.yaml", **settings)


def vdn_plain() -> Callable[..., Report]:
    return vdn(standardise_rewards=False)


def ppo_learner(**settings: Any) -> Callable[..., Report]:
    """MAPPO."""
    return learner("ppo_learner", "PPOLearner", "algs/mappo.yaml", **settings)


def ppo_learner_plain() -> Callable[..., Report]:
    return ppo_learner(standardise_rewards=False)
