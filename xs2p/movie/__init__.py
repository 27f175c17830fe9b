"""Movies: opened lazily, checked, cut into chunks; a format each."""
