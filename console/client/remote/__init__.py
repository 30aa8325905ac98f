"""The console on one machine, the server on another: a far end there, and a backend here that asks it, over SSH."""
