/* SPDX-License-Identifier: MIT */
/*
 * A smaller guest disk (crash-safety G14, O18):
 *
 *     the size in the header, by one sector's write; a commit (resize.c)    from here on nobody reads or writes behind it
 *     cut       behind the new end nothing is mapped, in memory: an L2 table that maps nothing else goes as a whole, with
 *               all that its entries name; in the one that the end lies in the entries go. What they named is quarantined
 *     the data file's size, if there is one
 *
 * So what lies behind the end is lost by a power cut only where the disk is the small one already; and as for everything that
 * is unmapped, space is used again only when that is durable (reclaim.c). A cut that is itself cut off leaves clusters mapped
 * that nobody sees, as does a disk whose growing is. They are no danger: a disk that grows marks all of its new space first
 * (resize.c). The next opening for writing gives them back; but the state of a virtual machine, which QEMU puts behind the
 * end as well, stays where a snapshot has one.
 *
 * What lies behind the end inside of its cluster stays, and is zeroed when the disk grows again.
 *
 * A table that a snapshot shares isn't changed: the active tree gives its references back, to the table and to what it
 * names, at the instant at which the L1 entry falls.
 */
#include "qcow2/engine.h"

#define INDICES_A_TURN 4096u

/* ---- a table as a whole ---- */

static uint64_t entries_named(const struct qcow2 *q, const struct qcow2_slice *table)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < q->l2_entries; i++)
		n += qcow2_entry_span(q, qcow2_l2_entry(q, table, i).descriptor).bytes != 0;
	return n;
}

static bool entries_valid(const struct qcow2 *q, const struct qcow2_slice *table, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (!qcow2_l2_entry_valid(q, qcow2_l2_entry(q, table, i)))
			return false;
	return true;
}

/* At one instant the tree loses the table and gives back its references to it and to all that it names. */
static int drop_read(struct co *co, struct qcow2 *q, uint64_t index, const struct qcow2_slice *table)
{
	uint64_t host = q->l1.entries[index] & QCOW2_OFFSET_MASK;
	int rc = 0;

	if (!entries_valid(q, table, q->l2_entries))
		return qcow2_corrupt(co, q, "an entry of an L2 table, or the place of one, is what it can't be");
	rc = qcow2_free_prepare(q, entries_named(q, table) + 1);
	if (rc)
		return rc;
	qcow2_table_set(q, &q->l1, index, 0);
	for (uint32_t i = 0; i < q->l2_entries; i++)
		qcow2_entry_free(q, qcow2_l2_entry(q, table, i).descriptor);
	qcow2_free(q, host, q->cluster_bytes);
	qcow2_guard_keep(q, host, q->cluster_bytes, QCOW2_ROLE_INACTIVE_L2);
	return 0;
}

/* Whoever could change the table meanwhile waits for the range lock, or for q->l1_making. */
static int drop_making(struct co *co, struct qcow2 *q, uint64_t index)
{
	struct qcow2_slice table = {0};
	int rc;

	if (!MUTANT(99))
		qcow2_freeze_table(co, q, index);
	if (!qcow2_l1_entry_valid(q, q->l1.entries[index]))
		return qcow2_corrupt(co, q, "an entry of an L2 table, or the place of one, is what it can't be");
	rc = node_buffer_get(co, &q->node, q->cluster_bytes, &table.data);
	if (rc)
		return rc;
	rc = qcow2_l2_read(co, q, q->l1.entries[index] & QCOW2_OFFSET_MASK, table.data);
	if (!rc)
		rc = drop_read(co, q, index, &table);
	node_buffer_put(&q->node, table.data, q->cluster_bytes);
	return rc;
}

static int drop_table(struct co *co, struct qcow2 *q, uint64_t index)
{
	struct qcow2_making mine;
	int rc;

	qcow2_making_begin(co, q, &mine, index);
	rc = drop_making(co, q, index);
	qcow2_making_end(&mine);
	return rc;
}

/* ---- a part of a table ---- */

