"""`make bench`: measures what the documentation claims and writes docs/benchmarks.md. Never part of `make test`."""
