"""The matrix: every reader reads what every writer wrote. See `conformance/README.md`."""
