/* SPDX-License-Identifier: MIT */
/*
 * What a guest's sector holds, told by 64 bits. A stamped sector has its tag in every word, so that one that was torn or
 * shifted is not taken for whole; the tag names the write and the guest sector that it was written to, so that another
 * address's data is recognised where it turns up. So that some sectors compress well, some a little and some not at all,
 * the data of one write in four has noise in every other word, and of one more in all but the first: made of the tag too.
 */
#ifndef CORRAL_SIM_STAMP_H
#define CORRAL_SIM_STAMP_H

#include <stdint.h>
#include <string.h>

#define SIM_SECTOR 512
#define SIM_TAG_ZERO UINT64_C(0)
#define SIM_TAG_OTHER UINT64_MAX /* neither zeros nor a stamp: metadata, or damage */

#define SIM_STAMP_MARK UINT64_C(0xa5)   /* the guest's data */
#define SIM_GARBAGE_MARK UINT64_C(0x6b) /* what lay on a used block device before */
#define SIM_STAMP_WORDS (SIM_SECTOR / 8)

/* Who wrote it: 0 and up are operations of the run; these are what an image was made with. */
#define SIM_ID_IMAGE UINT32_C(0xfffffff0)
#define SIM_ID_BACKING UINT32_C(0xfffffff1)
#define SIM_ID_OTHER_BACKING UINT32_C(0xffffffef)
#define SIM_ID_SNAPSHOT UINT32_C(0xfffffff2) /* and the next ones, a snapshot each */

static inline uint64_t sim_tag(uint64_t sector, uint32_t id)
{
	return SIM_STAMP_MARK << 56 | (sector & 0xffffff) << 32 | id;
}

static inline uint64_t sim_tag_garbage(uint64_t sector) { return SIM_GARBAGE_MARK << 56 | (sector & 0xffffff) << 32; }
static inline uint32_t sim_tag_id(uint64_t tag) { return (uint32_t)tag; }
static inline uint32_t sim_tag_sector(uint64_t tag) { return (uint32_t)(tag >> 32) & 0xffffff; }

/* Words between those that are the tag; 1: all are. The first one always is. */
static inline unsigned sim_stamp_step(uint64_t tag)
{
	static const uint8_t steps[] = {1, 1, 2, SIM_STAMP_WORDS};

	return tag >> 56 == SIM_STAMP_MARK ? steps[tag & 3] : 1;
}

static inline uint64_t sim_stamp_noise(uint64_t tag, unsigned i)
{
	uint64_t v = (tag ^ i * UINT64_C(0x9fb21c651e98df25)) * UINT64_C(0x9e3779b97f4a7c15);

	return (v ^ v >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
}

static inline void sim_stamp_put(void *sector, uint64_t tag)
{
	unsigned step = sim_stamp_step(tag);
	uint64_t words[SIM_STAMP_WORDS];

	for (unsigned i = 0; i < SIM_STAMP_WORDS; i++)
		words[i] = i % step ? sim_stamp_noise(tag, i) : tag;
	memcpy(sector, words, sizeof(words));
}

/* The tag of a sector's bytes. */
static inline uint64_t sim_stamp_get(const void *sector)
{
	uint64_t words[SIM_STAMP_WORDS], diff = 0;
	uint64_t mark;
	unsigned step;

	memcpy(words, sector, sizeof(words));
	mark = words[0] >> 56;
	if (words[0] != 0 && mark != SIM_STAMP_MARK && mark != SIM_GARBAGE_MARK)
		return SIM_TAG_OTHER;
	step = sim_stamp_step(words[0]);
	for (unsigned i = 1; i < SIM_STAMP_WORDS; i++)
		diff |= words[i] ^ (i % step ? sim_stamp_noise(words[0], i) : words[0]);
	return diff ? SIM_TAG_OTHER : words[0];
}

#endif
