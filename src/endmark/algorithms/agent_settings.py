"""The settings of the agents' network, which every algorithm has; and those of a team that is learned for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from endmark.algorithms.learner import check_positive
from endmark.nets import AgentKind, AttentionOptions, Share

_DEFAULT = AttentionOptions()


@dataclass(frozen=True)
class AgentSettings:
    """What kind of network agents and critics are, and how large."""

    agent: AgentKind = "gru"
    """The network of agents and critics: with a memory (gru), with attention to what the agent saw before in
    this episode (attention), or with neither (feedforward)."""
    hidden_size: int = 64
    """Units of the networks' layers."""
    attention_heads: int = _DEFAULT.heads
    """With attention: heads of a layer; `hidden_size` is a multiple of twice as many."""
    attention_layers: int = _DEFAULT.layers
    """With attention: layers."""
    attention_window: int = _DEFAULT.window
    """With attention: frames that a frame attends to, itself among them; a shorter episode is read whole."""
    last_action: bool = True
    """Let an agent see what it did at the step before."""

    TAKES_VECTORS: ClassVar[bool] = False
    """Whether actions may be vectors, rather than numbered."""

    def __post_init__(self) -> None:
        check_positive(self, "hidden_size", "attention_heads", "attention_layers", "attention_window")
        if self.agent == "attention" and self.hidden_size % (2 * self.attention_heads):
            want = f"a multiple of {2 * self.attention_heads}, twice the attention heads"
            raise ValueError(f"hidden_size: given {self.hidden_size}, want {want}")

    @property
    def attention(self) -> AttentionOptions:
        """The options of an attention agent."""
        return AttentionOptions(self.attention_heads, self.attention_layers, self.attention_window)


@dataclass(frozen=True)
class TeamSettings(AgentSettings):
    """How the agents of a team that all learn go together."""

    share: Share = "all"
    """Which agents share one network: all, none, or those of one kind, as the environment has kinds."""
    agent_id: bool = True
    """Let an agent see which it is of those that share its network."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.share not in (wants := get_args(Share)):
            raise ValueError(f"share: given {self.share!r}, want one of {', '.join(wants)}")

    def actor_options(self) -> dict[str, Any]:
        """What `Actor.of` takes of these settings."""
        return {
            "kind": self.agent,
            "attention": self.attention,
            "hidden_size": self.hidden_size,
            "last_action": self.last_action,
            "agent_id": self.agent_id,
            "share": self.share,
        }
