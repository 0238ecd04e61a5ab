"""Stand-in for the population database's SOAP interface. It imports nothing of ngsp."""
