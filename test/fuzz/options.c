/* SPDX-License-Identifier: MIT */
/* Any text as a file name with json: or a protocol, as a list of options, and as a size. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "api/options.h"
#include "fuzz.h"

static void tree_use(json_t *tree)
{
	struct err err;
	uint64_t size = 0;
	bool on = false;

	assert(json_is_object(tree));
	(void)options_are_plain(tree);
	(void)options_text(tree, "file.driver");
	(void)!options_bool(tree, "read-only", &on, &err);
	(void)!options_size(tree, "file.size", &size, &err);
	json_decref(tree);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 6), *name = text + 5;
	struct err err;
	json_t *tree;
	uint64_t bytes;

	assert(text);
	memcpy(text, "json:", 5);
	memcpy(name, data, size);
	name[size] = '\0';
	if (options_of_name(text, &tree, &err) == 0)
		tree_use(tree);
	if (options_of_name(name, &tree, &err) == 0)
		tree_use(tree);
	if (options_parse(name, &tree, &err) == 0)
		tree_use(tree);
	if (options_size_parse(name, &bytes) == 0)
		assert(bytes <= INT64_MAX);
	free(text);
	return 0;
}
