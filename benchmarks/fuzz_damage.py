"""Damage to files: bytes anywhere, and the structure of each format, for `benchmarks.fuzz`."""

from __future__ import annotations

import io
import json
import random
import warnings
import zipfile
from typing import Any

import numpy as np
import torch
from torch import Tensor

DEEP = "nested deeply"  # stands for JSON too deep to be made by `json`
ODD: list[Any] = [
    *(
        None,
        True,
        False,
        -1,
        0,
        1,
        3,
        2**31,
        2**62,
        2**63,
        10**40,
        0.5,
        -0.0,
        1e308,
        float("nan"),
        float("inf"),
    ),
    *("", "x", "1e999", "\x1b[31mred", "a\nb", "\ud800", "x" * 3000, "float32", "bits8", "step", DEEP),
    *([], {}, [[]], [0], [2**40, 2**40], {"a": 1}, [None, {}]),
]


def bytes_damaged(draw: random.Random, content: bytes) -> bytes:
    """Bytes flipped, cut off, cut out, doubled, blanked or added; or the first eight, a length, changed."""
    damaged = bytearray(content)
    size = len(damaged)
    at, n = draw.randrange(size), draw.choice([1, 1, 2, 8, 64, size])
    kind = draw.randrange(8)
    if kind <= 1:
        for _ in range(draw.choice([1, 1, 2, 5, 50])):
            damaged[draw.randrange(size) if draw.random() < 0.5 else draw.randrange(min(size, 400))] ^= (
                1 << draw.randrange(8)
            )
    elif kind == 2:
        del damaged[at:]
    elif kind == 3:
        del damaged[at : at + n]
    elif kind == 4:
        damaged[at:at] = damaged[at : at + n]
    elif kind == 5:
        damaged[at : at + n] = bytes([draw.choice([0, 255])]) * len(damaged[at : at + n])
    elif kind == 6:
        damaged += draw.randbytes(n)
    else:
        damaged[:8] = draw.choice(
            [0, 1, 7, size, 2**31, 2**32, 2**63, 2**64 - 1, draw.randrange(size)]
        ).to_bytes(8, "little")
    return bytes(damaged)


def json_damaged(draw: random.Random, value: Any) -> Any:
    """A copy in which one entry is another one, missing, doubled, or under another name."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        changed = dict(value)
        key = draw.choice(list(changed))
        kind = draw.randrange(8)
        if kind == 0:
            del changed[key]
        elif kind == 1:
            changed[str(draw.choice(ODD))] = changed.pop(key)
        elif kind == 2:
            changed[str(draw.choice(ODD))] = draw.choice(ODD)
        else:
            changed[key] = json_damaged(draw, changed[key])
        return changed
    if isinstance(value, list) and value and draw.random() < 0.8:
        items = list(value)
        at = draw.randrange(len(items))
        kind = draw.randrange(6)
        if kind == 0:
            del items[at]
        elif kind == 1:
            items.insert(at, items[at])
        else:
            items[at] = json_damaged(draw, items[at])
        return items
    return draw.choice(ODD)


def json_text(value: Any) -> str:
    """JSON, with NaN and infinity, lone surrogates, and real depth where `DEEP` stands."""
    deep = "[" * 100_000 + "]" * 100_000
    return json.dumps(value).replace(json.dumps(DEEP), deep)


def safetensors_damaged(draw: random.Random, content: bytes) -> bytes:
    """The header's JSON changed, or the JSON in its metadata, with a length that fits."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    metadata = header.get("__metadata__", {})
    if metadata and draw.random() < 0.7:
        key = draw.choice(list(metadata))
        inner = json.loads(metadata[key])
        for _ in range(draw.choice([1, 1, 2])):
            inner = json_damaged(draw, inner)
        header["__metadata__"] = {**metadata, key: json_text(inner)}
        text = json.dumps(header)
    else:
        text = json_text(json_damaged(draw, header))
    encoded = text.encode()
    return len(encoded).to_bytes(8, "little") + encoded + content[8 + size :]


def jsonl_damaged(draw: random.Random, content: bytes) -> bytes:
    """One line's JSON changed."""
    lines = content.decode().splitlines()
    at = draw.randrange(len(lines))
    lines[at] = json_text(json_damaged(draw, json.loads(lines[at])))
    return ("\n".join(lines) + "\n").encode()


