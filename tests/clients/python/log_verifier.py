#!/usr/bin/env python3
"""Verifies a log from its checkpoint and hash tiles, sharing no code with the gateways.

    log_verifier.py FOLDER --log VKEY [--witness VKEY]... [--quorum N] [--entries]

FOLDER holds `checkpoint` and `tile/…` as C2SP tlog-tiles has them; with --entries also every entry, in `tile/entries/…`. Hashing is RFC 6962 §2.1, notes are C2SP signed-note,
cosignatures C2SP tlog-cosignature. Prints one JSON object; the exit status is 0 where everything is in order, else 1.
"""

import argparse
import base64
import hashlib
import json
import pathlib
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Invalid(Exception):
    """What is wrong."""


def node(left, right):
    """RFC 6962 §2.1: the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(hashes):
    """RFC 6962 §2.1, by its definition: split at the largest power of two."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    half = 1
    while half * 2 < len(hashes):
        half *= 2
    return node(root(hashes[:half]), root(hashes[half:]))


def key(vkey):
    """Name, id, type and public key of a verifier key."""
    name, identifier, encoded = vkey.split("+", 2)
    typed = base64.b64decode(encoded, validate=True)
    expected = hashlib.sha256(name.encode() + b"\n" + typed).digest()[:4]
    if expected.hex() != identifier:
        raise Invalid("the id of a key is not its own")
    return name, expected, typed[0], Ed25519PublicKey.from_public_bytes(typed[1:])


def signatures(note):
    """Text of a note, and the signatures under it by name and key id."""
    text, _, lines = note.rpartition("\n\n")
    if not lines.endswith("\n"):
        raise Invalid("the last signature line is cut off")
    found = {}
    for line in lines.splitlines():
        dash, name, encoded = line.split(" ")
        if dash != "—":
            raise Invalid("a signature line does not begin with a dash")
        raw = base64.b64decode(encoded, validate=True)
        found[(name, raw[:4])] = raw[4:]
    return text + "\n", found


def checked(public, signature, message):
    """Whether a signature is right."""
    try:
        public.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def number_path(number):
    """`067` or `x001/x234/067`, of three digits each."""
    count, digits = number, []
    while True:
        digits.append(f"{count % 1000:03}")
        count //= 1000
        if count == 0:
            break
    digits.reverse()
    return "/".join([f"x{part}" for part in digits[:-1]] + digits[-1:])


def tile(folder, level, number, size):
    """The hashes of a tile of so many."""
    suffix = "" if size == 256 else f".p/{size}"
    raw = (folder / f"tile/{level}/{number_path(number)}{suffix}").read_bytes()
    if len(raw) != 32 * size:
        raise Invalid(f"tile {level}/{number} has {len(raw)} bytes")
    return [raw[at : at + 32] for at in range(0, len(raw), 32)]


def bundle(folder, number, size):
    """The leaf hashes of so many entries: RFC 6962 §2.1 over what stands behind each 16-bit length."""
    suffix = "" if size == 256 else f".p/{size}"
    raw = (folder / f"tile/entries/{number_path(number)}{suffix}").read_bytes()
    hashes, at = [], 0
    while at < len(raw):
        if at + 2 > len(raw):
            raise Invalid(f"bundle {number} ends within a length")
        end = at + 2 + int.from_bytes(raw[at : at + 2], "big")
        if end > len(raw):
            raise Invalid(f"bundle {number} ends within an entry")
        hashes.append(hashlib.sha256(b"\x00" + raw[at + 2 : end]).digest())
        at = end
    if len(hashes) != size:
        raise Invalid(f"bundle {number} has {len(hashes)} entries")
    return hashes


def entries(folder, leaves):
    """How many entries have the leaf hashes: all, or Invalid."""
    for first in range(0, len(leaves), 256):
        expected = leaves[first : first + 256]
        found = bundle(folder, first // 256, len(expected))
        for place, (one, other) in enumerate(zip(found, expected)):
            if one != other:
                raise Invalid(f"entry {first + place} is not that of its leaf")
    return len(leaves)


def level(folder, number, nodes):
    """Every hash of a level of tiles."""
    hashes = []
    for first in range(0, nodes, 256):
        hashes += tile(folder, number, first // 256, min(256, nodes - first))
    return hashes


def verify(arguments):
    """Everything, or Invalid."""
    note = (arguments.folder / "checkpoint").read_text(encoding="utf-8")
    text, found = signatures(note)
    origin, size, encoded, *rest = text.splitlines()
    if rest:
        raise Invalid("a checkpoint has three lines")
    size, stated = int(size), base64.b64decode(encoded, validate=True)
    name, identifier, kind, public = key(arguments.log)
    if name != origin or kind != 0x01:
        raise Invalid("the key is not the log's")
    if not checked(public, found.get((name, identifier), b""), text.encode()):
        raise Invalid("the log's signature is wrong")
    cosigned = []
    for vkey in arguments.witness:
        name, identifier, kind, public = key(vkey)
        raw = found.get((name, identifier))
        if raw is None or kind != 0x04:
            continue
        time = int.from_bytes(raw[:8], "big")
        message = f"cosignature/v1\ntime {time}\n{text}".encode()
        if not checked(public, raw[8:], message):
            raise Invalid(f"the cosignature of {name} is wrong")
        cosigned.append(name)
    if len(cosigned) < arguments.quorum:
        raise Invalid(f"{len(cosigned)} of {arguments.quorum} cosignatures")
    leaves = level(arguments.folder, 0, size)
    below, nodes, number = leaves, size // 256, 1
    while nodes:
        above = level(arguments.folder, number, nodes)
        if above != [root(below[256 * n : 256 * (n + 1)]) for n in range(nodes)]:
            raise Invalid(f"tiles of level {number} are not those of the level below")
        below, nodes, number = above, nodes // 256, number + 1
    if root(leaves) != stated:
        raise Invalid("the root is not that of the leaves")
    report = {"origin": origin, "size": size, "cosigned": sorted(cosigned)}
    if arguments.entries:
        report["entries"] = entries(arguments.folder, leaves)
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--log", required=True)
    parser.add_argument("--witness", action="append", default=[])
    parser.add_argument("--quorum", type=int, default=0)
    parser.add_argument("--entries", action="store_true")
    try:
        print(json.dumps(verify(parser.parse_args())))
    except (Invalid, OSError, ValueError) as error:
        print(json.dumps({"invalid": str(error)}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
