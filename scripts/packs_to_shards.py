"""Turn packs of the trial into shards without encoding anything anew: python packs_to_shards.py PACKS... --out SHARDS.

A pack (.bin) is a JSON header with its length before it, then an HEVC video of the frames, one of the mattes (128 px),
and landmarks in 1/8 px of a 256 px grid, as `training.shards` packs them, too. --side says whether its people are
trained on or held out; without it that is drawn by their names, as ever.
"""

import argparse
import json
import sys
from pathlib import Path

from portrait_anim.errors import InputError, PortraitAnimError
from portrait_anim.training.shards import FORMAT, Shard, save_shard, unpack_landmarks

GRID, PARTS = 256, 8  # px of the grid, steps of a px
MATTE = 128  # px


def read_pack(path: Path, is_test: bool | None) -> Shard:
    try:
        data = path.read_bytes()
        end = 4 + int.from_bytes(data[:4], "little")
        pack = json.loads(data[4:end].decode())
        parts = {}
        for name, length in pack["len"].items():
            parts[name], end = data[end : end + length], end + length
        header = {"format": FORMAT, "video": path.name, "group": str(pack["group"]), "frames": pack["T"],
                  "size": pack["size"], "matte_size": MATTE, "steps": GRID * PARTS}  # fmt: skip
        landmarks = unpack_landmarks(parts["lm"], pack["T"]) * (pack["size"] / header["steps"])
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise InputError(f"{path}: not a readable pack ({error}).") from error
    header |= {} if is_test is None else {"test": is_test}
    return Shard(header, parts["video"], parts["matte"], landmarks.astype("float32"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("packs", type=Path, nargs="+", help="files, or folders of them")
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards")
    parser.add_argument("--side", choices=("train", "test"), help="the side of the split for all of these people")
    options = parser.parse_args()
    try:
        files = [file for path in options.packs for file in (sorted(path.glob("*.bin")) if path.is_dir() else [path])]
        if not files:
            raise InputError(f"No packs (.bin) in {', '.join(map(str, options.packs))}.")
        options.out.mkdir(parents=True, exist_ok=True)
        for file in files:
            is_test = None if options.side is None else options.side == "test"
            save_shard(options.out / f"{file.stem}.npz", read_pack(file, is_test))
        print(f"{options.out}: {len(files)} shards")
    except PortraitAnimError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
