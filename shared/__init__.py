"""The thin library under the functions: one idea a file, core first, adapters around it."""
