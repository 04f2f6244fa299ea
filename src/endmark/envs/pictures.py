"""Pictures of environments, as arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from endmark.envs.errors import EnvError
from endmark.envs.protocol import Picture
from endmark.wording import one_line, shown


def picture_of(env: Any) -> Picture:
    """The present picture of an `Environment`; `EnvError` if it draws none, or what is no picture."""
    if not callable(getattr(env, "render", None)):
        raise EnvError("draws no pictures: it has no method render()")
    picture = env.render()
    if not isinstance(picture, np.ndarray):
        raise EnvError(f"render(): given {shown(picture)}, want a picture [H, W, 3] uint8")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
        given = f"{picture.dtype.name} of shape {picture.shape}"
        raise EnvError(f"render(): given {given}, want a picture [H, W, 3] uint8")
    return picture


class Drawing:
    """How an environment of Gymnasium or PettingZoo is drawn.

    of_family: draws it without its wrappers, in the place of its own way.

    fps: pictures a second, as the environment says; None if it does not.
    if_asked: whether it draws pictures, but only where it was made with `render_mode="rgb_array"`.
    """

    def __init__(self, env: Any, of_family: Callable[[Any], Picture] | None) -> None:
        self._env, self._of_family = env, of_family
        metadata = getattr(env, "metadata", None) or {}
        self.fps: float | None = metadata.get("render_fps")
        self._modes = [str(mode) for mode in metadata.get("render_modes", ())]
        self.if_asked = of_family is None and "rgb_array" in self._modes

    def picture(self) -> Picture:
        """The present picture; `EnvError` if there is none."""
        if self._of_family is not None:
            return self._of_family(getattr(self._env, "unwrapped", self._env))
        if not self.if_asked:
            modes = ", ".join(map(repr, self._modes)) or "none"
            raise EnvError(f"draws no pictures: its render modes are {modes}, want 'rgb_array'")
        try:
            return self._env.render()  # type: ignore[no-any-return]  # `picture_of` looks at it
        except NotImplementedError as error:
            want = "a method that returns a picture [H, W, 3] uint8"
            raise EnvError(f"draws no pictures: render() is not implemented, want {want}") from error
        except Exception as error:
            if type(error).__module__.startswith("pyglet"):  # whose message does not say so
                screen = "it needs a screen; where there is none: xvfb-run -a endmark play ..."
                raise EnvError(f"draws no pictures: {screen}: {one_line(error)}") from error
            raise
