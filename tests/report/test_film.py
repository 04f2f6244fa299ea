"""Films are whole, or as they were before."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from endmark.report import filmed

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def picture(grey: int, height: int = 21, width: int = 30) -> npt.NDArray[np.uint8]:
    return np.full((height, width, 3), grey, np.uint8)


def test_a_gif_has_every_picture_and_an_episode_s_last_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    with filmed(10.0, gif=path) as film:
        for grey, last in ((0, False), (100, True), (0, False), (200, False), (50, True)):
            film.add(picture(grey), last=last)
    shown = []
    with Image.open(path) as gif:
        assert gif.size == (30, 21)
        assert gif.info["loop"] == 0
        for k in range(5):
            gif.seek(k)
            shown.append((gif.convert("RGB").getpixel((3, 3)), gif.info["duration"]))
        with pytest.raises(EOFError):
            gif.seek(5)
    expected = [(0, 100), (100, 1000), (0, 100), (200, 100), (50, 1000)]
    assert shown == [((grey, grey, grey), duration) for grey, duration in expected]
    assert [file.name for file in tmp_path.iterdir()] == ["film.gif"]


@pytest.mark.parametrize(("fps", "duration"), [(1000.0, 20), (0.5, 2000)])
def test_a_gif_is_as_fast_as_browsers_show_it(fps: float, duration: int, tmp_path: Path) -> None:
    with filmed(fps, gif=tmp_path / "film.gif") as film:
        film.add(picture(0))
        film.add(picture(1))
    with Image.open(tmp_path / "film.gif") as gif:
        assert gif.info["duration"] == duration


def test_an_error_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    path.write_bytes(b"before")

    def half_a_film() -> None:
        with filmed(10.0, gif=path) as film:
            film.add(picture(0))
            film.add(picture(0, height=22))

    with pytest.raises(ValueError, match=r"given shape \(22, 30, 3\), want \(21, 30, 3\) again"):
        half_a_film()
    assert path.read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["film.gif"]


@needs_ffmpeg
def test_an_mp4_has_even_sides_and_stays_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "-film"  # neither a suffix nor a first dash means anything
    with filmed(4.0, mp4=path) as film:
        for k in range(6):
            film.add(picture(40 * k), last=k == 5)
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", f"file:{path}", *["-f", "rawvideo", "-pix_fmt", "gray", "-"]],
        capture_output=True,
        check=True,
    ).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(-1, 22, 30)
    assert len(frames) == 5 + 4
    assert np.abs(frames[:, 5, 5].astype(int) - [0, 40, 80, 120, 160, *[200] * 4]).max() < 12


def _program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


@pytest.mark.parametrize(
    "script", ["echo 'no codec' >&2; exit 1", "cat >/dev/null; echo 'no codec' >&2; exit 1"]
)
def test_an_encoder_that_fails(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _program(tmp_path, monkeypatch, f"echo 'no codec' >&2; {script}")
    path = tmp_path / "film.mp4"

    def film_it() -> None:
        with filmed(10.0, mp4=path) as film:
            for _ in range(100):
                film.add(picture(0, 100, 100))

    with pytest.raises(ValueError, match=r"film\.mp4: ffmpeg failed: no codec"):
        film_it()
    assert [file.name for file in tmp_path.iterdir()] == ["bin"]


def test_an_encoder_is_ended_where_the_film_breaks_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(tmp_path, monkeypatch, "exec sleep 1000")

    def film_it() -> None:
        with filmed(10.0, mp4=tmp_path / "film.mp4") as film:
            film.add(picture(0))
            raise RuntimeError("broke off")

    with pytest.raises(RuntimeError, match="broke off"):
        film_it()
    assert [file.name for file in tmp_path.iterdir()] == ["bin"]


def test_without_ffmpeg_or_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(ValueError, match=r"film.mp4: an MP4 needs the program ffmpeg"),
        filmed(10.0, mp4=tmp_path / "film.mp4"),
    ):
        pass
    with (
        pytest.raises(ValueError, match="there is no directory"),
        filmed(10.0, gif=tmp_path / "no" / "a.gif"),
    ):
        pass
