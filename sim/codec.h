/* SPDX-License-Identifier: MIT */
/* Compressed clusters for the maker and the checker of images: zlib and zstd, used directly and in the plainest way. */
#ifndef CORRAL_SIM_CODEC_H
#define CORRAL_SIM_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sim_compression { SIM_ZLIB, SIM_ZSTD, SIM_COMPRESSIONS };

bool sim_codec_there(enum sim_compression type); /* zstd may not be */

/* How many bytes it became; 0: more than room. */
size_t sim_encode(enum sim_compression type, const void *from, size_t len, void *to, size_t room);
/* Whether `to` has been filled; behind the end of the stream there may be anything. */
bool sim_decode(enum sim_compression type, const void *from, size_t len, void *to, size_t bytes);

#endif
