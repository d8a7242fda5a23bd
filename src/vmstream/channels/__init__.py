"""How bytes travel: addresses, transports, TLS, and the buffered file over them."""
