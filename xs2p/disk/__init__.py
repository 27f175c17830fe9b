"""Ground: bytes of files and folders."""
