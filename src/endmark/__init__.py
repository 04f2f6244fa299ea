"""Multi-agent reinforcement learning on whole episodes of different lengths, without padding."""

__version__ = "0.2.0"
