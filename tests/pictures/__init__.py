"""Makes `screenshots/`: `python -m tests.pictures`."""
