"""How stored bytes are found: files, pipes, compressed files, save images, snapshots."""
