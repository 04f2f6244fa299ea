"""Draw the documentation's pictures of `endmark inspect --html`: inspect-light.png and inspect-dark.png.

With the path of a padded batch and a name, it draws NAME-light.png and NAME-dark.png of that batch instead.
The README shows smax-8m-light.png, of what examples/starcraft_masks.py wrote.

Needs playwright, a chromium (tools/install-chromium.sh), and Pillow to make the pictures small. The batch
is drawn with a seed; the letters depend on the machine's fonts (these: Debian's fonts-inter).
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image
from playwright.sync_api import sync_playwright
from torch import Tensor

from endmark.inspect.html import html_page
from endmark.inspect.inspection import inspect, page_data
from endmark.inspect.source import Source, read

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def make_padded_batch(
    rows: int = 32, limit: int = 120, *, n_agents: int = 8, seed: int = 7
) -> dict[str, Tensor]:
    """Random padded episodes with every kind of end; of every fourth row the flags are faulty."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    filled = torch.zeros(rows, limit + 1, 1, dtype=torch.int64)
    terminated = torch.zeros(rows, limit + 1, 1, dtype=torch.uint8)
    for row in range(rows):
        length = limit if row % 5 == 2 else draw(limit // 6, limit * 9 // 10)
        filled[row, : length + 1] = 1
        ended = row % 5 != 4 and not (length == limit and row % 2)
        terminated[row, length - 1] = int(ended)
        if row % 4 != 3 or length == limit:
            continue
        wrong = (row // 4) % 4
        after = min(limit, length + draw(8, 30))
        if wrong == 0:  # a ring buffer's slot that held a longer episode
            terminated[row, length - 1] = 1
            filled[row, : after + 1] = 1
        elif wrong == 1:  # two episodes in a row
            terminated[row, length - 1] = terminated[row, after - 1] = 1
            filled[row, : after + 1] = 1
        elif wrong == 2:  # a hole
            terminated[row] = 0
            filled[row, length + 6 : after + 6] = 1
        elif ended:  # an end flag where there is no step
            terminated[row, length - 1], terminated[row, min(limit, length + 4)] = 0, 1
    reward = torch.randn(rows, limit + 1, 1, generator=generator).mul(0.3).round(decimals=2)
    actions = torch.randint(0, 14, (rows, limit + 1, n_agents, 1), generator=generator)
    obs = torch.randn(rows, limit + 1, n_agents, 80, generator=generator)
    obs[3, -1] = torch.nan  # in padding, where a mask by multiplication lets it out
    return {"filled": filled, "terminated": terminated, "obs": obs, "reward": reward, "actions": actions}


def main() -> None:
    """Draw both pictures beside this file."""
    directory = Path(__file__).parent
    source, name = Source("replay/8m-batch.npz", "padded batch", make_padded_batch()), "inspect"
    if sys.argv[1:]:
        source, name = read(Path(sys.argv[1])), sys.argv[2]
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        page = Path(temporary) / "page.html"
        page.write_text(html_page(page_data(source, inspect(source))), encoding="ascii")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        for theme in ("light", "dark"):
            view = browser.new_page(viewport={"width": 1200, "height": 1000})
            view.emulate_media(color_scheme="light" if theme == "light" else "dark")
            view.goto(page.as_uri())
            view.locator("[data-sort=problem]").click()
            if name == "inspect":
                view.locator("#findings button").first.click()  # shows the cell in the ring
            view.evaluate(
                "document.querySelectorAll('#picture ~ *, footer').forEach((part) => part.remove())"
            )
            picture = view.screenshot(full_page=True)
            small = Image.open(io.BytesIO(picture)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
            small.save(directory / f"{name}-{theme}.png", optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
