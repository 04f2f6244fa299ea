"""32 real episodes of StarCraft-like 8m in PyMARL's padded layout, and what the usual mask makes of them.

    endmark train qmix --env smax:8m --env-arg max_steps=119 --n-envs 32 --steps 30000 --run-dir runs/8m
    python examples/starcraft_masks.py runs/8m

With `max_steps=119` an episode has at most 120 steps, so the padded tensors have 120 + 1 frames.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from endmark.episodes import shift_mask, step_mask
from endmark.episodes.files import load_episodes

run = Path(sys.argv[1])
replay = load_episodes(run / "replay.safetensors")
longest = replay.lengths.argsort(descending=True)[:2]  # episodes cut by the limit, if there are any
newest = torch.arange(replay.n_episodes)[-30:]
batch = replay.select(torch.cat([longest, newest]))
padded = batch.to_padded(limit=120)
filled, terminated = padded["filled"], padded["terminated"]
print(f"filled {tuple(filled.shape)}, terminated {tuple(terminated.shape)}, obs {tuple(padded['obs'].shape)}")
print(f"{batch.n_steps} real steps in {filled.shape[0]} x 120 = {filled.shape[0] * 120} cells")

usual, exact = shift_mask(filled, terminated)[..., 0].bool(), step_mask(filled, terminated)[..., 0]
print(f"the usual mask counts {int(usual.sum())} steps, the exact one {int(exact.sum())}")
for row, t in (usual != exact).nonzero().tolist():
    length = int(batch.lengths[row])
    print(f"  row {row}, t = {t}: the usual mask counts it; the episode was cut after {length} steps")

# The same batch from a ring that keeps what an earlier, longer episode left: filled to the brim.
stale = torch.ones_like(filled)
invented = shift_mask(stale, terminated)[..., 0].bool() & ~exact
print(f"with filled all ones, the usual mask counts {int(invented.sum())} steps that never were")

path = run / "padded.safetensors"
save_file({name: tensor.contiguous() for name, tensor in padded.items() if name != "mask"}, path)
print(f"wrote {path}: endmark inspect {path} --html page.html")
