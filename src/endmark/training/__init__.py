"""Training: the loop and its parts, evaluation, and runs taken up again."""

from endmark.training.config import TrainConfig
from endmark.training.evaluation import evaluate, random_policy
from endmark.training.load import load, load_config
from endmark.training.loop import train

__all__ = ["TrainConfig", "evaluate", "load", "load_config", "random_policy", "train"]
