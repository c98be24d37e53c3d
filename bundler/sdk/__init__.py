"""Qualcomm's SDK, fetched: the parts of its public archive that are needed, kept in a cache folder and checked there.

Nothing of it has met the real server, or an archive of Qualcomm's: docs/sdk.md says what is known and from where.
"""
