"""ROI sets from the files of other programs, a format each."""
