"""What is made of traces, a step each; kernels stand in pairs beside them, CPU and GPU."""
