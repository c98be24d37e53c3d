"""Fetches the needed parts of Qualcomm's public SDK archive into a cache folder and checks them.

It was never tested with the real server or a real archive of Qualcomm: docs/sdk.md lists what is known, with sources.
"""
