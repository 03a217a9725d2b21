/* SPDX-License-Identifier: MIT */
/* Intrusive doubly linked ring. A head and an element are the same struct; a removed element points at itself. */
#ifndef CORRAL_BASE_LIST_H
#define CORRAL_BASE_LIST_H

#include <stdbool.h>

#include "base/attr.h"

struct list {
	struct list *next;
	struct list *prev;
};

static inline void list_init(struct list *l) { l->next = l->prev = l; }
static inline bool list_empty(const struct list *head) { return head->next == head; }

static inline void list_insert(struct list *after, struct list *item)
{
	item->next = after->next;
	item->prev = after;
	after->next->prev = item;
	after->next = item;
}

static inline void list_push(struct list *head, struct list *item) { list_insert(head->prev, item); }
static inline void list_push_front(struct list *head, struct list *item) { list_insert(head, item); }

static inline void list_remove(struct list *item)
{
	item->prev->next = item->next;
	item->next->prev = item->prev;
	list_init(item);
}

/* Moves all of from to the end of head; from is empty then. */
static inline void list_splice(struct list *head, struct list *from)
{
	if (list_empty(from))
		return;
	from->next->prev = head->prev;
	head->prev->next = from->next;
	from->prev->next = head;
	head->prev = from->prev;
	list_init(from);
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)
#define list_first(head, type, member) (list_empty(head) ? NULL : list_entry((head)->next, type, member))
#define list_for_each(it, head) for (struct list *it = (head)->next; it != (head); it = it->next)
#define list_for_each_safe(it, head)                                                                                   \
	for (struct list *it = (head)->next, *it##_next = it->next; it != (head); it = it##_next, it##_next = it->next)

#endif
