"""Several phones at one run: a queue of chunks, a thread a phone, and what each phone can run."""
