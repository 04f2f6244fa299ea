"""Opponent modelling by subgoal inference (Yu et al. 2024), and the models that it is compared with.

Reading order: `view`, `prior`, `selecting`, `models`, `subgoals`, `settings`, `goals`, `network`, `making`,
`qlearner`, `ppo`, `policy`.
"""

from endmark.algorithms.omg.ppo import OMGPPOConfig, OMGPPOLearner
from endmark.algorithms.omg.prior import Prior, load_prior, save_prior
from endmark.algorithms.omg.qlearner import OMGConfig, OMGLearner

__all__ = [
    "OMGConfig",
    "OMGLearner",
    "OMGPPOConfig",
    "OMGPPOLearner",
    "Prior",
    "load_prior",
    "save_prior",
]