/* What the entries [first, end) of the slice map goes. */
static int cut_entries(struct co *co, struct qcow2 *q, struct qcow2_slice *s, uint32_t first, uint32_t end)
{
	int rc;

	if (!entries_valid(q, s, end))
		return qcow2_corrupt(co, q, "an entry of an L2 table, or the place of one, is what it can't be");
	rc = qcow2_free_prepare(q, end - first);
	for (uint32_t i = first; !rc && i < end; i++) {
		struct qcow2_entry e = qcow2_l2_entry(q, s, i);

		if (!e.descriptor && !e.zero)
			continue;
		qcow2_entry_free(q, e.descriptor);
		qcow2_l2_set(q, s, i, (struct qcow2_entry){0});
	}
	return rc;
}

static bool maps_any(const struct qcow2 *q, const struct qcow2_slice *s, uint32_t first, uint32_t end)
{
	for (uint32_t i = first; i < end; i++) {
		struct qcow2_entry e = qcow2_l2_entry(q, s, i);

		if (e.descriptor || e.zero)
			return true;
	}
	return false;
}

/* The slice from guest on; a shared table is copied only where there is something to cut. */
static int cut_slice(struct co *co, struct qcow2 *q, uint64_t guest)
{
	struct qcow2_slice *s;
	uint32_t index;
	int rc = qcow2_l2_get(co, q, guest, &s, &index);

	if (rc || !s || !maps_any(q, s, index, qcow2_l2_slice_entries(q)))
		return rc;
	rc = qcow2_l2_get_writable(co, q, guest, &s, &index);
	return rc ? rc : cut_entries(co, q, s, index, qcow2_l2_slice_entries(q));
}

static int cut_table(struct co *co, struct qcow2 *q, uint64_t from, uint64_t to)
{
	uint64_t slice_covers = (uint64_t)qcow2_l2_slice_entries(q) << q->cluster_bits;
	int rc = 0;

	for (uint64_t guest = from; !rc && guest < to; guest = align_down(guest, slice_covers) + slice_covers)
		rc = cut_slice(co, q, guest);
	return rc;
}

/* ---- all of it ---- */

/* Of one L1 entry, what lies at `from` or behind. */
static int cut_index(struct co *co, struct qcow2 *q, uint64_t index, uint64_t from)
{
	uint64_t covers = (uint64_t)q->l2_entries << q->cluster_bits, start = index * covers;
	int rc;

	if (!q->l1.entries[index])
		return 0;
	rc = qcow2_free_throttle(co, q);
	if (rc)
		return rc;
	return start >= from ? drop_table(co, q, index) : cut_table(co, q, from, start + covers);
}

static int cut_indices(struct co *co, struct qcow2 *q, uint64_t from, uint64_t end)
{
	int rc = 0;

	for (uint64_t i = qcow2_l1_index(q, from); !rc && i < end; i++) {
		rc = cut_index(co, q, i, from);
		if (i % INDICES_A_TURN == 0)
			co_yield(co);
	}
	return rc;
}

int qcow2_cut(struct co *co, struct qcow2 *q, uint64_t size)
{
	return cut_indices(co, q, align_up(size, q->cluster_bytes), q->l1.n);
}

struct leftovers {
	struct qcow2 *q;
	uint64_t from, end; /* a guest address, an L1 index */
};

static void leftovers_cut(struct co *co, void *arg)
{
	struct leftovers *l = arg;

	if (cut_indices(co, l->q, l->from, l->end))
		l->q->stats.reclaim_errors++;
}

/* On a stack of its own: that of whoever opens images is deep already. */
void qcow2_cut_leftovers(struct co *co, struct qcow2 *q)
{
	uint64_t covers = (uint64_t)q->l2_entries << q->cluster_bits;
	struct leftovers l = {
		.q = q,
		.from = align_up(q->header.size, q->cluster_bytes),
		.end = q->vm_states ? MIN(q->l1.n, div_round_up(q->header.size, covers)) : q->l1.n,
	};
	struct co_group group;

	if (!q->options.write || q->options.keep_leaks || q->header.unknown_extensions || MUTANT(160))
		return;
	co_group_init(&group, co_sched_of(co));
	if (co_group_spawn(&group, "qcow2-leftovers", leftovers_cut, &l))
		q->stats.reclaim_errors++;
	co_group_wait(co, &group);
}
