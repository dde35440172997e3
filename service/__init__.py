"""Detection over HTTP: the same answer as the command gives, under load."""
