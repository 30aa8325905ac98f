"""The console on one real NVIDIA GPU with a real CUDA vLLM, unattended: `python -m tests.gpu --out DIR`."""
