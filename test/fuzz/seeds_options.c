/* SPDX-License-Identifier: MIT */
/* Names and options that mean something. */
#include <string.h>

#include "base/attr.h"
#include "base/math.h"
#include "fuzz.h"

static const char *const texts[] = {
	"driver=qcow2,file.driver=file,file.filename=a,,b,backing.driver=raw,backing.file.filename=c",
	"{\"driver\": \"qcow2\", \"file\": {\"driver\": \"file\", \"filename\": \"a\"}, \"backing\": null}",
	"{'driver': 'raw', 'offset': 512, 'size': '1M', \"file.driver\": \"file\", 'file.filename': 'it\\'s'}",
	"{\"driver\": \"blkdebug\", \"inject-error\": [{\"event\": \"read_aio\", \"errno\": 5}], \"image\": {\"driver\": \"file\"}}",
	"nbd://localhost:10809/name",
	"nbd+unix:///name?socket=/tmp/s&tls-hostname=x",
	"nbd:unix:/tmp/socket:exportname=x",
	"nbd:[::1]:10809",
	"blkdebug:rules.conf:image.qcow2",
	"null-co://",
	"file:///tmp/x",
	"1.5G",
	"9223372036854775807",
	"0.25k",
};

size_t fuzz_seed(unsigned number, uint8_t *out, size_t room)
{
	size_t len = number < ARRAY_ENTRIES(texts) ? strlen(texts[number]) : 0;

	if (len > 0 && len <= room)
		memcpy(out, texts[number], len);
	return len;
}
