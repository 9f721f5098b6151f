#!/usr/bin/env python3
"""verify.py - checks a bundle of Holdfast evidence with nothing but this file and Python 3

    python3 verify.py [--key FILE] [FOLDER]

FOLDER is the bundle (without it: where this file lies).  FILE holds the appliance's public key as it was printed or
handed over when the appliance was set up; without it the key in the bundle is used, and the answer only means something
once somebody has compared that line with one from elsewhere.

Nothing is installed, asked over a network or taken on trust: Ed25519 (RFC 8032), the hash tree (RFC 6962), the signed
checkpoint and the proofs (C2SP) are computed below, so that whoever wants to know can read how.
Exit 0: everything holds.  Exit 1: the first thing that does not hold is named.
"""
import base64
import hashlib
import json
import os
import sys

EXPORT = "holdfast.export/v1"
EVIDENCE = "holdfast.evidence/v1"
UNLISTED = {"manifest.json", "manifest.sig"}


class Broken(Exception):
    """What does not hold, in a sentence."""


def need(condition, sentence):
    if not condition:
        raise Broken(sentence)


# ---------------------------------------------------------------- Ed25519, points as (X, Y, Z, T) with x = X/Z, y = Y/Z, T = XY/Z

P = 2 ** 255 - 19
ORDER = 2 ** 252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)


def add(a, b):
    minus = (a[1] - a[0]) * (b[1] - b[0]) % P
    plus = (a[1] + a[0]) * (b[1] + b[0]) % P
    twice_t, twice_z = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = plus - minus, twice_z - twice_t, twice_z + twice_t, plus + minus
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(number, point):
    total = (0, 1, 1, 0)
    while number:
        if number & 1:
            total = add(total, point)
        point = add(point, point)
        number >>= 1
    return total


def x_of(y, odd):
    """The x that belongs to a y, or None."""
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * ROOT_OF_MINUS_ONE % P
    if x * x % P != square or (x == 0 and odd):
        return None
    return P - x if x & 1 != odd else x


def decode(data):
    number = int.from_bytes(data, "little")
    y, odd = number & (2 ** 255 - 1), number >> 255
    x = x_of(y, odd) if y < P else None
    return None if x is None else (x, y, 1, x * y % P)


def encode(point):
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


BASE_Y = 4 * pow(5, P - 2, P) % P
BASE = (x_of(BASE_Y, 0), BASE_Y, 1, x_of(BASE_Y, 0) * BASE_Y % P)


def signed(key, message, signature):
    point, scalar = decode(key), int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or point is None or scalar >= ORDER:
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % ORDER
    minus = (P - point[0], point[1], 1, P - point[3])
    return encode(add(multiply(scalar, BASE), multiply(challenge, minus))) == signature[:32]


# ---------------------------------------------------------------- texts with one form only

def read(folder, name):
    try:
        with open(os.path.join(folder, name), "rb") as file:
            return file.read()
    except OSError as why:
        raise Broken(f"{name} cannot be read: {why.strerror}") from None


def text_of(data, what):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Broken(f"{what} is not UTF-8") from None


def base64_of(text, what):
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Broken(f"{what} holds what is not base64") from None
    need(base64.b64encode(data).decode() == text, f"{what} holds base64 of another form")
    return data


def canonical(value):
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def json_of(data, what):
    def unique(pairs):
        need(len({name for name, _ in pairs}) == len(pairs), f"{what} has a member twice")
        return dict(pairs)
    try:
        value = json.loads(text_of(data, what), object_pairs_hook=unique)
        need(isinstance(value, dict) and canonical(value) == data, f"{what} is not canonical JSON")
    except ValueError:
        raise Broken(f"{what} is not JSON") from None
    return value


class Key:
    def __init__(self, line):
        parts = line.split("+", 2)
        need(len(parts) == 3 and line.isascii(), "the public key is not of the form name+id+base64")
        self.name, self.id = parts[0], parts[1]
        data = base64_of(parts[2], "the public key")
        need(len(data) == 33 and data[0] == 1, "the public key is not one of Ed25519")
        self.bytes = data[1:]
        digest = hashlib.sha256(self.name.encode() + b"\n" + data).digest()
        need(self.id == digest[:4].hex(), "the public key does not fit its own id")


def checkpoint_of(text, key):
    """Size and root of a signed checkpoint."""
    lines = text.split("\n")
    need(len(lines) >= 6 and lines[3] == "" and lines[-1] == "", "the checkpoint is not of its form")
    need(lines[0] == key.name, f"the checkpoint is of ledger {lines[0]!r}, the key of {key.name!r}")
    need(lines[1].isascii() and lines[1].isdigit() and str(int(lines[1])) == lines[1], "the checkpoint has no size")
    root = base64_of(lines[2], "the checkpoint")
    need(len(root) == 32, "the checkpoint has no root")
    ours = 0
    for line in lines[4:-1]:
        words = line.split(" ")
        need(len(words) == 3 and words[0] == "\u2014", "the checkpoint has a signature line that is none")
        data = base64_of(words[2], "the checkpoint")
        if words[1] == key.name and data[:4].hex() == key.id:
            ours += 1
            need(signed(key.bytes, "\n".join(lines[:3]).encode() + b"\n", data[4:]), "the checkpoint's signature does not hold")
    need(ours == 1 and len(lines) == 6, "the checkpoint is not signed by this key alone")
    return int(lines[1]), root


# ---------------------------------------------------------------- the hash tree

