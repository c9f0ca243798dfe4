"""Facts about NVIDIA's driver and its GPUs, without torch and without a build."""
