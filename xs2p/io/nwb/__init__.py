"""ROI sets and traces out of NWB files, and results into them."""
