/*
 * repository_internal.h - what rotation.c needs of an open repository
 */
#pragma once
#include "server/repository/repository.h"

const struct hf_superblock *hf_repository_superblock(const struct hf_repository *repository);
/* The key that is in force from now on; takes it. */
void hf_repository_adopt_root_key(struct hf_repository *repository, uint32_t generation, struct hf_secret *root_key);
