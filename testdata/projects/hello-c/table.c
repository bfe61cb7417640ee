#include "table.h"

#include <stdlib.h>
#include <string.h>

static int grow(struct table *table)
{
	size_t capacity = table->capacity ? table->capacity * 2 : 16;
	struct entry *entries = realloc(table->entries, capacity * sizeof *entries);

	if (!entries)
		return -1;
	table->entries = entries;
	table->capacity = capacity;
	return 0;
}

static char *copy(const char *word)
{
	size_t size = strlen(word) + 1;
	char *copied = malloc(size);

	return copied ? memcpy(copied, word, size) : NULL;
}

int table_count(struct table *table, const char *word)
{
	for (size_t i = 0; i < table->length; i++) {
		if (strcmp(table->entries[i].word, word) == 0) {
			table->entries[i].count++;
			return 0;
		}
	}
	if (table->length == table->capacity && grow(table) != 0)
		return -1;

	char *copied = copy(word);

	if (!copied)
		return -1;
	table->entries[table->length++] = (struct entry){ .word = copied, .count = 1 };
	return 0;
}

static int by_count(const void *left, const void *right)
{
	const struct entry *a = left, *b = right;

	if (a->count != b->count)
		return a->count < b->count ? 1 : -1;
	return strcmp(a->word, b->word);
}

void table_sort(struct table *table)
{
	if (table->length)
		qsort(table->entries, table->length, sizeof *table->entries, by_count);
}

void table_free(struct table *table)
{
	for (size_t i = 0; i < table->length; i++)
		free(table->entries[i].word);
	free(table->entries);
}
