"""Learning algorithms: each file holds the configs and the learner of one family.

`ALGORITHMS` is the one table of names. The command line, config files, documentation and tests read it.
"""

from endmark.algorithms.a2c import A2CLearner, IA2CConfig, MAA2CConfig
from endmark.algorithms.coma import COMAConfig, COMALearner
from endmark.algorithms.happo import HAPPOConfig, HAPPOLearner
from endmark.algorithms.learner import AlgorithmConfig, Learner
from endmark.algorithms.maddpg import MADDPGConfig, MADDPGLearner
from endmark.algorithms.omg import OMGConfig, OMGLearner, OMGPPOConfig, OMGPPOLearner
from endmark.algorithms.ppo import IPPOConfig, MAPPOConfig, PPOLearner
from endmark.algorithms.qlearning import IQLConfig, QLearner, QLearningConfig, QMIXConfig, VDNConfig

ALGORITHMS: dict[str, type[AlgorithmConfig]] = {
    "iql": IQLConfig,
    "vdn": VDNConfig,
    "qmix": QMIXConfig,
    "ia2c": IA2CConfig,
    "maa2c": MAA2CConfig,
    "ippo": IPPOConfig,
    "mappo": MAPPOConfig,
    "coma": COMAConfig,
    "happo": HAPPOConfig,
    "maddpg": MADDPGConfig,
    "omg": OMGConfig,
    "omg-ppo": OMGPPOConfig,
}

__all__ = [
    "ALGORITHMS",
    "A2CLearner",
    "AlgorithmConfig",
    "COMAConfig",
    "COMALearner",
    "HAPPOConfig",
    "HAPPOLearner",
    "IA2CConfig",
    "IPPOConfig",
    "IQLConfig",
    "Learner",
    "MAA2CConfig",
    "MADDPGConfig",
    "MADDPGLearner",
    "MAPPOConfig",
    "OMGConfig",
    "OMGLearner",
    "OMGPPOConfig",
    "OMGPPOLearner",
    "PPOLearner",
    "QLearner",
    "QLearningConfig",
    "QMIXConfig",
    "VDNConfig",
]
