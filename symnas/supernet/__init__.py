"""Weight sharing: all networks of a space in one module, made from the program itself."""
