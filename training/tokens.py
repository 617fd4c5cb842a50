#!/usr/bin/env python3
"""Makes src/guard/models/*.tokens from the rank lists that OpenAI publishes (`*.tiktoken`, plain or gzipped).

    training/tokens.py cl100k_base.tiktoken src/guard/models/cl100k.tokens

A token of more than one byte is two earlier tokens put together, so a vocabulary is a list of pairs. The file is a zlib
stream of the 256 bytes of the first tokens, then the left halves and the right halves of all others: of each the
highest bytes, the middle bytes, the lowest bytes. That is a third less than the tokens' own bytes take.
"""

import base64
import gzip
import hashlib
import sys
import zlib

# SHA-256 of the lists, as tiktoken itself checks them.
KNOWN = {
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7": "cl100k_base",
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d": "o200k_base",
}


def tokens_of(path):
    data = open(path, "rb").read()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    name = KNOWN.get(hashlib.sha256(data).hexdigest())
    if name is None:
        sys.exit(f"{path}: not a list that is known")
    tokens = [base64.b64decode(line.split()[0]) for line in data.splitlines() if line.strip()]
    return name, tokens


def halves(tokens):
    """The two tokens that each token but the first 256 is made of: the last step of its own encoding."""
    rank = {token: number for number, token in enumerate(tokens)}
    assert len(rank) == len(tokens) and all(len(token) == 1 for token in tokens[:256])
    for number, token in enumerate(tokens[256:], 256):
        parts = [token[at : at + 1] for at in range(len(token))]
        while len(parts) > 2:
            joined = (rank.get(parts[at] + parts[at + 1], number) for at in range(len(parts) - 1))
            best, at = min((joint, at) for at, joint in enumerate(joined))
            assert best < number, token
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        yield rank[parts[0]], rank[parts[1]]


def planes(numbers):
    return b"".join(bytes(number >> shift & 255 for number in numbers) for shift in (16, 8, 0))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    name, tokens = tokens_of(sys.argv[1])
    left, right = zip(*halves(tokens))
    packed = zlib.compress(b"".join(tokens[:256]) + planes(left) + planes(right), 9)
    with open(sys.argv[2], "wb") as out:
        out.write(packed)
    print(f"{name}: {len(tokens)} tokens, {len(packed)} bytes")


main()
