"""The only layer that speaks HTTP: drivers, image loading, the guarded download, the spool."""
