"""The process that owns one vLLM server: starts, watches, restarts and stops it. Knows no terminal."""
