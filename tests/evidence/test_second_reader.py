#!/usr/bin/python3
"""test_second_reader.py - an auditor's own check of evidence, written from the texts of three headers alone.

server/evidence/sign.h, checkpoint.h and document.h say what the files of golden/ mean; merkle.h names the RFC.  As long
as this verifies them, those texts are complete, and evidence outlives Holdfast.  Needs Debian's python3-nacl.
"""
import base64
import hashlib
import json
import os
import sys

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../support"))
from tap import run, test  # noqa: E402

NAME = "00000000000000000000000000000003"


def golden(name):
    with open(os.path.join(here, "golden", name), "rb") as file:
        return file.read()


def sha256(data):
    return hashlib.sha256(data).digest()


def canonical(value):
    """RFC 8785 for what a document holds: its member names are ASCII, its numbers are integers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_public_key(line):
    """The name, the key id and the key of sign.h's public line."""
    name, key_id, text = line.decode().rstrip("\n").split("+", 2)
    typed = base64.b64decode(text, validate=True)
    assert typed[0] == 1 and len(typed) == 33, "not an Ed25519 key"
    assert sha256(name.encode() + b"\n" + typed)[:4].hex() == key_id, "the key does not fit its id"
    return name, bytes.fromhex(key_id), VerifyKey(typed[1:])


def read_checkpoint(text, public_key):
    """The size and the root of checkpoint.h's signed note."""
    name, key_id, key = public_key
    body, signatures = text.split("\n\n")
    body += "\n"
    for line in signatures.splitlines():
        dash, signer, stamp = line.split(" ")
        stamp = base64.b64decode(stamp, validate=True)
        if (dash, signer, stamp[:4]) == ("\u2014", name, key_id):
            key.verify(body.encode(), stamp[4:])
            origin, size, root = body.splitlines()
            assert origin == name
            return int(size), base64.b64decode(root, validate=True)
    raise AssertionError("not signed by the key that was given")


def root_from_path(leaf, index, size, path):
    """RFC 9162, 2.1.3.2, said from the top down: split off the half that the leaf is not in, then join again."""
    if size == 1:
        assert not path, "the path is too long"
        return leaf
    left = 1 << ((size - 1).bit_length() - 1)
    if index < left:
        return sha256(b"\1" + root_from_path(leaf, index, left, path[:-1]) + path[-1])
    return sha256(b"\1" + path[-1] + root_from_path(leaf, index - left, size - left, path[:-1]))


def verify(document, proof, public_line):
    """Raises unless all holds; returns the document."""
    public_key = name, key_id, key = read_public_key(public_line)
    content = json.loads(document)
    assert canonical(content) == document, "not in canonical form"
    seal = content.pop("seal")
    assert sha256(canonical(content)).hex() == seal["content_sha256"]
    assert seal["key_id"] == key_id.hex() and seal["log"]["origin"] == name
    signature = bytes.fromhex(seal.pop("signature"))
    key.verify(b"holdfast.evidence/v1\0" + canonical({**content, "seal": seal}), signature)

    head, checkpoint = proof.decode().split("\n\n", 1)
    first, index, *path = head.splitlines()
    assert first == "c2sp.org/tlog-proof@v1" and index == f"index {seal['log']['index']}"
    size, root = read_checkpoint(checkpoint, public_key)
    path = [base64.b64decode(line, validate=True) for line in path]
    assert root_from_path(sha256(b"\0" + document), seal["log"]["index"], size, path) == root
    return content


@test
def the_kept_evidence_verifies_without_a_line_of_our_c_code():
    content = verify(golden(NAME + ".json"), golden(NAME + ".proof"), golden("public-key"))
    assert content["head"]["evidence_id"] == NAME
    assert content["attempt"]["result"] == "passed" and content["backup"]["state_after"] == "proven"


@test
def what_was_changed_does_not_verify():
    document, proof, key = golden(NAME + ".json"), golden(NAME + ".proof"), golden("public-key")
    for changed in [
        (document.replace(b"aes-256-gcm", b"aes-128-gcm"), proof, key),
        (document.replace(b'"index":2', b'"index":3'), proof, key),
        (document, proof.replace(b"index 2", b"index 3"), key),
        (document, proof.replace(b"\n5\n", b"\n6\n"), key),
        (document, proof, key.replace(b"clinic-7", b"clinic-8")),
    ]:
        assert changed != (document, proof, key)
        try:
            verify(*changed)
        except (AssertionError, BadSignatureError, ValueError, IndexError):
            continue
        raise AssertionError("it still verifies")


run()
