"""Where and how work runs: arrays, devices, kernels, clusters, progress."""
