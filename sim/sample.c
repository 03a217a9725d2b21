/* SPDX-License-Identifier: MIT */
/*
 * A sample of the images that power cuts would leave, as files: for other programs, whose opinion of them is independent of
 * ours. Each lies in a folder of its own, beside its backing and its data file.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/math.h"
#include "run.h"

static FILE *file_create(const char *folder, const char *name)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	f = fopen(path, "w");
	if (!f) {
		fprintf(stderr, "corral-sim: %s: %s\n", path, strerror(errno));
		exit(2);
	}
	return f;
}

/* What a write couldn't put there is told when the stream is closed. */
static void file_close(FILE *f)
{
	bool failed = ferror(f) != 0;

	if (fclose(f) != 0 || failed) {
		fprintf(stderr, "corral-sim: a sample can't be written: %s\n", strerror(errno));
		exit(2);
	}
}

static void disk_write(const struct sim_disk *d, const char *folder, const char *name)
{
	FILE *f = file_create(folder, name);
	uint8_t scratch[SIM_SECTOR];

	for (uint64_t at = 0; at < d->found.size; at += SIM_SECTOR)
		fwrite(sim_version_bytes(d, d->found.version[at / SIM_SECTOR], scratch),
			MIN(d->found.size - at, (uint64_t)SIM_SECTOR), 1, f);
	file_close(f);
}

/* Encrypted images are left out: QEMU wants their passphrase, and more stripes than ours have. */
void sim_sample(struct sim_run *run)
{
	struct sim_samples *s = &run->tally->samples;
	char folder[4000];

	/* What is on its way to be repaired isn't sound yet, in nobody's opinion; what is encrypted needs a key. */
	if (run->raw.damaged || run->raw.dirty || run->config->image.encrypted || run->config->base.encrypted)
		return;
	if (!s->folder || run->tally->images % s->one_in != 0)
		return;
	snprintf(folder, sizeof(folder), "%s/%" PRIu64, s->folder, s->taken++);
	if (mkdir(folder, 0777) != 0) {
		fprintf(stderr, "corral-sim: %s: %s\n", folder, strerror(errno));
		exit(2);
	}
	disk_write(run->disk, folder, "image");
	if (run->data)
		disk_write(run->data, folder, "data");
	if (run->config->below != SIM_BELOW_NONE)
		disk_write(&sim_world_find(&run->world, "base")->disk, folder, "base");
	if (run->other)
		disk_write(&sim_world_find(&run->world, "other")->disk, folder, "other");
}
