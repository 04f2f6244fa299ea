"""Whole episodes of different lengths, the data that flows through endmark."""

from endmark.episodes.batch import EpisodeBatch
from endmark.episodes.builder import EpisodeBuilder
from endmark.episodes.masks import explain_mask, shift_mask, step_mask
from endmark.episodes.padded import RepairWarning, find_faults
from endmark.episodes.replay import EpisodeReplay, SampleBuffer
from endmark.episodes.seen import NO_ACTION, Seats, Seen
from endmark.episodes.spec import EpisodeSpec, Field
from endmark.episodes.stores import Fresh, Replay, Store

__all__ = [
    "NO_ACTION",
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
    "shift_mask",
    "step_mask",
]
