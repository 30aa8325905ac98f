"""`dsv4-console --profile NAME`: launches, narrates and stops, without a terminal UI."""
