"""The command line: arguments in, one call each, text out. Nothing is decided here that Python cannot do as well."""
