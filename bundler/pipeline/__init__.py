"""The steps: build, deploy, fetch, evaluate, bench, stop. Each takes a frozen request and returns a result."""
