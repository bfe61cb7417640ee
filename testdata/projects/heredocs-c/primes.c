/* Prints the prime numbers up to its argument; the limit, when none is given, comes from a header that the Dockerfile writes. */

#include <stdio.h>
#include <stdlib.h>

#include "limits_of_primes.h"

static int is_prime(unsigned long number)
{
    if (number < 2)
        return 0;
    for (unsigned long divisor = 2; divisor * divisor <= number; divisor++)
        if (number % divisor == 0)
            return 0;
    return 1;
}

int main(int argc, char **argv)
{
    unsigned long limit = argc > 1 ? strtoul(argv[1], NULL, 10) : DEFAULT_LIMIT;
    printf("primes %s, built for %s\n", VERSION, ARCHITECTURE);
    for (unsigned long number = 0; number <= limit; number++)
        if (is_prime(number))
            printf("%lu\n", number);
    return 0;
}
