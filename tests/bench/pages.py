"""pages.py - what a backup by pages cannot do without: the pages that changed, gathered and compressed

Reads what PostgreSQL itself sends for a backup (`pg_basebackup -Ft -Xfetch -D -`), cuts every file into pages of
8 KiB and remembers a digest of each.  A page counts as changed when the state before did not have it at that place of
that file.  Changed pages are gathered in order into 256 KiB, and each 256 KiB is compressed by itself with zstd -1.

So the WAL that a backup must carry is counted, as it is in what the tools add: its segments are new files.
"""
import hashlib
import tarfile

import zstandard

PAGE = 8192
GATHERED = 256 * 1024
DIGEST = 16


class State:
    """The pages of one state of a cluster, and what is new in it against the one before."""

    def __init__(self, stream, before=None):
        self.digests = {}  # path -> digests of its pages, one behind the other
        self.pages = self.changed = self.changed_wal = 0
        self.gathered_bytes = 0
        self.before = before.digests if before else {}
        self.compressor = zstandard.ZstdCompressor(level=1)
        self.batch = bytearray()

        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                if member.isfile():
                    self.read_file(member.name, archive.extractfile(member))
        self.close_batch()
        del self.before

    def read_file(self, name, file):
        known = self.before.get(name, b"")
        digests = bytearray()
        while page := file.read(PAGE):
            digest = hashlib.blake2b(page, digest_size=DIGEST).digest()
            if known[len(digests):len(digests) + DIGEST] != digest:
                self.take(page)
                self.changed_wal += name.startswith("pg_wal/")
            digests += digest
            self.pages += 1
        self.digests[name] = bytes(digests)

    def take(self, page):
        self.changed += 1
        self.batch += page
        if len(self.batch) >= GATHERED:
            self.close_batch()

    def close_batch(self):
        if self.batch:
            self.gathered_bytes += len(self.compressor.compress(bytes(self.batch)))
            self.batch.clear()
