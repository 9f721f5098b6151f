"""What every format shares: hashes, ciphers, numbers, canonical JSON.

Sources are the conventions at the top of server/storage/format.h and the published algorithms.
Nothing here comes from the C code.  Debian packages: python3-nacl, python3-zstandard,
python3-cryptography, and python3-crc32c where it is installed (see have_fast_crc32c).
"""
import hashlib
import io
import json
import struct

import nacl.bindings as sodium
import nacl.exceptions
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

try:
    import crc32c as _crc32c_library
except ImportError:
    _crc32c_library = None

have_fast_crc32c = _crc32c_library is not None

NO_ID = bytes(16)


class Fault(Exception):
    """Something is missing, damaged, or not as the format says; the message names the object."""


def fail_unless(condition, message):
    if not condition:
        raise Fault(message)


# --------------------------------------------------------------------------------------------------------------- hashes


def keyed_hash(key, *parts):
    """H(key; a || b): BLAKE2b-256 keyed with 32 bytes."""
    assert len(key) == 32
    running = hashlib.blake2b(key=key, digest_size=32)
    for part in parts:
        running.update(part)
    return running.digest()


def key_commitment(key):
    return keyed_hash(key, b"holdfast commit")


def sha256(*parts):
    running = hashlib.sha256()
    for part in parts:
        running.update(part)
    return running.digest()


def page_tag(tag_key, page):
    """SipHash-2-4-128."""
    return sodium.crypto_shorthash_siphashx24(page, tag_key)


CRC32C_POLYNOMIAL = 0x82F63B78  # 0x1edc6f41, reflected


def _crc32c_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (CRC32C_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_CRC32C_TABLE = _crc32c_table()


def crc32c_by_table(data, crc=0):
    crc ^= 0xFFFFFFFF
    table = _CRC32C_TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def crc32c(data, crc=0):
    if _crc32c_library is not None:
        return _crc32c_library.crc32c(data, crc)
    return crc32c_by_table(data, crc)


def _multiply(a, b):
    """a * b modulo the CRC's polynomial; bit 31 is x^0."""
    product = 0
    for shift in range(31, -1, -1):
        if a >> shift & 1:
            product ^= b
        b = b >> 1 ^ (CRC32C_POLYNOMIAL if b & 1 else 0)
    return product


def _power_of_x(exponent):
    result, square = 1 << 31, 1 << 30
    while exponent:
        if exponent & 1:
            result = _multiply(result, square)
        square = _multiply(square, square)
        exponent >>= 1
    return result


_SHIFT_TABLES = {}


def crc32c_combine(crc_a, crc_b, length_b):
    """The checksum of A followed by B: A's is pushed on by B's length, then B's is added."""
    if length_b == 0:
        return crc_a
    tables = _SHIFT_TABLES.get(length_b)
    if tables is None:
        power = _power_of_x(8 * length_b)
        if length_b & (length_b - 1):  # a short tail: not worth a table
            return _multiply(power, crc_a) ^ crc_b
        tables = [[_multiply(power, byte << shift) for byte in range(256)] for shift in (0, 8, 16, 24)]
        _SHIFT_TABLES[length_b] = tables
    return (tables[0][crc_a & 0xFF] ^ tables[1][crc_a >> 8 & 0xFF] ^ tables[2][crc_a >> 16 & 0xFF]
            ^ tables[3][crc_a >> 24] ^ crc_b)


# -------------------------------------------------------------------------------------------------------------- ciphers

SUITE_AES256_GCM = 1
SUITE_XCHACHA20 = 2
NONCE_BYTES = {SUITE_AES256_GCM: 12, SUITE_XCHACHA20: 24}


def aead_open(suite, key, nonce, sealed, associated):
    """`sealed` ends with its 16 bytes of tag.  None when it does not open."""
    try:
        if suite == SUITE_AES256_GCM:
            return AESGCM(key).decrypt(nonce, sealed, associated)
        return sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, associated, nonce, key)
    except (InvalidTag, nacl.exceptions.CryptoError):
        return None


def aead_seal(suite, key, nonce, plain, associated):
    if suite == SUITE_AES256_GCM:
        return AESGCM(key).encrypt(nonce, plain, associated)
    return sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, associated, nonce, key)


def argon2id13(passphrase, salt, operations, memory):
    return sodium.crypto_pwhash_alg(32, passphrase, salt, operations, memory, sodium.crypto_pwhash_ALG_ARGON2ID13)


def x25519(secret, public):
    return sodium.crypto_scalarmult(secret, public)


def x25519_public(secret):
    return sodium.crypto_scalarmult_base(secret)


def ed25519_keys(seed):
    """(public, secret) of a seed of 32 bytes."""
    return sodium.crypto_sign_seed_keypair(seed)


def ed25519_sign(secret, message):
    return sodium.crypto_sign(message, secret)[:64]


