"""A whole stream: decoder, encoder, index, guest memory."""
