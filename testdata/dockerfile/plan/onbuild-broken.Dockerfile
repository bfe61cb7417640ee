FROM broken-trigger
