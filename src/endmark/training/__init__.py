"""Training: the loop and its parts, evaluation, and runs taken up again."""

from endmark.training.config import TrainConfig
from endmark.training.evaluation import evaluate, random_policy
from endmark.training.load import load, load_config
from endmark.training.loop import train
from endmark.training.partners import pinned
from endmark.training.playing import drawn_env, gives_logits, played

__all__ = [
    "TrainConfig",
    "drawn_env",
    "evaluate",
    "gives_logits",
    "load",
    "load_config",
    "pinned",
    "played",
    "random_policy",
    "train",
]
