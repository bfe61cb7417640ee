/* How often each word was seen. */

#ifndef TABLE_H
#define TABLE_H

#include <stddef.h>

struct entry {
	char *word;
	unsigned count;
};

struct table {
	struct entry *entries;
	size_t length;
	size_t capacity;
};

/* Counts one more of `word`, which is copied. Returns 0, or -1 when memory ran out. */
int table_count(struct table *table, const char *word);

/* Puts the most frequent first; equals keep the alphabet's order. */
void table_sort(struct table *table);

void table_free(struct table *table);

#endif
