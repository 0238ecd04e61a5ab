"""Stand-in for the driving-licence database's SOAP interface. It imports nothing of ngsp."""
