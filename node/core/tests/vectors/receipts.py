#!/usr/bin/env python3
"""Makes receipts.json: receipts, their canonical form, digests and signatures, by another language than the node's.

    python3 node/core/tests/vectors/receipts.py > node/core/tests/vectors/receipts.json

Needs Python 3.8 and nothing else: ed25519 is that of RFC 8032 section 5.1, bech32 that of BIP 173, both written out below.
Look at the difference before you commit one: it means that receipts which were signed are worth nothing any more.
"""

import base64
import hashlib
import json

CHAIN = bytes(range(32))
PROVIDER, CLIENT, COORDINATORS = 7, 8, (11, 12)

COMMENT = (
    "Made by receipts.py beside this file: json.dumps(sort_keys=True, separators=(',', ':')), hashlib.sha256 and ed25519 of "
    "RFC 8032 in Python. Seeds of keys: 32 times 7 for the provider, 8 for the client, 11 and 12 for the coordinators."
)

# ed25519

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def add(a, b):
    """Of points (x, y)."""
    (x1, y1), (x2, y2) = a, b
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, P - 2, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - product, P - 2, P) % P
    return x, y


def times(n, point):
    out = (0, 1)
    while n:
        if n & 1:
            out = add(out, point)
        point, n = add(point, point), n >> 1
    return out


def base():
    """y is 4/5, x the even root."""
    y = 4 * pow(5, P - 2, P) % P
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (x if x % 2 == 0 else P - x), y


BASE = base()


def encoded(point):
    x, y = point
    return (y | (x & 1) << 255).to_bytes(32, "little")


def number(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")


class Key:
    """By a seed of 32 times the same byte."""

    def __init__(self, seed):
        digest = hashlib.sha512(bytes([seed]) * 32).digest()
        self.prefix = digest[32:]
        self.scalar = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | (1 << 254)
        self.public = encoded(times(self.scalar, BASE))

    def sign(self, message):
        r = number(self.prefix, message) % L
        commitment = encoded(times(r, BASE))
        s = (r + number(commitment, self.public, message) * self.scalar) % L
        return base64url(commitment + s.to_bytes(32, "little"))

    def address(self):
        return bech32("ait", hashlib.sha256(self.public).digest()[:20])


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


# bech32

SYMBOLS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def checksum(values):
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> i & 1 else 0
    return check


def bech32(name, data):
    bits = "".join(f"{byte:08b}" for byte in data)
    values = [int(bits[i : i + 5].ljust(5, "0"), 2) for i in range(0, len(bits), 5)]
    expanded = [ord(c) >> 5 for c in name] + [0] + [ord(c) & 31 for c in name]
    check = checksum(expanded + values + [0] * 6) ^ 1
    values += [check >> 5 * (5 - i) & 31 for i in range(6)]
    return name + "1" + "".join(SYMBOLS[value] for value in values)


# receipts


def vector(name, **fields):
    """A receipt with these fields beside the usual ones, or instead of them."""
    provider = Key(PROVIDER)
    receipt = {
        "version": "1.0",
        "receipt_id": "rcpt-20250926-000123",
        "job_id": "job-abc123",
        "provider": provider.address(),
        "client": Key(CLIENT).address(),
        "units": 1900,
        "unit_type": "gpu_seconds",
        "started_at": 1695720000,
        "completed_at": 1695720002,
    }
    receipt.update(fields)
    canonical = json.dumps(receipt, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(canonical).digest()
    attested = b"aitbc/attest/v1".ljust(16, b"\0") + CHAIN + digest
    signature = {"alg": "Ed25519", "key_id": provider.public.hex(), "sig": provider.sign(canonical)}
    coordinators = [Key(seed) for seed in COORDINATORS]
    return {
        "name": name,
        "receipt": {**receipt, "signature": signature},
        "canonical": canonical.decode(),
        "digest": "0x" + digest.hex(),
        "attest_bytes": "0x" + attested.hex(),
        "attestations": [{"key_id": key.public.hex(), "sig": key.sign(attested)} for key in coordinators],
    }


RECEIPTS = [
    vector("least"),
    vector(
        "all fields",
        receipt_id="rcpt-2",
        price=4200,
        model="runwayml/stable-diffusion-v1-5",
        prompt_hash="sha256:cf1f",
        duration_ms=1900,
        artifact_hash="sha256:deadbeef",
        coordinator_id="coord-eu-west-1",
        nonce="b7f3d10b",
        chain_id="vectors",
        metadata={"zone": "eu", "gpu": "A100 (80 GB)", "Attempts": 2, "_": 2**53 - 1},
    ),
    vector(
        "edges",
        receipt_id="r",
        units=2**53 - 1,
        started_at=0,
        completed_at=0,
        metadata={},
        price=0,
        model="",
    ),
]

print(json.dumps({"comment": COMMENT, "chain": "0x" + CHAIN.hex(), "receipts": RECEIPTS}, indent=2))
