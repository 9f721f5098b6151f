/*
 * version.h - what this program calls itself, in evidence and to people
 */
#pragma once

#define HF_VERSION "0.1.0"
