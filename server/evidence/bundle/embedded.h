/*
 * embedded.h - the files of a bundle that are the same in each, as bytes in the program (embed.py makes them)
 */
#pragma once
#include <stddef.h>

extern const unsigned char hf_bundle_verifier[], hf_bundle_readme[];
extern const size_t hf_bundle_verifier_bytes, hf_bundle_readme_bytes;