def npz_damaged(draw: random.Random, content: bytes) -> bytes:
    """The archive with a member that is renamed, missing, doubled, packed, or another array."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(target, "w") as new,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # of members of the same name
        names = old.namelist()
        at = draw.choice(names)
        for name in names:
            member = old.read(name)
            how = draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
            if name != at:
                new.writestr(name, member, how)
                continue
            kind = draw.randrange(6)
            if kind == 0:
                new.writestr(str(draw.choice(ODD)).replace("\ud800", "?") + ".npy", member, how)
            elif kind == 1:
                new.writestr(name, _npy(draw), how)
            elif kind == 2:
                new.writestr(name, _header_changed(draw, member), how)
            elif kind == 3:
                new.writestr(name, member, how)
                new.writestr(name, member, how)
            elif kind == 4:
                new.writestr(name, bytes_damaged(draw, member), how)
    return target.getvalue()


def _npy(draw: random.Random) -> bytes:
    """An array of an odd shape or type."""
    shape = draw.choice([(), (0,), (3,), (2, 3), (4, 4, 1), (0, 4, 1), (1, 1, 1, 1, 1, 1)])
    kind = draw.choice(["O", "U3", "S2", "M8[s]", "f2", "f8", "c16", "g", "u8", ">i4", "?", "i4,f4", "V7"])
    array = np.zeros(shape, dtype=kind)
    target = io.BytesIO()
    np.lib.format.write_array(target, array, allow_pickle=True)
    return target.getvalue()


def _header_changed(draw: random.Random, member: bytes) -> bytes:
    """The text of the header with a part replaced by one of the same length."""
    size = int.from_bytes(member[8:10], "little")
    text = member[10 : 10 + size]
    pairs = [
        (b"(", b"["),
        (b"'<f4'", b"'|O8'"),
        (b"'<i8'", b"'<U9'"),
        (b"False", b"True "),
        (b", ", b"-9"),
        (b"1", b"9"),
        (b"shape", b"sh\\pe"),
    ]
    old, new = draw.choice(pairs)
    return member[:10] + text.replace(old, new) + member[10 + size :]


def torch_damaged(draw: random.Random, tensors: dict[str, Tensor]) -> bytes:
    """A torch file whose content is something else in one place."""
    content: dict[Any, Any] = dict(tensors)
    name = draw.choice(list(content))
    tensor = content[name]
    odd: list[Any] = [
        *(None, 3, "x", [1], {}, {"filled": 1}, tensor.double(), tensor.bool(), tensor.to(torch.complex64)),
        *(tensor[:, :-1], tensor[:0], tensor[..., :0], tensor[0], tensor.flatten(), tensor.transpose(0, 1)),
        *(tensor.to_sparse(), tensor.to("meta"), torch.tensor(3), tensor.half(), tensor.to(torch.bfloat16)),
        *(tensor[:1].expand(tensor.shape), tensor[:1, :1].expand(2**20, 2**20, *tensor.shape[2:])),
        *(torch.nn.Parameter(tensor.float()), tensor.to(torch.uint16), tensor.float().to(torch.float8_e5m2)),
        torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8),
        torch.nested.nested_tensor([tensor[0].float(), tensor[1, :1].float()]),
    ]
    kind = draw.randrange(6)
    if kind == 0:
        content[draw.choice(ODD[:18])] = content.pop(name)
    elif kind == 1:
        content[str(draw.choice(ODD))] = draw.choice(odd)
    elif kind == 2:
        content = {"transition_data": content, "episode_data": draw.choice(odd)}
    else:
        content[name] = draw.choice(odd)
    target = io.BytesIO()
    torch.save(content, target, _use_new_zipfile_serialization=draw.random() < 0.7)
    return target.getvalue()


def state_damaged(draw: random.Random, value: Any) -> Any:
    """A run's state in which one entry is another one, of the kinds that `save_state` writes."""
    if isinstance(value, dict) and value:
        changed = dict(value)
        key = draw.choice(list(changed))
        if draw.random() < 0.08:
            del changed[key]
        else:
            changed[key] = state_damaged(draw, changed[key])
        return changed
    if isinstance(value, list | tuple) and value and draw.random() < 0.8:
        items = list(value)
        at = draw.randrange(len(items))
        if draw.random() < 0.1:
            del items[at]
        else:
            items[at] = state_damaged(draw, items[at])
        return items
    if isinstance(value, Tensor | np.ndarray) and draw.random() < 0.7:
        tensor = torch.as_tensor(value).clone()
        changes: list[Tensor] = [
            tensor[:0] if tensor.ndim else tensor[None],
            tensor.double(),
            tensor.bool(),
            tensor[None],
        ]
        changes += [
            tensor.repeat(2) if tensor.ndim == 1 else tensor.flatten(),
            torch.full_like(tensor, 1) * -1 if tensor.dtype != torch.bool else ~tensor,
        ]
        return draw.choice(changes)
    return draw.choice([odd for odd in ODD if odd != DEEP and odd != "\ud800"])
