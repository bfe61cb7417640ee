/* Counts its arguments, or the words on its input when it has none. */

#include "table.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static int count_arguments(struct table *table, int count, char **words)
{
	for (int i = 0; i < count; i++)
		if (table_count(table, words[i]) != 0)
			return -1;
	return 0;
}

static int count_input(struct table *table, FILE *input)
{
	char word[256];
	size_t length = 0;

	for (int c = 0; c != EOF;) {
		c = fgetc(input);
		if (c != EOF && isalnum(c)) {
			if (length < sizeof word - 1)
				word[length++] = (char)tolower(c);
		} else if (length > 0) {
			word[length] = '\0';
			length = 0;
			if (table_count(table, word) != 0)
				return -1;
		}
	}
	return ferror(input) ? -1 : 0;
}

int main(int argc, char **argv)
{
	struct table table = { 0 };
	int failed = argc > 1 ? count_arguments(&table, argc - 1, argv + 1) : count_input(&table, stdin);

	if (failed) {
		perror("words");
		return 1;
	}
	table_sort(&table);
	puts("Hello from a container built by rbuild. You said:");
	for (size_t i = 0; i < table.length; i++)
		printf("%4u  %s\n", table.entries[i].count, table.entries[i].word);
	table_free(&table);
	return 0;
}
