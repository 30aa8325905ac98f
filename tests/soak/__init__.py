"""Long runs of the console on the real engine, and what its processes hold at their start, middle and end."""
