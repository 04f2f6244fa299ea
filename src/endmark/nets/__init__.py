"""Networks over ragged episodes."""

from endmark.nets.actor import AGENTS, Actor
from endmark.nets.agents import Agent, AgentKind, Inputs, Memory
from endmark.nets.attention import AttentionAgent, AttentionOptions
from endmark.nets.attentive import QattenMixer
from endmark.nets.critics import CentralCritic, CounterfactualCritic, JointCritic, OwnCritic
from endmark.nets.duplex import QPLEXMixer
from endmark.nets.feed_forward import FeedForwardAgent
from endmark.nets.groups import Share
from endmark.nets.heads import (
    GaussianHead,
    Head,
    IndependentGaussianHeads,
    IndependentHeads,
    LinearHead,
)
from endmark.nets.independent import IndependentAgents
from endmark.nets.joint import CentralMixer, JointValue
from endmark.nets.mixers import QMIXMixer, VDNMixer
from endmark.nets.moments import RunningMoments
from endmark.nets.recurrent import RecurrentAgent

__all__ = [
    "AGENTS",
    "Actor",
    "Agent",
    "AgentKind",
    "AttentionAgent",
    "AttentionOptions",
    "CentralCritic",
    "CentralMixer",
    "CounterfactualCritic",
    "FeedForwardAgent",
    "GaussianHead",
    "Head",
    "IndependentAgents",
    "IndependentGaussianHeads",
    "IndependentHeads",
    "Inputs",
    "JointCritic",
    "JointValue",
    "LinearHead",
    "Memory",
    "OwnCritic",
    "QMIXMixer",
    "QPLEXMixer",
    "QattenMixer",
    "RecurrentAgent",
    "RunningMoments",
    "Share",
    "VDNMixer",
]
