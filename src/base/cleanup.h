/* SPDX-License-Identifier: MIT */
/* Memory that is freed where its variable's scope ends. Cleanup never yields. */
#ifndef CORRAL_BASE_CLEANUP_H
#define CORRAL_BASE_CLEANUP_H

#include <stdlib.h>

#include "base/attr.h"

static inline void cleanup_free(void *p) { free(*(void **)p); }

#define AUTO_FREE ATTR_CLEANUP(cleanup_free)

#endif