def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def root_of(leaves):
    """RFC 6962: pairs from the left; an odd one out is taken up as it is."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    while len(leaves) > 1:
        pairs = [node(leaves[i], leaves[i + 1]) for i in range(0, len(leaves) - 1, 2)]
        leaves = pairs + ([leaves[-1]] if len(leaves) % 2 else [])
    return leaves[0]


def root_by_path(leaf, index, size, path):
    """RFC 9162 2.1.3.2; None when the path is too long or too short."""
    at, last, found = index, size - 1, leaf
    for other in path:
        if last == 0:
            return None
        if at & 1 or at == last:
            found = node(other, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node(found, other)
        at, last = at >> 1, last >> 1
    return found if last == 0 else None


# ---------------------------------------------------------------- the bundle

def check_files(folder, key):
    """The signed list names every file and its hash."""
    data = read(folder, "manifest.json")
    signature = text_of(read(folder, "manifest.sig"), "manifest.sig")
    need(len(signature) == 129 and signature[128] == "\n" and set(signature[:128]) <= set("0123456789abcdef"),
         "manifest.sig is not a signature")
    need(signed(key.bytes, EXPORT.encode() + b"\0" + data, bytes.fromhex(signature[:128])),
         "the signature of manifest.json does not hold under this key")
    manifest = json_of(data, "manifest.json")
    need(manifest.get("schema") == EXPORT, "manifest.json is of another version")
    there = set()
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        there |= {os.path.relpath(os.path.join(place, name), folder).replace(os.sep, "/") for name in names}
    for name in sorted(there - UNLISTED - set(manifest["files"])):
        raise Broken(f"{name} does not belong to the bundle")
    for name, digest in manifest["files"].items():
        need(hashlib.sha256(read(folder, name)).hexdigest() == digest, f"{name} was changed")
    return manifest


def check_document(folder, name, index, leaves, checkpoint, size, root, key):
    data = read(folder, f"documents/{name}.json")
    document = json_of(data, name)
    seal = document.pop("seal")
    need(hashlib.sha256(canonical(document)).hexdigest() == seal["content_sha256"], f"{name} does not fit its hash")
    signature = bytes.fromhex(seal.pop("signature"))
    document["seal"] = seal
    need(seal["key_id"] == key.id and signed(key.bytes, EVIDENCE.encode() + b"\0" + canonical(document), signature),
         f"the seal of {name} does not hold")
    need(seal["log"] == {"index": index, "origin": key.name, "size": index + 1}, f"{name} was sealed as another entry")
    need(document["head"]["evidence_id"] == name, f"{name} is another document")
    leaf = hashlib.sha256(b"\0" + data).digest()
    need(leaf == leaves[index][1] and leaves[index][0] == name, f"{name} is not entry {index} of the ledger")

    proof = text_of(read(folder, f"proofs/{name}.proof"), "a proof")
    head, _, own_checkpoint = proof.partition("\n\n")
    lines = head.split("\n")
    need(lines[0] == "c2sp.org/tlog-proof@v1" and lines[1] == f"index {index}", f"the proof of {name} is of another entry")
    need(own_checkpoint == checkpoint, f"the proof of {name} leads to another checkpoint")
    path = [base64_of(line, "a proof") for line in lines[2:]]
    need(root_by_path(leaf, index, size, path) == root, f"the proof of {name} does not lead to the root")
    return document


def describe(document):
    head = document["head"]
    if head["kind"] == "verify":
        return f"{document['attempt']['result']:12}  backup {document['backup']['backup_id']} of " \
               f"{document['subject']['source_name']}, now {document['backup']['state_after']}"
    return head["kind"]


def check(folder, key_line):
    key = Key(key_line)
    manifest = check_files(folder, key)
    checkpoint = text_of(read(folder, "checkpoint"), "the checkpoint")
    size, root = checkpoint_of(checkpoint, key)
    lines = text_of(read(folder, "leaves"), "the leaves").split("\n")
    need(lines[-1] == "" and len(lines) - 1 == size, "there are not as many leaves as the checkpoint counts")
    leaves = [(line[:32], bytes.fromhex(line[33:])) for line in lines[:-1]]
    need(root_of([leaf for _, leaf in leaves]) == root, "the leaves do not give the root that was signed")
    first, count = manifest["first"], manifest["count"]
    need(first + count <= size, "there are more documents than the ledger has entries")
    for index in range(first, first + count):
        name = leaves[index][0]
        document = check_document(folder, name, index, leaves, checkpoint, size, root, key)
        print(f"{index:6}  {document['head']['created_at']}  {describe(document)}")
    print(f"\nAll {count} documents hold: entries {first} to {first + count - 1} without a gap, of a ledger of {size}.")
    print(f"Signed by {key.name}+{key.id}, root {root.hex()}.")


def main(words):
    key_file = None
    if words[:1] == ["--key"] and len(words) > 1:
        key_file, words = words[1], words[2:]
    if len(words) > 1 or words[:1] == ["--help"]:
        print(__doc__)
        return 2
    folder = words[0] if words else os.path.dirname(os.path.abspath(__file__))
    try:
        data = read(folder, "public-key") if key_file is None else read(".", key_file)
        line = text_of(data, "the public key")
        need(line.endswith("\n") and "\n" not in line[:-1], "the public key is not one line")
        check(folder, line[:-1])
    except Broken as why:
        print(f"DOES NOT HOLD: {why}", file=sys.stderr)
        return 1
    except (KeyError, TypeError, ValueError, IndexError) as why:
        print(f"DOES NOT HOLD: a part is missing or of another form ({why!r})", file=sys.stderr)
        return 1
    if key_file is None:
        print(f"The key came with the bundle. Compare it with the one you were given before:\n    {line[:-1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
