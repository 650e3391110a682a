"""Hostile weights, persons, lists of jobs, signed outputs, shards, motions and certificates."""

import json
import struct
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
from support import ASTRONAUT, CLIP

from . import kind
from .media import mutate, painter


def unpacked(data: bytes) -> tuple[dict, bytes]:
    """Header and tensors of a safetensors file."""
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def packed(header: dict, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


@kind
def weights(rng, media, folder):
    """Weights files: damaged, hostile headers, wrong shapes, missing and unknown keys, NaN, wrong hash in the name."""
    from portrait_anim.networks.weights import KEY, load

    data = (media / "weights.safetensors").read_bytes()
    header, body = unpacked(data)
    keys = sorted(k for k in header if k != "__metadata__")
    key, way = keys[rng.integers(len(keys))], rng.integers(14)
    meta = json.loads(header["__metadata__"][KEY])
    name = "w.safetensors"
    if way == 0:
        data = mutate(rng, data)
    elif way == 1:
        name = "portrait_anim-00000000.safetensors"
    elif way == 2:
        del header[key]
    elif way == 3:
        header["generator.extra"] = header[key]
    elif way == 4:
        header[key]["shape"] = [int(v) for v in rng.integers(0, 2**40, 4)]
    elif way == 5:
        header[key]["dtype"] = str(rng.choice(["F64", "I8", "BOOL", "F8_E4M3", "evil"]))
    elif way == 6:
        header[key]["data_offsets"] = [0, int(rng.choice([0, 2**62, -1]))]
    elif way == 7:
        meta["config"][str(rng.choice(sorted(meta["config"])))] = rng.choice([0, -1, 1e9, 10**7]).item()
    elif way == 8:
        meta["config"] = {k: "x" * 1000 for k in meta["config"]}
    elif way == 9:
        meta = [[], {}, None, {"format": 99, "config": {}, "info": {}}][rng.integers(4)]
    elif way == 10:
        header["__metadata__"] = {KEY: "[" * 100_000}
        meta = None
    elif way == 11:
        body = b"\xff\x7f" * (len(body) // 2)  # NaN in fp16
    elif way == 12:
        data = int(rng.choice([2**40, 2**63, 3])).to_bytes(8, "little") + data[8:]
    else:
        data = b"\x80\x05cos\nsystem\n(S'touch pwned'\ntR."  # a pickle
    if way not in (0, 1, 12, 13):
        if meta is not None:
            header["__metadata__"] = {KEY: json.dumps(meta)}
        data = packed(header, body)
    (folder / name).write_bytes(data)
    return lambda: load(folder / name)


@kind
def person(rng, media, folder):
    """Person files: damaged, hostile headers, wrong shapes, missing and unknown keys, other numbers."""
    from portrait_anim.painting.person import KEY, Person

    data = (media / "person.safetensors").read_bytes()
    header, body = unpacked(data)
    key, way = str(rng.choice(sorted(k for k in header if k != "__metadata__"))), rng.integers(8)
    if way == 0:
        data = mutate(rng, data)
    elif way == 1:
        del header[key]
    elif way == 2:
        header["photo.9"] = header[key]
    elif way == 3:
        header[key]["shape"] = [int(v) for v in rng.integers(0, 2**40, 3)]
    elif way == 4:
        header[key]["dtype"] = str(rng.choice(["F64", "I8", "U8", "F8_E4M3", "evil"]))
    elif way == 5:
        header[key]["data_offsets"] = [0, int(rng.choice([0, 2**62, -1]))]
    elif way == 6:
        header["__metadata__"] = {KEY: str(rng.choice(["[" * 100_000, "{}", "[]", "", '{"format": 9}', "null"]))}
    else:
        body = rng.integers(0, 256, len(body), np.uint8).tobytes()
    if way:
        data = packed(header, body)
    (folder / "p.safetensors").write_bytes(data)
    return lambda: Person.load(folder / "p.safetensors", painter())


@kind
def jobs(rng, media, folder):
    """Lists of jobs: damaged, and cells that are of no type or all of them."""
    from portrait_anim.batch.run import _COLUMNS, read_jobs

    names = ["images", "driver", *rng.choice(sorted(_COLUMNS), 3).tolist()]
    odd = ["", " ", "x", "-1", "1e999", "nan", "9" * 5000, "yes", "{portrait}", "{", "a\0b", "/", "..", None, True, 0.5,
           [], ["a", 1], {"a": 1}, "camera:x", "nod", "a" * 300]  # fmt: skip
    rows = [{name: odd[rng.integers(len(odd))] for name in names} for _ in range(int(rng.integers(1, 30)))]
    path = folder / ("a.csv" if rng.random() < 0.5 else "a.jsonl")
    lines = [",".join(names), *(",".join(map(str, row.values())) for row in rows)]
    data = "\n".join(lines if path.suffix == ".csv" else map(json.dumps, rows)).encode()
    if rng.random() < 0.3:
        data = mutate(rng, data)
    elif rng.random() < 0.1:
        data += b"\n" + rng.choice([b"[" * 100_000, b"9" * 5000, b'{"images": ' + b"9" * 5000 + b"}"])
    path.write_bytes(data)
    return lambda: read_jobs(path, "out/")


@kind
def signed(rng, media, folder):
    """Damaged outputs before `verify`, which must never call them intact."""
    from portrait_anim.provenance.verify import verify_file

    source = media / f"signed-{rng.choice(['a.mp4', 'a.gif', 'a.png'])}"
    path = folder / source.name
    good = source.read_bytes()
    bad = mutate(rng, good)
    path.write_bytes(bad)

    def call():
        report = verify_file(path)
        assert report.sentences()
        if report.verdict == "intact" and bad != good:  # C2PA's hash leaves out what says nothing, such as `free`
            assert len(bad) == len(good) and (frames(path) == frames(source)).all(), report

    return call


def frames(path: Path) -> np.ndarray:
    from portrait_anim.media.reading import FrameReader

    return np.stack(list(FrameReader(path)))


@kind
def shard(rng, media, folder):
    """Training shards with wrong arrays, or an array of pickled objects."""
    from portrait_anim.training.shards import load_shard

    header = {"format": 1, "group": "a", "video": "v"}
    arrays = {
        "header": np.array(json.dumps(header)), "landmarks": np.zeros((2, 478, 3), np.float16),
        "frames": np.zeros(9, np.uint8), "frame_offsets": np.array([0, 4, 9]), "mattes": np.zeros(9, np.uint8),
        "matte_offsets": np.array([0, 4, 9]),
    }  # fmt: skip
    name = sorted(arrays)[rng.integers(len(arrays))]
    way = rng.integers(5)
    if way == 0:
        del arrays[name]
    elif way == 1:
        arrays[name] = np.array([print, {}], dtype=object)
    elif way == 2:
        arrays["header"] = np.array(str(rng.choice(["", "{", "[]", "3", '{"format": "x"}', "[" * 9999])))
    path = folder / "s.npz"
    np.savez(path, **arrays)
    if way == 3:
        path.write_bytes(mutate(rng, path.read_bytes()))
    elif way == 4:  # an array that says it is enormous
        with zipfile.ZipFile(path, "a") as archive:
            shape = 2 ** int(rng.integers(33, 62))
            text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape},), }}".ljust(117) + "\n"
            archive.writestr("mattes.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode())
    return lambda: load_shard(path)


@kind
def motion(rng, media, folder):
    """Saved motions: damaged, arrays missing, of objects, NaN, or of other shapes."""
    from portrait_anim.landmarks.following import MotionTrack
    from portrait_anim.motion.file import load_motion, save_motion

    points = rng.normal(100, 30, (3, 478, 3)).astype(np.float32)
    path = folder / "m.npz"
    save_motion(path, MotionTrack(points, (640, 480), Fraction(25), np.ones(3, bool)))
    with np.load(path) as saved_motion:
        arrays = dict(saved_motion)
    name, way = sorted(arrays)[rng.integers(len(arrays))], rng.integers(5)
    if way == 0:
        path.write_bytes(mutate(rng, path.read_bytes()))
        return lambda: load_motion(path)
    if way == 1:
        del arrays[name]
    elif way == 2:
        arrays[name] = np.array([print, {}], dtype=object)
    elif way == 3:
        arrays[name] = np.full_like(arrays[name], rng.choice([0, -1, 1, 127]))
    else:
        arrays[name] = np.full(rng.integers(0, 3000, rng.integers(0, 3)), np.nan)
    np.savez(path, **arrays)
    return lambda: load_motion(path)


@kind
def certificate(rng, media, folder):
    """Certificates and keys that are damaged or no such thing."""
    from portrait_anim.provenance import signing
    from portrait_anim.provenance.marks import Marking

    text = signing._make().encode()
    cut = text.index(signing._BEGIN.encode())
    parts = [text[cut:], text[:cut]]
    which = rng.integers(2)
    parts[which] = mutate(rng, parts[which])
    for name, part in zip(("c.pem", "k.pem"), parts):
        (folder / name).write_bytes(part)
    return lambda: Marking([ASTRONAUT], CLIP, sign_cert=folder / "c.pem", sign_key=folder / "k.pem")
