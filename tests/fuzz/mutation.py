"""A fuzzer without a library: inputs are the seeds, changed at random as files in the world are, and worse."""

import random

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1)
_WORDS = (b"null", b"true", b"-1", b"1e999", b"NaN", b"[]", b"{}", b'""', b"\\u0000", b"99999999999999999999", b"\0")
MOST = 200_000


def mutated(seeds: list[bytes], source: random.Random) -> bytes:
    """One input: a seed after one to eight changes."""
    data = bytearray(source.choice(seeds))
    for _ in range(source.choice((1, 1, 2, 4, 8))):
        at = source.randrange(len(data) + 1)
        kind = source.randrange(8)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << source.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = source.randrange(256)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + source.randrange(1, 64)]
        elif kind == 4:
            data[at:at] = data[at : at + source.randrange(1, 256)]
        elif kind == 5:
            size = source.choice((1, 2, 4, 8))
            number = source.choice(_NUMBERS) % 256**size
            data[at : at + size] = number.to_bytes(size, source.choice(("little", "big")))
        elif kind == 6:
            data[at : at + source.randrange(8)] = source.choice(_WORDS)
        else:
            other = source.choice(seeds)
            begin = source.randrange(len(other) + 1)
            data[at : at + 64] = other[begin : begin + source.randrange(1, 256)]
    return bytes(data)
