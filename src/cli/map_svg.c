/* SPDX-License-Identifier: MIT */
/*
 * Two passes: over the disk, for where its data lies, and over the file, for its holes. What is neither is metadata, or
 * data of snapshots. Memory is a cell for each square of the picture, however large the disk.
 */
#include "cli/map_svg.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/image.h"
#include "base/cleanup.h"
#include "base/math.h"
#include "cli/options.h"
#include "file/file.h"

#define COLUMNS 96u
#define ROWS 48u
#define CELLS (COLUMNS * ROWS)
#define CELL 10u /* pixels */
#define LEFT 20u
#define TOP 132u
#define WIDTH (COLUMNS * CELL + 2 * LEFT)
#define STEPS 64u /* shades of the disk's ruler */

struct cell {
	uint64_t data, hole; /* bytes of each */
	double place;        /* of the data on the disk, 0 to 1, weighted by bytes */
};

struct map_picture {
	struct cell *cell;
	uint64_t cell_bytes, file_bytes, disk_bytes;
	uint64_t data, compressed, holes; /* bytes in all */
	uint64_t fragments;               /* runs that are contiguous both on the disk and in the file */
	uint64_t disk_end, host_end;      /* of the last one */
};

/* ---- looking ---- */

/* Adds a hole of the file to the cells that it covers. */
static void hole_add(struct map_picture *p, uint64_t host, uint64_t len)
{
	p->holes += len;
	for (uint64_t at = host, end = host + len; at < end;) {
		uint64_t i = at / p->cell_bytes, bytes = MIN(end, (i + 1) * p->cell_bytes) - at;

		p->cell[i].hole += bytes;
		at += bytes;
	}
}

/* The same with data; disk: where on the disk it begins. */
static void run_add(struct map_picture *p, uint64_t host, uint64_t len, uint64_t disk)
{
	uint64_t end = MIN(host + len, p->file_bytes);

	for (uint64_t at = host; at < end;) {
		uint64_t i = at / p->cell_bytes, bytes = MIN(end, (i + 1) * p->cell_bytes) - at;

		p->cell[i].data += bytes;
		p->cell[i].place += (double)bytes * (double)(disk + (at - host)) / (double)p->disk_bytes;
		at += bytes;
	}
}

static void data_add(struct map_picture *p, uint64_t disk, const struct node_status *st)
{
	p->fragments += p->fragments == 0 || disk != p->disk_end || st->host.off != p->host_end;
	p->disk_end = disk + st->len;
	p->host_end = st->host.off + st->len;
	p->data += st->len;
	run_add(p, st->host.off, st->len, disk);
}

static int disk_look(struct co *co, struct node *n, struct map_picture *p)
{
	struct node_status st;
	int ret = 0;

	for (uint64_t at = 0; at < n->size && ret == 0; at += st.len) {
		ret = node_status(co, n, at, n->size - at, false, &st);
		if (ret == 0 && st.has_host && st.allocated)
			data_add(p, at, &st);
		else if (ret == 0 && st.compressed)
			p->compressed += st.len;
	}
	return ret;
}

static int file_look(struct co *co, struct node *file, struct map_picture *p)
{
	struct node_status st;
	int ret = 0;

	for (uint64_t at = 0; at < file->size && ret == 0; at += st.len) {
		ret = node_status(co, file, at, file->size - at, false, &st);
		if (ret == 0 && st.zero)
			hole_add(p, at, st.len);
	}
	return ret;
}

/* ---- drawing ---- */

struct colour {
	unsigned r, g, b;
};

/* From dark to light along the disk: evenly, also for those who see few colours, and in grey. */
static struct colour colour_of(double place)
{
	static const struct colour stops[] = {
		{68, 1, 84}, {59, 82, 139}, {33, 145, 140}, {94, 201, 98}, {253, 231, 37}};
	double at = place * (ARRAY_ENTRIES(stops) - 1);
	unsigned i = MIN((unsigned)at, (unsigned)ARRAY_ENTRIES(stops) - 2);
	double part = at - i;
	const struct colour *a = &stops[i], *b = &stops[i + 1];

	return (struct colour){
		(unsigned)(a->r + (b->r * 1.0 - a->r) * part),
		(unsigned)(a->g + (b->g * 1.0 - a->g) * part),
		(unsigned)(a->b + (b->b * 1.0 - a->b) * part),
	};
}

static void square(FILE *out, unsigned x, unsigned y, unsigned width, struct colour c)
{
	fprintf(out, "<rect x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" fill=\"#%02x%02x%02x\"/>\n", x, y, width,
		CELL - 1, c.r, c.g, c.b);
}

static const struct colour grey = {150, 156, 163}, pale = {236, 238, 240};

/* A cell is what most of it is. */
static struct colour cell_colour(const struct map_picture *p, const struct cell *c)
{
	if (c->data > 0 && c->data >= c->hole)
		return colour_of(MIN(c->place / (double)c->data, 1.0));
	return c->hole >= p->cell_bytes / 2 ? pale : grey;
}

static void text_escaped(FILE *out, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c >= 0x7f || strchr("<>&\"'", c))
			fprintf(out, c < 0x20 || c >= 0x7f ? "?" : "&#%u;", c);
		else
			fputc(c, out);
	}
}

