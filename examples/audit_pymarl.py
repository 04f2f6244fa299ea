"""PyMARL's learners, as they are: `PYMARL=folder endmark audit examples/audit_pymarl.py:qmix`, or vdn, coma.

PYMARL names the folder of a checkout of https://github.com/oxwhirl/pymarl. Settings are those of its config
files, which PyYAML reads; logging is its own, and what it logs is compared, too.
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

SIZES = {"n_agents": 3, "n_actions": 5, "state_shape": 7}
SCHEME = {"obs": {"vshape": 6}, "state": {"vshape": 7}, "actions_onehot": {"vshape": (5,)}}


def train(learner: Any, batch: Any) -> dict[str, float]:
    """One call of the learner's `train`; what it logged."""
    learner.logger.stats.clear()
    learner.train(batch, 0, 0)
    return {name: float(values[-1][1]) for name, values in learner.logger.stats.items()}


def learner(module: str, name: str, algorithm: str, **fields: Any) -> Callable[..., Report]:
    source = checkout("PYMARL", "src")
    configs = [yaml.safe_load((source / "config" / c).read_text()) for c in ("default.yaml", algorithm)]
    torch.manual_seed(0)
    args = SimpleNamespace(**configs[0] | configs[1] | SIZES)
    mac = import_module("controllers").REGISTRY[args.mac](SCHEME, None, args)
    logger = import_module("utils.logging").Logger(logging.getLogger("pymarl"))
    audited = getattr(import_module(module), name)(mac, SCHEME, logger, args)
    batch = pymarl_batch(n_agents=3, n_actions=5, obs_size=6, state_size=7, episode_limit=8)
    return partial(audit_learner, audited, batch, train, **fields)


def qmix() -> Callable[..., Report]:
    return learner("learners.q_learner", "QLearner", "algs/qmix.yaml")


def vdn() -> Callable[..., Report]:
    return learner("learners.q_learner", "QLearner", "algs/vdn.yaml")


def coma() -> Callable[..., Report]:
    """Its critic's target takes the next action, which the runner stores on the last frame, too."""
    frame_fields = ("obs", "state", "avail_actions", "actions", "actions_onehot")
    fields = {"frame_fields": frame_fields, "step_fields": ("reward",)}
    return learner("learners.coma_learner", "COMALearner", "algs/coma.yaml", **fields)
