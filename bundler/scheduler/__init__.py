"""Runs a bundle on several phones: a queue of chunks, a thread for each phone, and what each phone can run."""
