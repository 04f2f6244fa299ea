"""Pictures one after the other, as a GIF or as an MP4."""

from __future__ import annotations

import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from endmark.disk import replacing
from endmark.envs import Picture

LAST_STAYS = 1.0
"""Seconds for which the last picture of an episode stays."""
FASTEST_GIF = 50
"""Pictures a second. Browsers show a GIF slowly that wants to be faster."""


class Film:
    """A film that grows picture by picture, all of one size: a GIF, an MP4, or both at once."""

    def __init__(self, films: Sequence[_Gif | _Mp4]) -> None:
        self._films = films
        self._shape: tuple[int, ...] | None = None

    def add(self, picture: Picture, *, last: bool = False) -> None:
        """The next picture. last: of an episode, so that it stays for `LAST_STAYS`.

        ValueError if it is not as large as the first one, or if ffmpeg fails.
        """
        if self._shape not in (None, picture.shape):
            raise ValueError(f"a picture of the film: given shape {picture.shape}, want {self._shape} again")
        self._shape = picture.shape
        for film in self._films:
            film.add(picture, LAST_STAYS if last else 0.0)


@contextmanager
def filmed(fps: float, *, gif: Path | None = None, mp4: Path | None = None) -> Iterator[Film]:
    """A `Film` that is written when the block is left; by an error, the files are as they were before.

    fps: pictures a second; in a GIF at most `FASTEST_GIF`.
    gif: needs Pillow, which the extra `plot` installs. mp4: needs the program ffmpeg. ValueError without.
    """
    for path in filter(None, (gif, mp4)):
        if not path.parent.is_dir():
            raise ValueError(f"{path}: there is no directory {path.parent}")
    films: list[_Gif | _Mp4] = []
    with ExitStack() as stack:
        if gif is not None:
            films.append(stack.enter_context(_gif(gif, fps)))
        if mp4 is not None:
            films.append(stack.enter_context(_mp4(mp4, fps)))
        yield Film(films)


def require_pillow() -> None:
    """ValueError, one line, where Pillow is not installed."""
    try:
        import PIL.Image  # noqa: F401 - whether it is there
    except ImportError:
        raise ValueError('pictures need Pillow: pip install "endmark[plot]"') from None


@contextmanager
def _gif(path: Path, fps: float) -> Iterator[_Gif]:
    require_pillow()
    with replacing(path) as unfinished:
        gif = _Gif(fps)
        yield gif
        gif.save(unfinished)


class _Gif:
    """Keeps the pictures, a byte a pixel."""

    def __init__(self, fps: float) -> None:
        self._seconds = max(1 / FASTEST_GIF, 1 / fps)
        self._pictures: list[Any] = []
        self._milliseconds: list[int] = []

    def add(self, picture: Picture, at_least: float) -> None:
        from PIL import Image

        self._pictures.append(Image.fromarray(picture).quantize(dither=Image.Dither.NONE))
        self._milliseconds.append(round(1000 * max(self._seconds, at_least)))

    def save(self, path: Path) -> None:
        first, *others = self._pictures
        first.save(
            path, format="GIF", save_all=True, append_images=others, duration=self._milliseconds, loop=0
        )


@contextmanager
def _mp4(path: Path, fps: float) -> Iterator[_Mp4]:
    if (program := shutil.which("ffmpeg")) is None:
        raise ValueError(f"{path}: an MP4 needs the program ffmpeg, which is not on the PATH; a GIF does not")
    with replacing(path) as unfinished, tempfile.TemporaryFile() as says:
        mp4 = _Mp4(program, unfinished, fps, says)
        try:
            yield mp4
            mp4.finish()
        except BrokenPipeError:
            raise ValueError(f"{path}: ffmpeg failed: {mp4.said()}") from None
        finally:
            mp4.kill()


class _Mp4:
    """Hands the pictures to ffmpeg as they come. BrokenPipeError if it fails."""

    def __init__(self, program: str, path: Path, fps: float, says: IO[bytes]) -> None:
        self._program, self._path, self._fps, self._says = program, path, fps, says
        self._encoder: subprocess.Popen[bytes] | None = None

    def add(self, picture: Picture, at_least: float) -> None:
        if self._encoder is None:
            self._encoder = self._started(*picture.shape[:2])
        assert self._encoder.stdin is not None
        for _ in range(max(1, math.ceil(at_least * self._fps))):
            self._encoder.stdin.write(picture.tobytes())

    def finish(self) -> None:
        if self._encoder is not None:
            self._encoder.communicate()
            if self._encoder.returncode:
                raise BrokenPipeError

    def kill(self) -> None:
        """End the encoder, if it still runs."""
        if self._encoder is not None:
            self._encoder.kill()
            self._encoder.wait()
            assert self._encoder.stdin is not None
            with suppress(BrokenPipeError):
                self._encoder.stdin.close()

    def said(self) -> str:
        """The last line that ffmpeg wrote."""
        if self._encoder is not None:
            self._encoder.wait()
        self._says.seek(0)
        lines = self._says.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it does not say why"

    def _started(self, height: int, width: int) -> subprocess.Popen[bytes]:
        raw = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {self._fps:g} -i -"
        # Every player shows yuv420p, which has one colour for 2 x 2 pixels, and so needs even sides.
        how = "-vf pad=ceil(iw/2)*2:ceil(ih/2)*2 -c:v libx264 -pix_fmt yuv420p -movflags +faststart -f mp4"
        return subprocess.Popen(
            [self._program, "-v", "error", "-y", *raw.split(), *how.split(), f"file:{self._path}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._says,
        )
