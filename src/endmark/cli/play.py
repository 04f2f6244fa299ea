"""`endmark play`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text
from tyro.conf import FlagCreatePairsOff, Positional

from endmark.cli.parse import parse
from endmark.cli.terminal import Terminal
from endmark.envs import Picture
from endmark.report import ValuesBeside, filmed
from endmark.rollout import Scene
from endmark.run import BEST, WEIGHTS
from endmark.training import drawn_env, gives_logits, load, played

FPS = 5.0
"""Pictures a second, where the environment does not say."""


@dataclass(frozen=True)
class PlayCommand:
    """Play a run's checkpoint greedily, and film it: the first episodes of `endmark eval`."""

    run_dir: Positional[Path]
    """What `endmark train` left behind."""
    gif: Path | None = None
    """The film as a GIF; by default play.gif in the run directory."""
    mp4: Path | None = None
    """The film as an MP4, by the program ffmpeg; a GIF is made only where one is asked for, too."""
    values: FlagCreatePairsOff[bool] = False
    """Show beside each picture what each agent makes of each action: its value, or its probability."""
    episodes: int = 1
    """Episodes to play, one after the other."""
    seed: int = 0
    """Which such episodes; those of `endmark eval` with the same seed."""
    checkpoint: Literal["last", "best"] = "last"
    """The last one, or that of the best greedy evaluation so far."""
    fps: float | None = None
    """Pictures a second; by default as the environment says, or 5."""

    def __call__(self, console: Console) -> None:
        """Run the command."""
        if self.episodes < 1:
            raise ValueError(f"episodes: given {self.episodes}, want at least 1")
        if self.seed < 0:
            raise ValueError(f"seed: given {self.seed}, want at least 0")
        if self.fps is not None and not 0.1 <= self.fps < math.inf:
            raise ValueError(f"fps: given {self.fps}, want at least 0.1, and finite")
        config, learner = load(self.run_dir, BEST if self.checkpoint == "best" else WEIGHTS)
        if self.values and learner.spec.bounds is not None:
            raise ValueError("values: given a run whose actions are vectors, want one with numbered actions")
        gif = self.gif or (None if self.mp4 else self.run_dir / "play.gif")
        with drawn_env(config) as env:
            draw: Callable[[Scene], Picture] = lambda scene: scene.picture  # noqa: E731
            if self.values:
                names = getattr(env, "action_names", ())
                draw = ValuesBeside(probabilities=gives_logits(learner), action_names=names)
            fps = float(self.fps or getattr(env, "render_fps", None) or FPS)
            with filmed(fps, gif=gif, mp4=self.mp4) as film, console.status("playing") as status:
                episode = 1
                for scene in played(config, learner, env, self.episodes, seed=self.seed):
                    status.update(f"episode {episode} of {self.episodes}, step {scene.t}")
                    film.add(draw(scene), last=scene.end is not None)
                    if scene.end is not None:
                        said = f"return {scene.total:.3f}, {scene.t} steps, {scene.end}"
                        console.print(f"episode {episode}: {said}", highlight=False)
                        episode += 1
        for path in filter(None, (gif, self.mp4)):
            console.print(Text(str(path)), soft_wrap=True)


def run(args: Sequence[str]) -> int:
    """Run the command; its exit status."""
    # pygame, by which many environments draw, looks for a screen and greets otherwise.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    parse(PlayCommand, "play", args)(Terminal())
    return 0
