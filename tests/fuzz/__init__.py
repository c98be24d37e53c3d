"""Fuzzes everything that reads foreign data. __main__.py describes its use."""
