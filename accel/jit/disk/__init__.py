"""Files and folders: where they are, who may write them, and who holds a lock on them."""
