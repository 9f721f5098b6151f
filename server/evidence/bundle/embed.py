#!/usr/bin/python3
"""Makes C arrays of files.  Usage: embed.py OUT.c NAME=FILE...: `const unsigned char NAME[]` and `const size_t NAME_bytes`."""
import sys

with open(sys.argv[1], "w", encoding="ascii") as out:
    out.write('#include "server/evidence/bundle/embedded.h"\n')
    for word in sys.argv[2:]:
        name, path = word.split("=", 1)
        data = open(path, "rb").read()
        out.write(f"\nconst size_t {name}_bytes = {len(data)};\nconst unsigned char {name}[] = {{\n")
        for at in range(0, len(data), 20):
            out.write("    " + ", ".join(str(byte) for byte in data[at:at + 20]) + ",\n")
        out.write("};\n")
