"""Redis settings in and out, and the clients made from them."""
