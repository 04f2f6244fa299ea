"""Whole episodes of different lengths, the data that flows through endmark."""

from endmark.episodes.batch import EpisodeBatch
from endmark.episodes.builder import EpisodeBuilder
from endmark.episodes.masks import explain_mask, shift_mask, step_mask
from endmark.episodes.padded import RepairWarning, find_faults
from endmark.episodes.replay import EpisodeReplay, SampleBuffer
from endmark.episodes.seen import NO_ACTION, Seats, Seen, no_action
from endmark.episodes.spec import Bounds, EpisodeSpec, Field
from endmark.episodes.stores import Fresh, Replay, Store

__all__ = [
    "NO_ACTION",
    "Bounds",
    "EpisodeBatch",
    "EpisodeBuilder",
    "EpisodeReplay",
    "EpisodeSpec",
    "Field",
    "Fresh",
    "RepairWarning",
    "Replay",
    "SampleBuffer",
    "Seats",
    "Seen",
    "Store",
    "explain_mask",
    "find_faults",
    "no_action",
    "shift_mask",
    "step_mask",
]