static void size_cell(FILE *out, const char *label, uint64_t bytes, unsigned x)
{
	char text[CLI_SIZE_TEXT];

	fprintf(out, "<text x=\"%u\" y=\"54\" class=\"n\">%s</text><text x=\"%u\" y=\"72\" class=\"v\">%s</text>\n", x,
		label, x, cli_size_text(bytes, text));
}

static void numbers_draw(FILE *out, const struct map_picture *p)
{
	uint64_t used = p->data + p->holes;

	size_cell(out, "disk", p->disk_bytes, LEFT);
	size_cell(out, "file", p->file_bytes, LEFT + 110);
	size_cell(out, "data", p->data, LEFT + 220);
	size_cell(out, "compressed data", p->compressed, LEFT + 330);
	size_cell(out, "holes", p->holes, LEFT + 480);
	size_cell(out, "metadata and else", used < p->file_bytes ? p->file_bytes - used : 0, LEFT + 590);
	fprintf(out,
		"<text x=\"%u\" y=\"54\" class=\"n\">fragments of data</text><text x=\"%u\" y=\"72\" class=\"v\">%" PRIu64
		"</text>\n",
		LEFT + 750, LEFT + 750, p->fragments);
	size_cell(out, "mean length", p->fragments ? p->data / p->fragments : 0, LEFT + 880);
}

static void key_draw(FILE *out, unsigned x, const char *label, struct colour c)
{
	square(out, x, 110, CELL - 1, c);
	fprintf(out, "<text x=\"%u\" y=\"119\" class=\"n\">%s</text>\n", x + 15, label);
}

static void ruler_draw(FILE *out)
{
	fprintf(out, "<text x=\"%u\" y=\"101\" class=\"n\">place on the disk: start</text>\n", LEFT);
	for (unsigned i = 0; i < STEPS; i++)
		fprintf(out, "<rect x=\"%u\" y=\"92\" width=\"6\" height=\"10\" fill=\"#%02x%02x%02x\"/>\n",
			LEFT + 150 + 6 * i, colour_of((double)i / (STEPS - 1)).r, colour_of((double)i / (STEPS - 1)).g,
			colour_of((double)i / (STEPS - 1)).b);
	fprintf(out, "<text x=\"%u\" y=\"101\" class=\"n\">end</text>\n", LEFT + 158 + 6 * STEPS);
	key_draw(out, LEFT, "metadata, snapshots, compressed", grey);
	key_draw(out, LEFT + 230, "a hole, or unused", pale);
}

static void picture_draw(FILE *out, const struct map_picture *p, const char *name)
{
	unsigned cells = (unsigned)MIN((p->file_bytes + p->cell_bytes - 1) / p->cell_bytes, (uint64_t)CELLS);
	unsigned rows = (cells + COLUMNS - 1) / COLUMNS;
	char text[CLI_SIZE_TEXT];

	fprintf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %u %u\" width=\"%u\" height=\"%u\">\n"
		"<style>text{font-family:sans-serif;fill:#202124}.t{font-size:18px;font-weight:bold}.n{font-size:12px;fill:#5f6368}"
		".v{font-size:15px}</style>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n",
		WIDTH, TOP + rows * CELL + 30, WIDTH, TOP + rows * CELL + 30);
	fprintf(out, "<text x=\"%u\" y=\"28\" class=\"t\">", LEFT);
	text_escaped(out, name);
	fputs("</text>\n", out);
	numbers_draw(out, p);
	ruler_draw(out);
	for (unsigned i = 0; i < cells; i++)
		square(out, LEFT + i % COLUMNS * CELL, TOP + i / COLUMNS * CELL, CELL - 1, cell_colour(p, &p->cell[i]));
	fprintf(out, "<text x=\"%u\" y=\"%u\" class=\"n\">the file, row by row; a square is %s</text>\n</svg>\n", LEFT,
		TOP + rows * CELL + 20, cli_size_text(p->cell_bytes, text));
}

static int picture_make(const struct map_picture *p, const char *name, char **out)
{
	size_t len;
	FILE *stream = open_memstream(out, &len);

	if (!stream)
		return -ENOMEM;
	picture_draw(stream, p, name);
	return fclose(stream) == 0 ? 0 : -ENOMEM;
}

int map_svg(struct co *co, struct node *n, const char *name, char **out, struct err *err)
{
	AUTO_FREE struct cell *cells = calloc(CELLS, sizeof(*cells));
	struct node *image = image_qcow2_of(n) ? image_qcow2_of(n) : n;
	struct node *file = image_file_of(image->data ? image->data : image);
	struct map_picture p = {.cell = cells, .disk_bytes = image->size};
	int ret = cells ? 0 : -ENOMEM;

	if (!file || file->size == 0 || image->size == 0)
		return err_set(err, -ENOTSUP, "there is no file to be drawn");
	p.file_bytes = file->size;
	p.cell_bytes = MAX(align_up((file->size + CELLS - 1) / CELLS, 4096), UINT64_C(4096));
	if (ret == 0)
		ret = disk_look(co, image, &p);
	if (ret == 0)
		ret = file_look(co, file, &p);
	if (ret == 0)
		ret = picture_make(&p, name, out);
	return ret < 0 ? err_set(err, ret, "%s", strerror(-ret)) : 0;
}
