"""Stand-ins for what lies outside: scripted, deterministic, good enough to drive every state."""
