"""A small SOAP server, WSDL first, for the stand-ins of providers' systems. It imports nothing of ngsp."""
