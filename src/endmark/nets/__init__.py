"""Networks over ragged episodes."""

from endmark.nets.mixers import QMIXMixer, VDNMixer
from endmark.nets.recurrent import NO_ACTION, RecurrentAgent

__all__ = ["NO_ACTION", "QMIXMixer", "RecurrentAgent", "VDNMixer"]
