"""Tests the load: very many questions, very many rounds, several clients at once, on the virtual phone.

    python -m tests.load [questions|rounds|clients ...] [--questions 10000] [--rounds 200] [--clients 8] [--json]

The default is all three. For the first two, the phone's snpe-net-run is the fast one (`run-time:0`), so that everything
else is under load. tests/test_load.py runs the same at a small scale.
"""
