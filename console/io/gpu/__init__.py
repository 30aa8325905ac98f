"""GPUs, behind one small interface: the real ones through NVML, and scripted ones for tests and the demo."""
