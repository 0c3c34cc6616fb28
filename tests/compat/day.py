#!/usr/bin/env python3
"""A day of a client that was written for the Python prototype, against a running devnet.

    day.py http://127.0.0.1:9080 DEVNET_DIR

It knows the prototype's routes and shapes only (docs/rpc.md, "The prototype's routes"). What is new to it is how to sign: nothing
unsigned is taken. It ends with status 0 and the number of answers that had the right shape, or says which had not.
"""

import base64
import hashlib
import json
import os
import socket
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

RPC, DIR = sys.argv[1], sys.argv[2]
PATIENCE = 20  # seconds
EXPIRY = 500  # heights from now
SYMBOLS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
answers = 0


def check(truth, what):
    if not truth:
        sys.exit(f"the day ended early: {what}")


# --- HTTP


def ask(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(RPC + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def call(path, fields, body=None):
    """The JSON of an answer that has these fields, each of its type; None stands for null or anything."""
    global answers
    status, text = ask(path, body)
    check(status in (200, 202), f"{path}: {status} {text}")
    answer = json.loads(text)
    has(answer, fields, path)
    answers += 1
    return answer


def has(answer, fields, path):
    for name, kind in fields.items():
        check(name in answer, f"{path}: no {name} in {answer}")
        check(kind is None or type(answer[name]) is kind, f"{path}: {name} is {answer[name]!r}, {kind} expected")


def refused(path, status, code, body=None):
    global answers
    found, text = ask(path, body)
    check(found == status, f"{path}: {found} {text}, {status} expected")
    check(json.loads(text)["code"] == code, f"{path}: {text}, {code} expected")
    answers += 1
    return json.loads(text)


def until(path, what):
    """Asks again until there is an answer that `what` takes."""
    start = time.monotonic()
    while time.monotonic() - start < PATIENCE:
        status, text = ask(path)
        if status == 200 and what(json.loads(text)):
            return json.loads(text)
        time.sleep(0.05)
    check(False, f"{path}: {status} {text} after {PATIENCE} s")


# --- keys


class Key:
    def __init__(self, private=None):
        self.private = private or Ed25519PrivateKey.generate()
        self.public = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.raw = hashlib.sha256(self.public).digest()[:20]
        self.address = bech32(self.raw)

    def sign(self, data):
        return self.private.sign(data)


def bech32(raw):
    number = int.from_bytes(raw, "big")
    values = [number >> 5 * (31 - place) & 31 for place in range(32)]
    check_sum = 1
    for value in [ord(c) >> 5 for c in "ait"] + [0] + [ord(c) & 31 for c in "ait"] + values + [0] * 6:
        top = check_sum >> 25
        check_sum = (check_sum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate([0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3]):
            check_sum ^= generator if top >> bit & 1 else 0
    check_sum ^= 1
    values += [check_sum >> 5 * (5 - place) & 31 for place in range(6)]
    return "ait1" + "".join(SYMBOLS[value] for value in values)


def tag(name):
    return name.ljust(16, b"\0")


def u64(number):
    return number.to_bytes(8, "little")


def text(value):
    return len(value).to_bytes(4, "little") + value.encode()


def option(value):
    return b"\0" if value is None else b"\1" + value


# --- transactions


def sign(key, kind, payload, action):
    """A transaction in the prototype's fields, and those it did not have."""
    account = json.loads(ask(f"/rpc/get_balance/{key.address}")[1])
    fee = json.loads(ask("/rpc/estimateFee", {"type": kind, "payload": payload})[1])["estimated_fee"]
    nonce, expiry = account["next_nonce"], account["height"] + EXPIRY
    signed = tag(b"aitbc/tx/v1") + CHAIN + key.public + u64(nonce) + u64(fee) + u64(expiry) + action
    return {
        "type": kind, "sender": key.address, "nonce": nonce, "fee": fee, "payload": payload,
        "sig": key.sign(signed).hex(),
        "genesis_hash": "0x" + CHAIN.hex(), "public_key": key.public.hex(), "expiry_height": expiry,
    }


def transfer(key, to, amount):
    return sign(key, "TRANSFER", {"recipient": to.address, "amount": amount}, b"\0" + to.raw + u64(amount))


def renamed(transaction, names):
    return {names.get(name, name): value for name, value in transaction.items()}


def claim(key, miner, coordinator, receipt):
    """A receipt signed by its provider over the canonical form, attested, and claimed."""
    canonical = json.dumps(receipt, sort_keys=True, separators=(",", ":")).encode()
    by_miner = miner.sign(canonical)
    by_coordinator = coordinator.sign(tag(b"aitbc/attest/v1") + CHAIN + hashlib.sha256(canonical).digest())
    url64 = lambda data: base64.urlsafe_b64encode(data).decode().rstrip("=")
    whole = dict(receipt, signature={"alg": "Ed25519", "key_id": miner.public.hex(), "sig": url64(by_miner)})
    payload = {"receipt": whole, "attestations": [{"key_id": coordinator.public.hex(), "sig": url64(by_coordinator)}]}
    fields = text(receipt["receipt_id"]) + text(receipt["job_id"]) + miner.public + key.raw
    fields += u64(receipt["units"]) + text(receipt["unit_type"])
    # price, model, prompt_hash; times; duration_ms, artifact_hash, coordinator_id, nonce, chain_id, metadata.
    fields += option(None) * 3 + u64(receipt["started_at"]) + u64(receipt["completed_at"])
    fields += option(None) * 4 + option(text(receipt["chain_id"])) + option(None)
    attestations = (1).to_bytes(4, "little") + coordinator.public + by_coordinator
    return sign(key, "RECEIPT_CLAIM", payload, b"\x10" + fields + by_miner + attestations)


# --- WebSocket


class WebSocket:
    """As much of RFC 6455 as reading takes."""

    def __init__(self, path):
        url = urllib.parse.urlparse(RPC)
        self.socket = socket.create_connection((url.hostname, url.port), timeout=PATIENCE)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((
            f"GET {path} HTTP/1.1\r\nHost: {url.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.read(1)
        check(head.startswith(b"HTTP/1.1 101 "), f"{path}: {head!r}")

    def read(self, size):
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            check(piece, "the WebSocket was closed")
            data += piece
        return data

    def message(self, fields, what):
        """The next JSON that `what` takes; all have these fields."""
        while True:
            first, size = self.read(2)
            size = int.from_bytes(self.read(2 if size == 126 else 8), "big") if size > 125 else size
            data = self.read(size)
            if first & 15 == 1:
                event = json.loads(data)
                has(event, fields, "WebSocket")
                if what(event):
                    return event


# --- the day

HEAD = {"height": int, "hash": str, "timestamp": str, "tx_count": int}
BLOCK = {"height": int, "hash": str, "parent_hash": str, "tx_count": int, "state_root": None}
BALANCE = {"address": str, "balance": int, "nonce": int}
TX = {"tx_hash": str, "block_height": int, "sender": str, "recipient": str, "payload": dict, "created_at": str}
SENT = {"tx_hash": str}
RECEIPT = {
    "receipt_id": str, "job_id": str, "payload": dict, "miner_signature": dict, "coordinator_attestations": list,
    "minted_amount": int, "recorded_at": str,
}

health = call("/health", {"status": str, "chain_id": str, "proposer_id": str, "supported_chains": list})
check(health["status"] == "ok", health)
CHAIN_ID = health["chain_id"]
check("blockchain_blocks_total" in ask("/metrics")[1], "no metrics")
genesis = call("/rpc/genesis_allocations", {"genesis_hash": str, "state_root": str, "allocations": list})
has(genesis["allocations"][0], BALANCE, "genesis_allocations")
CHAIN = bytes.fromhex(genesis["genesis_hash"][2:])

# Morning: an account, units, and who listens.
alice, bob, miner = Key(), Key(), Key()
with open(os.path.join(DIR, "coordinator.pem"), "rb") as file:
    coordinator = Key(load_pem_private_key(file.read(), password=None))
for balance, path in zip((10_000, 20_000, 30_000), ("admin/mintFaucet", "admin/mint_faucet", "faucet")):
    given = call(f"/rpc/{path}", {"address": str, "balance": int}, {"address": alice.address, "amount": 10_000})
    check(given["balance"] == balance, f"{path}: {given}")
for path in ("getBalance", "get_balance", "balance", "account", "accounts"):
    found = call(f"/rpc/{path}/{alice.address}", BALANCE)
    check((found["balance"], found["nonce"]) == (30_000, 0), f"{path}: {found}")
check(call(f"/rpc/getBalance/{bob.address}", BALANCE)["balance"] == 0, "bob has something")
refused(f"/rpc/account/{bob.address}", 404, "NOT_FOUND")
blocks = [WebSocket(path) for path in ("/rpc/ws/blocks", "/rpc/blocks")]
transactions = [WebSocket(path) for path in ("/rpc/ws/transactions", "/rpc/transactions")]

# Noon: it pays, under every name and in every spelling, waits, and looks what became of it.
for path in ("estimateFee", "estimate_fee"):
    fee = call(f"/rpc/{path}", {"type": str, "base_fee": int, "payload_bytes": int, "estimated_fee": int},
               {"type": "TRANSFER", "payload": {"recipient": bob.address, "amount": 7}})
    check(fee["estimated_fee"] == 1, fee)
old = {"type": "TRANSFER", "sender": alice.address, "nonce": 0, "fee": 10, "payload": {"recipient": bob.address, "amount": 7}}
advice = refused("/rpc/sendTx", 422, "UNSIGNED_TRANSACTION", old)
check("public_key" in advice["detail"]["missing"], advice)
spellings = [{}, {"sender": "from", "sig": "signature"}]
paid = []
for path in ("sendTx", "send_tx"):
    for names in spellings:
        paid.append(call(f"/rpc/{path}", SENT, renamed(transfer(alice, bob, 7), names))["tx_hash"])
flat = renamed(transfer(alice, bob, 7), {"sender": "from", "sig": "signature"})
flat.update({"to": bob.address, "amount": 7, "chain_id": CHAIN_ID})
sent = call("/rpc/transaction", {"success": bool, "transaction_hash": str, "message": str}, flat)
check(sent["success"], sent)
paid.append(sent["transaction_hash"])
for tx_hash in paid:
    found = until(f"/rpc/tx/{tx_hash}", lambda answer: True)
    has(found, TX, "tx")
    check((found["sender"], found["recipient"]) == (alice.address, bob.address), found)
    found = until(f"/rpc/transaction/{tx_hash}?chain_id={CHAIN_ID}", lambda answer: "block_height" in answer)
    has(found, dict(TX, transaction_id=str, type=str, status=str, timestamp=str, nonce=int, value=int, fee=int), "transaction")
    check((found["value"], found["status"], found["payload"]["amount"]) == (7, "final", 7), found)
    answers += 2
check(call(f"/rpc/getBalance/{bob.address}", BALANCE)["balance"] == 35, "bob's balance")
check(call(f"/rpc/getBalance/{alice.address}", BALANCE)["nonce"] == 5, "alice's nonce")
EVENT = {"tx_hash": str, "sender": str, "recipient": str, "payload": dict, "nonce": int, "fee": int, "type": str}
for listener in transactions:
    seen = [listener.message(EVENT, lambda event: event["sender"] == alice.address)["tx_hash"] for _ in paid]
    check(seen == paid, f"{seen} seen, {paid} sent")
    answers += 1

# Afternoon: history.
history = call(f"/rpc/address/{alice.address}?limit=3", dict(BALANCE, total_transactions_sent=int, latest_sent=list))
check([entry["tx_hash"] for entry in history["latest_sent"]] == paid[:1:-1], history)
has(history["latest_sent"][0], {"tx_hash": str, "block_height": int, "direction": str, "counterparty": str, "payload": dict}, "address")
page = call("/rpc/transactions?limit=20&offset=0", {"transactions": list, "total": int, "limit": int, "offset": int})
check(set(paid) <= {entry["tx_hash"] for entry in page["transactions"]}, page)
bare = json.loads(ask(f"/rpc/transactions?address={alice.address}&limit=100")[1])
check([entry["tx_hash"] for entry in bare] == paid[::-1], bare)
page = call("/rpc/addresses?min_balance=1&limit=100", {"addresses": list, "total": int, "limit": int, "offset": int})
check({alice.address, bob.address} <= {entry["address"] for entry in page["addresses"]}, page)

# A job was done: its receipt mints, once, however it is sent.
now = int(time.time())
receipt = {
    "version": "1.0", "receipt_id": "rcpt-" + os.urandom(4).hex(), "job_id": "job-" + os.urandom(4).hex(),
    "provider": miner.address, "client": alice.address, "units": 3, "unit_type": "gpu_seconds",
    "started_at": now - 60, "completed_at": now - 1, "chain_id": CHAIN_ID,
}
for path, minted in (("submitReceipt", True), ("submit_receipt", False)):
    body = claim(alice, miner, coordinator, receipt)
    del body["type"]
    tx_hash = call(f"/rpc/{path}", SENT, body)["tx_hash"]
    done = until(f"/rpc/transaction/{tx_hash}", lambda answer: answer["status"] != "pending")
    check((done["status"], done["code"]) == (("final", "OK") if minted else ("rejected", "RECEIPT_CLAIMED")), done)
found = until(f"/rpc/receipts/{receipt['receipt_id']}", lambda answer: True)
has(found, RECEIPT, "receipts")
check((found["payload"], found["minted_amount"]) == (receipt, 3_000), found)
for query in ("", f"?job_id={receipt['job_id']}", f"?provider={miner.address}"):
    page = call(f"/rpc/receipts{query}", {"receipts": list, "total": int, "limit": int, "offset": int})
    check(page["receipts"][0]["receipt_id"] == receipt["receipt_id"], page)
check(call(f"/rpc/getBalance/{miner.address}", BALANCE)["balance"] == 2_850, "the miner's balance")

# Evening: blocks.
head = call(f"/rpc/head?chain_id={CHAIN_ID}", HEAD)
check(not head["timestamp"].endswith("Z"), "the time says that it is UTC")
check(call("/rpc/height", {"height": int})["height"] >= head["height"], "the height fell")
last = until(f"/rpc/blocks/{head['height']}", lambda answer: True)
has(last, dict(BLOCK, timestamp=str, chain_id=str, proposer=str, transactions=list), "blocks")
check(last["hash"] == head["hash"], f"{last} is not {head}")
span = call(f"/rpc/blocks-range?start=0&end={head['height']}", {"blocks": list, "start": int, "end": int, "count": int})
for below, above in zip(span["blocks"], span["blocks"][1:]):
    has(above, dict(BLOCK, timestamp=str), "blocks-range")
    check(above["parent_hash"] == below["hash"] and above["height"] == below["height"] + 1, f"{above} follows {below}")
check(span["blocks"][0]["hash"] == genesis["genesis_hash"], "height 0 is not genesis")
whole = call(f"/rpc/blocks-range?start={found['block_height']}&limit=1&include_tx=true", {"blocks": list})
check(any(tx["type"] == "RECEIPT_CLAIM" for tx in whole["blocks"][0]["transactions"]), whole)
page = call("/rpc/blocks?limit=2&offset=1", {"blocks": list, "total": int, "limit": int, "offset": int})
check(page["blocks"][0]["height"] == page["blocks"][1]["height"] + 1, page)
for listener in blocks:
    shape = {"height": int, "hash": str, "parent_hash": str, "timestamp": str, "tx_count": int}
    first = listener.message(shape, lambda event: True)
    second = listener.message(shape, lambda event: True)
    check(second["parent_hash"] == first["hash"], f"{second} follows {first}")
    answers += 1
SYNC = {
    "chain_id": str, "head_height": int, "head_hash": str, "head_proposer": str, "head_timestamp": str, "total_blocks": int,
    "total_transactions": int, "validate_signatures": bool, "trusted_proposers": list, "max_reorg_depth": int,
}
for path in ("syncStatus", "sync_status"):
    check(call(f"/rpc/{path}", SYNC)["total_transactions"] >= 10, "transactions are missing")
for path in ("info", "status"):
    call(f"/rpc/{path}", {"chain_id": str, "height": int})
call(f"/rpc/mempool?chain_id={CHAIN_ID}&limit=10", {"transactions": list, "count": int})
supply = call("/rpc/supply", {"genesis": int, "minted": int, "burnt": int, "total": int})
check(supply["total"] == supply["genesis"] + supply["minted"] - supply["burnt"], supply)
for path in ("importBlock", "import_block"):
    body = {"height": head["height"] + 1, "hash": "0x01", "parent_hash": head["hash"], "proposer": "me", "timestamp": "now"}
    answer = call(f"/rpc/{path}", {"accepted": bool, "height": int, "hash": str, "reason": str, "reorged": bool, "reorg_depth": int}, body)
    check(not answer["accepted"], "a block was taken from a client")
print(f"the day is over: {answers} answers as expected")
