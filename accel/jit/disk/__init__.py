"""Files and folders: their locations, the users who may write them, and locks on them."""