def ed25519_valid(public, message, signature):
    try:
        sodium.crypto_sign_open(signature + message, public)
        return True
    except nacl.exceptions.CryptoError:
        return False


# ---------------------------------------------------------------------------------------------------------- compression


def zstd_compress(data, level=1):
    return zstandard.ZstdCompressor(level=level, write_content_size=True).compress(data)


def zstd_decompress(data, length, what):
    """One frame that holds exactly `length` bytes."""
    try:
        known = zstandard.frame_content_size(data)
        if known >= 0:
            fail_unless(known == length, f"{what}: the zstd frame holds {known} bytes, {length} were expected")
            engine = zstandard.ZstdDecompressor().decompressobj()
            plain = engine.decompress(data)
            fail_unless(engine.unused_data == b"", f"{what}: there are bytes after the zstd frame")
        else:
            plain = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read(length + 1)
    except zstandard.ZstdError as error:
        raise Fault(f"{what}: does not decompress: {error}") from None
    fail_unless(len(plain) == length, f"{what}: {len(plain)} bytes came out of zstd, {length} were expected")
    return plain


# -------------------------------------------------------------------------------------------------------------- numbers


def put_varint(value):
    assert 0 <= value < 1 << 64
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def put_zigzag(value):
    return put_varint((value << 1 ^ value >> 63) & (1 << 64) - 1)


def put_string(data):
    return put_varint(len(data)) + data


class Cursor:
    """Reads numbers off the front of bytes; every failure names `what`."""

    def __init__(self, data, what):
        self.data, self.what, self.at = data, what, 0

    def left(self):
        return len(self.data) - self.at

    def take(self, count):
        fail_unless(count <= self.left(), f"{self.what}: ends {count - self.left()} bytes too early")
        piece = bytes(self.data[self.at:self.at + count])
        self.at += count
        return piece

    def number(self, layout):
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))[0]

    def u8(self):
        return self.number("B")

    def u16(self):
        return self.number("H")

    def u32(self):
        return self.number("I")

    def u64(self):
        return self.number("Q")

    def id(self):
        return self.take(16)

    def varint(self, most=(1 << 64) - 1, name="a number"):
        value = 0
        for count in range(10):
            byte = self.u8()
            value |= (byte & 0x7F) << 7 * count
            if byte < 0x80:
                fail_unless(count == 0 or byte != 0,
                            f"{self.what}: {name} is a varint that is not in its shortest form")
                break
        else:
            raise Fault(f"{self.what}: {name} is a varint of more than 10 bytes")
        fail_unless(value <= most, f"{self.what}: {name} is {value}, at most {most} is allowed")
        return value

    def zigzag(self, name="a number"):
        value = self.varint(name=name)
        return value >> 1 ^ -(value & 1)

    def string(self, most, name="a string"):
        return self.take(self.varint(most, f"the length of {name}"))

    def reserved(self, count):
        fail_unless(self.take(count) == bytes(count), f"{self.what}: reserved bytes are not zeros")

    def expect(self, wanted, name):
        """A fixed value: magic, version, an id that is known."""
        found = self.take(len(wanted))
        fail_unless(found == wanted, f"{self.what}: {name} is {found.hex()}, {wanted.hex()} was expected")

    def padded_text(self, count, name):
        raw = self.take(count)
        text = raw.rstrip(b"\0")
        fail_unless(b"\0" not in text, f"{self.what}: {name} has bytes after its end")
        try:
            return text.decode()
        except UnicodeDecodeError:
            raise Fault(f"{self.what}: {name} is not UTF-8") from None

    def finish(self):
        fail_unless(self.left() == 0, f"{self.what}: {self.left()} bytes are left over at the end")


# ----------------------------------------------------------------------------------------------------------------- JSON


def canonical_json(value):
    """RFC 8785 for objects, arrays, strings, integers, booleans and null."""
    if isinstance(value, dict):
        members = sorted(value.items(), key=lambda member: member[0].encode("utf-16-be"))
        return b"{" + b",".join(canonical_json(name) + b":" + canonical_json(item) for name, item in members) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(canonical_json(item) for item in value) + b"]"
    assert value is None or isinstance(value, (str, bool, int))
    return json.dumps(value, ensure_ascii=False).encode()


def parse_canonical_json(data, what):
    """An object, and exactly the text that canonical JSON gives it."""

    def refuse(text):
        raise Fault(f"{what}: {text} is not an integer")

    try:
        value = json.loads(data.decode(), parse_float=refuse, parse_constant=refuse)
        fail_unless(isinstance(value, dict), f"{what}: is not a JSON object")
        fail_unless(canonical_json(value) == data, f"{what}: is not canonical JSON")
    except (ValueError, RecursionError) as error:
        raise Fault(f"{what}: is not JSON: {error}") from None
    return value
