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
from endmark.algorithms.qatten import QattenConfig, QattenLearner
from endmark.algorithms.qlearning import IQLConfig, QLearner, QLearningConfig, QMIXConfig, VDNConfig
from endmark.algorithms.qplex import QPLEXConfig, QPLEXLearner
from endmark.algorithms.qtran import QTRANConfig, QTRANLearner
from endmark.algorithms.value_learner import ValueLearner
from endmark.algorithms.value_settings import ValueConfig
from endmark.algorithms.wqmix import CWQMIXConfig, OWQMIXConfig, WQMIXConfig, WQMIXLearner

ALGORITHMS: dict[str, type[AlgorithmConfig]] = {
    "iql": IQLConfig,
    "vdn": VDNConfig,
    "qmix": QMIXConfig,
    "qplex": QPLEXConfig,
    "ow-qmix": OWQMIXConfig,
    "cw-qmix": CWQMIXConfig,
    "qtran": QTRANConfig,
    "qatten": QattenConfig,
    "ippo": IPPOConfig,
    "mappo": MAPPOConfig,
    "ia2c": IA2CConfig,
    "maa2c": MAA2CConfig,
    "coma": COMAConfig,
    "happo": HAPPOConfig,
    "maddpg": MADDPGConfig,
    "omg": OMGConfig,
    "omg-ppo": OMGPPOConfig,
}
"""The table of algorithms: each one's name, and the config that makes its learner and its store."""

__all__ = [
    "ALGORITHMS",
    "A2CLearner",
    "AlgorithmConfig",
    "COMAConfig",
    "COMALearner",
    "CWQMIXConfig",
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
    "OWQMIXConfig",
    "PPOLearner",
    "QLearner",
    "QLearningConfig",
    "QMIXConfig",
    "QPLEXConfig",
    "QPLEXLearner",
    "QTRANConfig",
    "QTRANLearner",
    "QattenConfig",
    "QattenLearner",
    "VDNConfig",
    "ValueConfig",
    "ValueLearner",
    "WQMIXConfig",
    "WQMIXLearner",
]
