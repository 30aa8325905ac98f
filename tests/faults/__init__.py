"""Faults done to a running console and its real server, as a table that tests and a command can walk."""
