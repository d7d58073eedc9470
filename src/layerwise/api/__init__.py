"""One function a command, from what a user names to a record: what `import layerwise` offers."""
