"""What depends on the version of a library: one module a library, one function a difference."""
