/* SPDX-License-Identifier: MIT */
/* With FUZZ_SEEDS=FOLDER a fuzzing program only writes the inputs there that it would like to begin with. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);

static void seed_write(const char *folder, unsigned number, const uint8_t *bytes, size_t size)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/seed-%03u", folder, number);
	file = fopen(path, "w");
	if (!file || fwrite(bytes, 1, size, file) != size || fclose(file) != 0) {
		perror(path);
		exit(1);
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *folder = getenv("FUZZ_SEEDS");
	uint8_t *bytes = folder ? malloc(FUZZ_SEED_BYTES) : NULL;
	size_t size;

	(void)argc;
	(void)argv;
	if (!bytes)
		return 0;
	for (unsigned i = 0; fuzz_seed && (size = fuzz_seed(i, bytes, FUZZ_SEED_BYTES)) > 0; i++)
		seed_write(folder, i, bytes, size);
	exit(0);
}
