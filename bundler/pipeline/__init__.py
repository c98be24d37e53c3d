"""Implements the steps build, deploy, fetch, evaluate, bench and stop. Each maps a frozen request to a result."""
