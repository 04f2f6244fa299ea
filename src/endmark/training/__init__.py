"""Training: the loop and its parts, evaluation, and runs taken up again."""

from endmark.training.config import TrainConfig
from endmark.training.crossplay import CrossplaySettings, crossplay
from endmark.training.evaluation import evaluate, random_policy
from endmark.training.final import final_evaluation
from endmark.training.load import load, load_config
from endmark.training.loop import train
from endmark.training.matrix import Matrix
from endmark.training.partners import pinned
from endmark.training.playing import drawn_env, gives_logits, played
from endmark.training.sheets import Sheet, sheets

__all__ = [
    "CrossplaySettings",
    "Matrix",
    "Sheet",
    "TrainConfig",
    "crossplay",
    "drawn_env",
    "evaluate",
    "final_evaluation",
    "gives_logits",
    "load",
    "load_config",
    "pinned",
    "played",
    "random_policy",
    "sheets",
    "train",
]
